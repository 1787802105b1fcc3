"""Compare ATSS and GFL with official names: ``python -m tests.parity.one_stage_keys FOLDER``.

Each JSON file of the folder that lists a one-stage detector's parameters but the backbone's is taken; sizes
are read off the list itself. A line for each: its name and ``ok`` or what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from imglish.models.detectors.one_stage import build_one_stage
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.one_stage_weights import official_shapes, one_stage_map, our_shapes
from tests.parity.key_lists import Shapes, check_folder, compare_totals


def is_one_stage(content: Mapping[str, Any]) -> bool:
    """Whether a key list is of a one-stage detector."""
    return content.get("type") in ("ATSS", "GFL")


def read_config(shapes: Shapes) -> tuple[OneStageConfig, int, int]:
    """Settings, number of classes and the backbone's width, all from the shapes."""
    kind = "gfl" if "bbox_head.gfl_cls.bias" in shapes else "atss"
    width, in_width = shapes["neck.lateral_convs.0.conv.weight"][:2]
    convs = [name for name in shapes if name.startswith("bbox_head.cls_convs.") and "conv.weight" in name]
    config = OneStageConfig(
        kind="gfl" if kind == "gfl" else "atss",
        width=width,
        num_convs=len(convs),
        max_distance=shapes["bbox_head.integral.project"][0] - 1 if kind == "gfl" else 16,
    )
    return config, shapes[f"bbox_head.{kind}_cls.bias"][0], in_width


def differences(content: Mapping[str, Any]) -> list[str]:
    """What differs between a key list and our model; empty where nothing does."""
    shapes: Shapes = content["state_except_backbone"]
    config, num_classes, width = read_config(shapes)
    names = one_stage_map(config)
    with torch.device("meta"):
        model = build_one_stage(nn.Identity(), width, config, num_classes=num_classes)
        official = {name: torch.empty(shape) for name, shape in shapes.items()}
    ours = model.state_dict()
    orphans = [name for name in official if names.our_name(name) is None]
    if orphans:
        return [f"no rule for {', '.join(orphans)}"]
    found = []
    if _shapes(our_shapes(names.to_ours(official))) != _shapes(ours):
        found.append("official names do not become ours")
    if _shapes(names.to_official(official_shapes(ours))) != dict(shapes):
        found.append("our names do not become official ones")
    return found + compare_totals(content, model)


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in state.items()}


def main(words: Sequence[str] | None = None) -> int:
    """Check a folder; returns the exit status: 1 where anything differs, 2 where there is no list."""
    return check_folder(words, "a one-stage detector", is_one_stage, differences)


if __name__ == "__main__":
    raise SystemExit(main())
