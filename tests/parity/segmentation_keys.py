"""Compare our necks and heads with official names: ``python -m tests.parity.segmentation_keys FOLDER``.

Each JSON file of the folder that lists a segmenter's parameters but the backbone's is taken; sizes are read
off the list itself. A line for each: its name and ``ok`` or what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from imglish.models.segmenters.build import build_segmenter
from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    UPerNetConfig,
)
from imglish.models.segmenters.weights import head_map
from tests.parity.key_lists import Shapes, check_folder, compare_names, compare_totals, count_parts


def is_segmenter(content: Mapping[str, Any]) -> bool:
    """Whether a key list is of a segmenter."""
    return str(content.get("type", "")).startswith(("EncoderDecoder", "Mask2Former"))


def read_config(shapes: Shapes, head: str) -> tuple[SegmenterConfig, int, int]:
    """Settings, number of classes and the backbone's width, all from the shapes."""
    if "neck.lateral_convs.0.conv.weight" in shapes:
        neck_width, width = shapes["neck.lateral_convs.0.conv.weight"][:2]
        num_classes, head_width = shapes[f"{head}conv_seg.weight"][:2]
        return SemanticFpnConfig(neck_width=neck_width, head_width=head_width), num_classes, width
    if f"{head}conv_seg.weight" in shapes:
        num_classes, head_width = shapes[f"{head}conv_seg.weight"][:2]
        auxiliary, width = shapes["auxiliary_head.convs.0.conv.weight"][:2]
        return UPerNetConfig(head_width=head_width, auxiliary_width=auxiliary), num_classes, width
    inner, width = shapes[f"{head}pixel_decoder.input_convs.0.conv.weight"][:2]
    offsets = shapes[f"{head}pixel_decoder.encoder.layers.0.attentions.0.sampling_offsets.bias"][0]
    config = Mask2FormerConfig(
        width=inner,
        num_queries=shapes[f"{head}query_embed.weight"][0],
        num_pixel_layers=count_parts(shapes, f"{head}pixel_decoder.encoder.layers."),
        num_layers=count_parts(shapes, f"{head}transformer_decoder.layers."),
        num_heads=offsets // (3 * 4 * 2),  # of three levels and four points
        pixel_feed_forward_width=shapes[f"{head}pixel_decoder.encoder.layers.0.ffns.0.layers.0.0.bias"][0],
        feed_forward_width=shapes[f"{head}transformer_decoder.layers.0.ffns.0.layers.0.0.bias"][0],
    )
    return config, shapes[f"{head}cls_embed.bias"][0] - 1, width


def differences(content: Mapping[str, Any]) -> list[str]:
    """What differs between a key list and our model; empty where nothing does."""
    shapes: Shapes = content["state_except_backbone"]
    head = "panoptic_head." if any(name.startswith("panoptic_head.") for name in shapes) else "decode_head."
    config, num_classes, width = read_config(shapes, head)
    weight_map = head_map(config, head=head)
    with torch.device("meta"):
        model = build_segmenter(nn.Identity(), width, config, num_classes=num_classes)
    return compare_names(weight_map, model, shapes) + compare_totals(content, model)


def main(words: Sequence[str] | None = None) -> int:
    """Check a folder; returns the exit status: 1 where anything differs, 2 where there is no list."""
    return check_folder(words, "a segmenter", is_segmenter, differences)


if __name__ == "__main__":
    raise SystemExit(main())
