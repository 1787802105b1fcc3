"""Compare Sparse R-CNN with official names: ``python -m tests.parity.sparse_keys FOLDER``.

Each JSON file of the folder that lists a Sparse R-CNN's parameters but the backbone's is taken; sizes are
read off the list itself. A line for each: its name and ``ok`` or what differs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.models.detectors.sparse_weights import sparse_rcnn_map

Shapes = Mapping[str, list[int]]
_HEAD_WIDTH = 32  # features of a head of the attention; the number of heads is in no shape
_HEAD = "roi_head.bbox_head.0."


def is_sparse(content: Mapping[str, Any]) -> bool:
    """Whether a key list is of a Sparse R-CNN."""
    return content.get("type") == "SparseRCNN"


def read_config(shapes: Shapes) -> tuple[SparseRcnnConfig, int, int]:
    """Settings, number of classes and the backbone's width, all from the shapes."""
    num_proposals, width = shapes["rpn_head.init_proposal_features.weight"]
    dynamic = f"{_HEAD}instance_interactive_conv."
    area = shapes[f"{dynamic}fc_layer.weight"][1] // width
    config = SparseRcnnConfig(
        width=width,
        num_proposals=num_proposals,
        num_stages=_count(shapes, "roi_head.bbox_head."),
        num_heads=width // _HEAD_WIDTH,
        dynamic_width=shapes[f"{dynamic}norm_in.bias"][0],
        feed_forward_width=shapes[f"{_HEAD}ffn.layers.0.0.bias"][0],
        num_class_layers=_count(shapes, f"{_HEAD}cls_fcs.") // 2,  # a linear and a norm each
        num_box_layers=_count(shapes, f"{_HEAD}reg_fcs.") // 2,
        grid=round(area**0.5),
        max_boxes=num_proposals,
    )
    return config, shapes[f"{_HEAD}fc_cls.bias"][0], shapes["neck.lateral_convs.0.conv.weight"][1]


def differences(content: Mapping[str, Any]) -> list[str]:
    """What differs between a key list and our model; empty where nothing does."""
    shapes: Shapes = content["state_except_backbone"]
    config, num_classes, width = read_config(shapes)
    names = sparse_rcnn_map()
    with torch.device("meta"):
        model = SparseRcnn(nn.Identity(), width, config, num_classes=num_classes)
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = []
    if {names.our_name(name): shape for name, shape in shapes.items()} != ours:
        found.append("official names do not become ours")
    if {names.official_name(name): shape for name, shape in ours.items()} != dict(shapes):
        found.append("our names do not become official ones")
    if len(shapes) != len(ours):
        found.append(f"{len(shapes)} official names, {len(ours)} of ours")
    counted = sum(parameter.numel() for parameter in model.parameters())
    expected = content["n_params"] - content["parts"]["backbone"]
    if counted != expected:
        found.append(f"{counted} parameters, officially {expected}")
    return found


def _count(shapes: Shapes, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})


def main(words: Sequence[str] | None = None) -> int:
    """Check a folder; returns the exit status: 1 where anything differs, 2 where there is no list."""
    parser = argparse.ArgumentParser(description="Compare Sparse R-CNN with official names.")
    parser.add_argument("folder", type=Path)
    lists = {
        path.stem: content
        for path in sorted(parser.parse_args(words).folder.glob("*.json"))
        if is_sparse(content := json.loads(path.read_text()))
    }
    if not lists:
        parser.error("no list of a Sparse R-CNN's parameters in the folder")
    wrong = 0
    for name, content in lists.items():
        found = differences(content)
        wrong += bool(found)
        print(f"{name}: {'; '.join(found) or 'ok'}")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
