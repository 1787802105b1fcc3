"""Settings of Sparse R-CNN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STRIDES = (4, 8, 16, 32)  # of the levels that regions are read off


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseRcnnConfig:
    """Neck and heads (arXiv 2011.12450); the defaults are those of the official config.

    Args:
        kind: Tells it apart from other detectors in files.
        width: Features of neck, regions and proposals.
        num_proposals: Learned boxes, each with learned features; more objects of a picture are never found.
        num_stages: Heads, each with weights of its own, which correct the boxes one after the other.
        num_heads: Heads of the attention among proposals; must divide the width.
        dynamic_width: Features between the two layers whose weights are made of a proposal's features.
        feed_forward_width: Features within the feed-forward network.
        num_class_layers: Layers before the classes.
        num_box_layers: Layers before the changes of boxes.
        grid: Cells of a region, in each direction.
        sampling_ratio: Points of a cell that are read, in each direction.
        max_boxes: Pairs of box and class that are given back of a picture, the surest ones.

    Raises:
        ValueError: A number is out of its range.
    """

    kind: Literal["sparse_rcnn"] = "sparse_rcnn"
    width: int = 256
    num_proposals: int = 300
    num_stages: int = 6
    num_heads: int = 8
    dynamic_width: int = 64
    feed_forward_width: int = 2048
    num_class_layers: int = 1
    num_box_layers: int = 3
    grid: int = 7
    sampling_ratio: int = 2
    max_boxes: int = 300

    def __post_init__(self) -> None:
        for name in (
            "width", "num_proposals", "num_stages", "num_heads", "dynamic_width", "feed_forward_width",
            "grid", "sampling_ratio", "max_boxes",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if min(self.num_class_layers, self.num_box_layers) < 0:
            raise ValueError(
                "num_class_layers and num_box_layers must be at least 0; got "
                f"{self.num_class_layers} and {self.num_box_layers}"
            )
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} must be a multiple of num_heads {self.num_heads}")
