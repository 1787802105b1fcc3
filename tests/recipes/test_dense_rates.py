"""Rates and decay of detectors' parameters: the rules of the official detection tree (FACTS, section 6)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from imglish.models.detectors.config import BoxHeadConfig, MaskHeadConfig, NeckConfig, cascade_mask_rcnn
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.vit_adapter.backbone_config import BeitBackboneConfig, ViTBackboneConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.assemble import _not_decayed, _rates
from imglish.recipes.assembly.detection import build_detector
from imglish.recipes.dense_rates import decayed_by_name, dense_rates
from imglish.recipes.detection_config import DetectionTask, DetectorConfig
from imglish.recipes.detection_official import by_layer, by_name
from imglish.train.config import OptimizerConfig
from imglish.train.optimizer import build_optimizer

DEPTH = 4
SIZES = {"image_size": (32, 32), "width": 32, "depth": DEPTH, "num_heads": 2, "mlp_ratio": 1.0}
VIT = ViTBackboneConfig(**SIZES, windows=(2, 2, 2, 0))  # type: ignore[arg-type]
BEIT = BeitBackboneConfig(**SIZES, class_token=False, windows=(2, 2, 2, 4))  # type: ignore[arg-type]
ADAPTER = ViTAdapterConfig(stem_width=8, num_heads=2)
CASCADE = replace(
    cascade_mask_rcnn(),
    neck=NeckConfig(width=16),
    box_head=BoxHeadConfig(num_convs=1, num_linears=1, conv_width=16, width=16, norm="batch"),
    mask_head=MaskHeadConfig(num_convs=1, width=16),
)
MASKS = Mask2FormerConfig(
    width=32, num_queries=4, num_pixel_layers=1, num_layers=1, num_heads=2, pixel_feed_forward_width=8,
    feed_forward_width=8, num_groups=2,
)  # fmt: skip
ATSS = OneStageConfig(width=16, num_convs=1, num_groups=2)


def detector(model: ViTBackboneConfig | BeitBackboneConfig, heads: DetectorConfig) -> nn.Module:
    with torch.device("meta"):
        return build_detector(DetectionTask(model=model, adapter=ADAPTER, detector=heads), 3)


def groups_of(model: nn.Module, optimizer: OptimizerConfig) -> dict[str, tuple[float, float]]:
    """Factor of the rate and weight decay of each parameter, from the optimiser that training makes."""
    built = build_optimizer(
        model,
        optimizer,
        exceptions=_not_decayed(model),
        scale=_rates(model, optimizer, "detection"),
        decayed=decayed_by_name(model, optimizer, "detection"),
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in built.param_groups
        for parameter in group["params"]
    }


# Layers of the official constructor: 0 is the embeddings, k + 1 block k, depth + 1 all else.
BY_LAYER = [
    ("backbone.backbone.patches.proj.weight", 0, True),
    ("backbone.backbone.patches.proj.bias", 0, False),
    ("backbone.backbone.positions", 0, True),  # its full name is none of the exceptions
    ("backbone.backbone.blocks.0.attention.qkv.weight", 1, True),
    ("backbone.backbone.blocks.0.norm1.weight", 1, False),
    ("backbone.backbone.blocks.3.feed_forward.fc1.weight", 4, True),
    ("backbone.level_embedding", 5, True),
    ("backbone.interactions.0.injector.gamma", 5, False),
    ("backbone.spatial_prior.stem.0.weight", 5, True),
    ("neck.levels.laterals.0.weight", 5, True),
    ("rpn.objectness.weight", 5, True),
    ("heads.box_heads.2.convs.0.norm.weight", 5, False),
    ("heads.mask_heads.0.logits.bias", 5, False),
]


@pytest.mark.parametrize(("name", "layer", "decays"), BY_LAYER)
def test_layers_have_falling_rates(name: str, layer: int, decays: bool) -> None:
    factor, decay = groups_of(detector(VIT, CASCADE), by_layer(0.8))[name]
    assert factor == pytest.approx(0.8 ** (DEPTH + 1 - layer))
    assert decay == (0.05 if decays else 0.0)


def test_tables_of_relative_positions_decay_with_their_block() -> None:
    found = groups_of(detector(BEIT, CASCADE), by_layer(0.9))
    name = "backbone.backbone.blocks.1.attention.relative_positions.table"
    assert found[name] == pytest.approx((0.9**3, 0.05))


# What the configs' keys level_embed, pos_embed, norm and bias match in the official names.
BY_NAME = [
    ("backbone.backbone.positions", False),
    ("backbone.backbone.blocks.0.norm1.weight", False),
    ("backbone.backbone.blocks.0.scale1", True),
    ("backbone.level_embedding", False),
    ("backbone.spatial_prior.stem.1.weight", True),
    ("backbone.norms.0.weight", False),
    ("backbone.interactions.0.injector.gamma", True),
    ("neck.levels.laterals.0.bias", False),
    ("rpn.objectness.weight", True),
    ("heads.box_heads.2.convs.0.norm.weight", True),  # officially bn
    ("heads.box_heads.2.convs.0.norm.bias", False),
    ("heads.mask_heads.0.convs.0.conv.weight", True),
]


@pytest.mark.parametrize(("name", "decays"), BY_NAME)
def test_names_say_what_decays_and_all_learn_alike(name: str, decays: bool) -> None:
    assert groups_of(detector(VIT, CASCADE), by_name())[name] == (1.0, 0.05 if decays else 0.0)


def test_factors_and_group_norms_of_atss_decay_by_name() -> None:
    found = groups_of(detector(VIT, ATSS), by_name())
    factors = [name for name in found if name.startswith("head.scales.")]
    assert len(factors) == 5 and all(found[name] == (1.0, 0.05) for name in factors)


def test_heads_of_mask2former_are_not_special_in_detection() -> None:
    model = detector(BEIT, MASKS)
    found = groups_of(model, by_layer(0.9))
    heads = {name: groups for name, groups in found.items() if not name.startswith("backbone.backbone.")}
    assert {factor for factor, _ in heads.values()} == {1.0}
    segmentation = dense_rates(model, by_layer(0.9), "segmentation")
    assert segmentation("head.query_features") == pytest.approx(0.9 ** (DEPTH + 1))
    named = groups_of(model, by_name())
    assert named["head.layers.0.cross_norm.weight"][1] == named["head.level_embedding"][1] == 0.0
    assert named["head.query_positions"][1] == named["neck.inputs.0.norm.weight"][1] == 0.05
