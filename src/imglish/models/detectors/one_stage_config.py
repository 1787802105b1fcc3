"""Settings of one-stage detectors: ATSS and GFL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STRIDES = (8, 16, 32, 64, 128)  # of the levels that the heads see; the last two are made by the neck


@dataclass(frozen=True, kw_only=True, slots=True)
class OneStageConfig:
    """Neck and head; the defaults are those of the official configs.

    Args:
        kind: ``atss`` (arXiv 1912.02424) or ``gfl`` (arXiv 2006.04388).
        width: Features of neck and head.
        num_convs: Convolutions before the predictions, for classes and for boxes each.
        num_groups: Groups of their norms; must divide the width.
        anchor_scale: Side of the square anchor around a cell, in cells.
        max_distance: GFL only: a side is at most so many cells away.

    Raises:
        ValueError: A number is out of its range.
    """

    kind: Literal["atss", "gfl"] = "atss"
    width: int = 256
    num_convs: int = 4
    num_groups: int = 32
    anchor_scale: float = 8.0
    max_distance: int = 16

    def __post_init__(self) -> None:
        if self.kind not in ("atss", "gfl"):
            raise ValueError(f"there is no one-stage detector of kind {self.kind!r}; use atss or gfl")
        for name in ("width", "num_groups", "max_distance"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.num_convs < 0 or self.anchor_scale <= 0:
            raise ValueError(
                f"num_convs must be at least 0 and anchor_scale above it; got {self.num_convs} and "
                f"{self.anchor_scale}"
            )
        if self.width % self.num_groups:
            raise ValueError(f"width {self.width} must be a multiple of num_groups {self.num_groups}")
