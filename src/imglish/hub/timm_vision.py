"""The official BEiT-3 names to those of timm's ``VisionTransformer`` and back: the vision side only.

timm (1.0.31, ``beit3_base_patch16_224`` and its like) joins queries, keys and values in one matrix, leaves
out the two unused rows of the position table, and knows no text and no hidden patches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from imglish.models.beit3.embeddings import POSITION_OFFSET
from imglish.models.weight_map import Rule, WeightMap

_LAYER = "beit3.encoder.layers.{layer}."
_BLOCK = "blocks.{layer}."

# From official names to timm's. What a picture alone never reaches, and heads of other tasks, are left out.
TIMM_MAP = WeightMap(
    (
        Rule("beit3.vision_embed.cls_token", "cls_token"),
        Rule("beit3.vision_embed.proj.{part}", "patch_embed.proj.{part}"),
        Rule(f"{_LAYER}self_attn.out_proj.A.{{part}}", f"{_BLOCK}attn.proj.{{part}}"),
        Rule(f"{_LAYER}self_attn.inner_attn_ln.A.{{part}}", f"{_BLOCK}attn.norm.{{part}}"),
        Rule(f"{_LAYER}self_attn_layer_norm.A.{{part}}", f"{_BLOCK}norm1.{{part}}"),
        Rule(f"{_LAYER}ffn.A.fc1.{{part}}", f"{_BLOCK}mlp.fc1.{{part}}"),
        Rule(f"{_LAYER}ffn.A.ffn_layernorm.{{part}}", f"{_BLOCK}mlp.norm.{{part}}"),
        Rule(f"{_LAYER}ffn.A.fc2.{{part}}", f"{_BLOCK}mlp.fc2.{{part}}"),
        Rule(f"{_LAYER}final_layer_norm.A.{{part}}", f"{_BLOCK}norm2.{{part}}"),
        Rule("beit3.encoder.layer_norm.A.{part}", "norm.{part}"),
        Rule("fc_norm.{part}", "fc_norm.{part}"),
        Rule("head.{part}", "head.{part}"),
    ),
    dropped=(
        r"beit3\.text_embed\..*",
        r"beit3\.vision_embed\.mask_token",
        r"beit3\.encoder\..*\.B\..*",
        r"(mim_head|mlm_head|vision_head|language_head|pooler)\..*",
        r"head\.(0|1|3|norm1|dense1|norm2|dense2)\..*",
        r"logit_scale",
    ),
)
_QKV = re.compile(r"beit3\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.A\.(weight|bias)")
_FUSED = re.compile(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)")
_POSITIONS = "beit3.encoder.embed_positions.A.weight"


def to_timm(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision side of an official state dict under timm's names.

    Args:
        official: Official names, with the ``beit3.`` prefix.

    Raises:
        CheckpointError: A name has no counterpart and is not left out on purpose.
    """
    rest = dict(official)
    fused: dict[str, Tensor] = {"pos_embed": rest.pop(_POSITIONS)[POSITION_OFFSET:][None]}
    for match in filter(None, map(_QKV.fullmatch, official)):
        parts = [rest.pop(match[0].replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        fused[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat(parts)
    return fused | TIMM_MAP.to_ours(rest)


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A timm BEiT-3 under the official names; the unused rows of the position table become zeros.

    Args:
        state: timm's names. Without ``head.weight`` its ``fc_norm``, which belongs to the head, is left out.

    Raises:
        CheckpointError: A name has no counterpart.
    """
    rest = dict(state)
    if "head.weight" not in rest:
        rest = {name: tensor for name, tensor in rest.items() if not name.startswith("fc_norm.")}
    positions = rest.pop("pos_embed")[0]
    unused = positions.new_zeros(POSITION_OFFSET, positions.shape[1])
    official: dict[str, Tensor] = {_POSITIONS: torch.cat([unused, positions])}
    for match in filter(None, map(_FUSED.fullmatch, state)):
        for part, tensor in zip("qkv", rest.pop(match[0]).chunk(3), strict=True):
            official[f"beit3.encoder.layers.{match[1]}.self_attn.{part}_proj.A.{match[2]}"] = tensor.clone()
    return official | TIMM_MAP.to_official(rest)
