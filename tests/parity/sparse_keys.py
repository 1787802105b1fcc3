"""Compare Sparse R-CNN with official names: ``python -m tests.parity.sparse_keys FOLDER``.

Each JSON file of the folder that lists a Sparse R-CNN's parameters but the backbone's is taken; sizes are
read off the list itself. A line for each: its name and ``ok`` or what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.models.detectors.sparse_weights import sparse_rcnn_map
from tests.parity.key_lists import Shapes, check_folder, compare_names, compare_totals, count_parts

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
        num_stages=count_parts(shapes, "roi_head.bbox_head."),
        num_heads=width // _HEAD_WIDTH,
        dynamic_width=shapes[f"{dynamic}norm_in.bias"][0],
        feed_forward_width=shapes[f"{_HEAD}ffn.layers.0.0.bias"][0],
        num_class_layers=count_parts(shapes, f"{_HEAD}cls_fcs.") // 2,  # a linear and a norm each
        num_box_layers=count_parts(shapes, f"{_HEAD}reg_fcs.") // 2,
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
    return compare_names(names, model, shapes) + compare_totals(content, model)


def main(words: Sequence[str] | None = None) -> int:
    """Check a folder; returns the exit status: 1 where anything differs, 2 where there is no list."""
    return check_folder(words, "a Sparse R-CNN", is_sparse, differences)


if __name__ == "__main__":
    raise SystemExit(main())
