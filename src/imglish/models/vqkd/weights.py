"""Official BEiT v2 tokenizer names to ours and back (parity FACTS, section 10)."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from imglish.models.vit.weights import vit_rules
from imglish.models.vqkd.model import Vqkd
from imglish.models.weight_map import Rule, WeightMap

VQKD_MAP = WeightMap(
    (
        *vit_rules("encoder.", "encoder.", norm="fc_norm"),
        *vit_rules("decoder.", "decoder.", norm="fc_norm"),
        Rule("encode_task_layer.{layer}.{part}", "to_code.{layer}.{part}"),
        Rule("decode_task_layer.{layer}.{part}", "to_teacher.{layer}.{part}"),
        Rule("quantize.embedding.weight", "quantizer.codebook"),
        Rule("quantize.cluster_size", "quantizer.usage"),
        Rule("quantize.embedding.initted", "quantizer.started"),
    ),
    # Statistics that the official code never updates, and what belongs to its training.
    dropped=(
        r"quantize\.embedding\.(cluster_size|embed_avg)",
        r"(teacher_model|scaling_layer|loss)\..*",
    ),
)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename an official tokenizer, and add the counter that only ours has."""
    ours = VQKD_MAP.to_ours(state)
    return ours | {"quantizer.idle_updates": torch.zeros(len(ours["quantizer.codebook"]))}


def to_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename one of our tokenizers, and add the two statistics that the official one carries unused."""
    ours = {name: tensor for name, tensor in state.items() if name != "quantizer.idle_updates"}
    codebook = state["quantizer.codebook"]
    return VQKD_MAP.to_official(ours) | {
        "quantize.embedding.cluster_size": torch.zeros(len(codebook)),
        "quantize.embedding.embed_avg": codebook.clone(),
    }


def fingerprint(model: Vqkd) -> str:
    """SHA-256 of what decides the tokens: the way from the picture to the codebook.

    Two tokenizers with the same one give the same tokens, but for rounding, whatever their decoders and
    statistics are.
    """
    digest = hashlib.sha256()
    config = model.config.encoder
    digest.update(repr((config.patch_size, config.image_size, config.num_heads)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(("encoder.", "to_code.")) or name == "quantizer.codebook":
            numbers = tensor.detach().cpu().float().contiguous()
            digest.update(f"{name} {tuple(numbers.shape)}".encode())
            digest.update(numbers.numpy().tobytes())
    return digest.hexdigest()
