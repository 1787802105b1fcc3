"""Compare two-stage detectors with official names: ``python -m tests.parity.two_stage_keys FOLDER``.

Each JSON file of the folder that lists a two-stage detector's parameters but the backbone's is taken; sizes
are read off the list itself. A line for each: its name and ``ok`` or what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from imglish.models.detectors.build import build_two_stage
from imglish.models.detectors.config import (
    BoxHeadConfig,
    MaskHeadConfig,
    NeckConfig,
    RpnConfig,
    SemanticHeadConfig,
    TwoStageConfig,
    stages,
)
from imglish.models.detectors.weights import two_stage_map
from imglish.ops.anchors import AnchorShapes
from tests.parity.key_lists import Shapes, check_folder, compare_names, compare_totals, count_parts

_TYPES = ("MaskRCNN", "CascadeRCNN", "HybridTaskCascade")
_ATTENTION_WIDTH = 32  # features of a head of the extra attention; the number of heads is in no shape


def is_two_stage(content: Mapping[str, Any]) -> bool:
    """Whether a key list is of a two-stage detector."""
    return str(content.get("type", "")).startswith(_TYPES)


def read_config(shapes: Shapes) -> tuple[TwoStageConfig, int, int]:
    """Settings, number of classes and the backbone's width, all from the shapes."""
    neck, width = _neck(shapes)
    cascade = "roi_head.bbox_head.0.fc_cls.bias" in shapes
    box, mask = ("roi_head.bbox_head.0.", "roi_head.mask_head.0.") if cascade else (
        "roi_head.bbox_head.", "roi_head.mask_head."
    )  # fmt: skip
    num_classes, linear_width = shapes[f"{box}fc_cls.weight"][0] - 1, shapes[f"{box}fc_cls.weight"][1]
    num_convs = count_parts(shapes, f"{box}shared_convs.")
    conv_width = shapes[f"{box}shared_convs.0.conv.weight"][0] if num_convs else neck.width
    area = shapes[f"{box}shared_fcs.0.weight"][1] // conv_width
    mask_convs = shapes[f"{mask}convs.0.conv.weight"]
    semantic, semantic_head = "roi_head.semantic_head.", None
    if f"{semantic}conv_logits.weight" in shapes:
        classes, semantic_width = shapes[f"{semantic}conv_logits.weight"][:2]
        semantic_head = SemanticHeadConfig(
            num_classes=classes, num_convs=count_parts(shapes, f"{semantic}convs."), width=semantic_width
        )
    several = "rpn_head.rpn_conv.0.conv.weight" in shapes
    config = TwoStageConfig(
        neck=neck,
        rpn=RpnConfig(
            num_convs=count_parts(shapes, "rpn_head.rpn_conv.") if several else 1,
            anchors=AnchorShapes(ratios=(1.0,) * shapes["rpn_head.rpn_cls.bias"][0]),
        ),
        box_head=BoxHeadConfig(
            num_convs=num_convs,
            num_linears=count_parts(shapes, f"{box}shared_fcs."),
            conv_width=conv_width,
            width=linear_width,
            norm="batch" if f"{box}shared_convs.0.bn.weight" in shapes else "none",
            class_agnostic=shapes[f"{box}fc_reg.bias"] == [4],
            grid=round(area**0.5),
        ),
        stages=stages(count_parts(shapes, "roi_head.bbox_head.") if cascade else 1, low_quality=True),
        mask_head=MaskHeadConfig(
            num_convs=count_parts(shapes, f"{mask}convs."),
            width=mask_convs[0],
            norm="batch" if f"{mask}convs.0.bn.weight" in shapes else "none",
        ),
        interleaved="roi_head.mask_head.1.conv_res.conv.weight" in shapes,
        semantic_head=semantic_head,
    )
    return config, num_classes, width


def differences(content: Mapping[str, Any]) -> list[str]:
    """What differs between a key list and our model; empty where nothing does."""
    shapes: Shapes = content["state_except_backbone"]
    config, num_classes, width = read_config(shapes)
    weight_map = two_stage_map(config)
    with torch.device("meta"):
        model = build_two_stage(nn.Identity(), width, config, num_classes=num_classes)
    return compare_names(weight_map, model, shapes) + compare_totals(content, model)


def _neck(shapes: Shapes) -> tuple[NeckConfig, int]:
    attention = shapes.get("neck.0.norm1.weight")
    prefix = "neck.1." if attention else "neck."
    mapper = f"{prefix}convs.0.conv.weight" in shapes
    first = f"{prefix}convs.0." if mapper else f"{prefix}lateral_convs.0."
    width, in_width = shapes[f"{first}conv.weight"][:2]
    config = NeckConfig(
        kind="mapper" if mapper else "fpn",
        width=width,
        attention_heads=attention[0] // _ATTENTION_WIDTH if attention else 0,
    )
    for norm, name in (("batch", "bn"), ("group", "gn")):
        if f"{first}{name}.weight" in shapes:
            config = replace(config, norm=norm)  # type: ignore[arg-type]
    return config, in_width


def main(words: Sequence[str] | None = None) -> int:
    """Check a folder; returns the exit status: 1 where anything differs, 2 where there is no list."""
    return check_folder(words, "a two-stage detector", is_two_stage, differences)


if __name__ == "__main__":
    raise SystemExit(main())
