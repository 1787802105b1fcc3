"""Parity families of BEiT and BEiT v2 as they are pretrained, and of the way from there to fine-tuning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from imglish.hub.weights import Weights, resize
from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vit.weights import (
    PRETRAINING_MAP,
    pretraining_to_official,
    share_out_table,
    vit_rules,
)
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.models.weight_map import WeightMap, check_state
from imglish.structures.batches import MaskedImages
from imglish.tasks.masked_image_modeling import MaskedImageModelingTask
from tests.parity.case import Call, Case, Check, Family, Kind, NotCoveredError
from tests.parity.compare import gradient_norms
from tests.parity.families_beit2 import read_vit, refuse_others

_CLASSES = (
    "beit VisionTransformerForMaskedImageModeling",
    "beit2 VisionTransformerForMaskedImageModeling",
)
_WITH_AGGREGATION = "beit2 VisionTransformerForMaskedImageModelingCLS"
_FIXED: dict[str, Any] = {"attn_head_dim": None, "drop_rate": 0.0, "attn_drop_rate": 0.0, "init_std": 0.02}


class GivenTokens(Vqkd):
    """Visual tokens that the case recorded in place of a tokenizer's."""

    def __init__(self, vit: ViTConfig, codebook_size: int, token_ids: Tensor) -> None:
        small = ViTConfig(image_size=vit.image_size, patch_size=vit.patch_size, width=8, depth=1, num_heads=1)
        super().__init__(
            VqkdConfig(
                encoder=small, decoder_width=8, decoder_depth=1, decoder_heads=1,
                codebook_size=codebook_size, codebook_dim=4, teacher_dim=4,
            )
        )  # fmt: skip
        self.token_ids = token_ids

    def encode(self, images: Tensor, grid_size: tuple[int, int] | None = None) -> Tensor:
        return self.token_ids


def run_pretraining(case: Case) -> list[Check]:
    """Logits at hidden patches and everywhere, a training step of our task, and gradients."""
    refuse_others(case.config, _FIXED)
    vit, aggregation = read_vit(case.config), None
    if case.cls == _WITH_AGGREGATION:
        aggregation = PatchAggregationConfig(
            early_layers=case.config["early_layers"],
            num_blocks=case.config["head_layers"],
            shared_head=case.config["shared_lm_head"],
        )
    model = ViTForMaskedImageModeling(vit, codebook_size=case.config["vocab_size"], aggregation=aggregation)
    state = PRETRAINING_MAP.to_ours(case.weights)
    check_state(state, model.state_dict(), where=case.name)
    model.load_state_dict(state)
    back = pretraining_to_official(model.state_dict(), vit)
    checks = [
        Check("weights", sorted(back), sorted(case.weights), "integer"),
        *(Check(name, back[name], weight, "integer") for name, weight in case.weights.items()),
    ]
    model.eval()
    for call in case.calls():
        checks += _call_checks(model, call)
    return checks


def _call_checks(model: ViTForMaskedImageModeling, call: Call) -> list[Check]:
    images, corruption = call.inputs["x"], call.inputs["bool_masked_pos"]
    with torch.no_grad():
        ways = {
            "masked_logits": model(images, corruption),
            "all_logits": model.predict(*model.features(images, corruption)),
        }
    # The official model without aggregation has one result and no number to it.
    ours: dict[str, Any] = {name: both[0] for name, both in ways.items()}
    ours |= {f"{name}_{way}": each for name, both in ways.items() for way, each in enumerate(both)}
    if "labels" in call.inputs:
        token_ids = torch.zeros(corruption.shape, dtype=torch.int64)
        token_ids[corruption] = call.inputs["labels"]
        tokenizer = GivenTokens(model.vit.config, model.token_head.out_features, token_ids)
        task = MaskedImageModelingTask(model, tokenizer)
        model.zero_grad()
        ours["loss"] = task.training_step(MaskedImages(images=images, corruption=corruption)).loss
        ours["loss"].backward()
        ours["grad_norms"] = gradient_norms(PRETRAINING_MAP.to_official(dict(model.named_parameters())))
    kinds: dict[str, Kind] = {"loss": "loss", "grad_norms": "gradient_norm"}
    return [
        Check(f"{call.name}.{name}", ours[name], reference, kinds.get(name, "forward"))
        for name, reference in call.outputs.items()
    ]


def run_resizing(case: Case) -> list[Check]:
    """Position tables of a pretrained ViT as fine-tuning at another picture size reads them."""
    config, checks = case.config, []
    names = WeightMap(vit_rules("", "", norm="norm"))
    for call in case.calls():
        if call.literals:
            raise NotCoveredError(f"{', '.join(call.literals)}: no such option of the official loaders")
        given = {"relative_positions.table": call.inputs["shared_table"]}
        if "pos_embed" in call.inputs:
            given["positions"] = call.inputs["pos_embed"]
        depth = len(call.outputs["keys_left"])
        vit = ViTConfig(
            image_size=(config["src"], config["src"]), patch_size=config["patch"], width=config["heads"],
            depth=depth, num_heads=config["heads"], relative_positions="per_block",
        )  # fmt: skip
        pretrained = Weights(
            kind="backbone", config=vit, state=share_out_table(given, depth), where=case.name
        )
        official = names.to_official(resize(pretrained, (config["dst"], config["dst"])).state)
        tables = sorted(name for name in official if name.endswith("relative_position_bias_table"))
        ours: dict[str, Any] = {"keys_left": tables, "pos_embed": official.get("pos_embed")}
        ours |= {
            f"table_block{block}": official[f"blocks.{block}.attn.relative_position_bias_table"]
            for block in range(depth)
        }
        kinds: dict[str, Kind] = {"keys_left": "integer"}
        checks += [
            Check(f"{call.name}.{name}", ours[name], reference, kinds.get(name, "forward"))
            for name, reference in call.outputs.items()
        ]
    return checks


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: case.cls in (*_CLASSES, _WITH_AGGREGATION), run_pretraining),
    Family(lambda case: "checkpoint loading block" in case.cls, run_resizing),
)
