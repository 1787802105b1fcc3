"""Drawing the boxes that a detector is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from imglish.ops.assignment import BACKGROUND

# From N to a random order of the numbers below N, int64 (N,). Called only where there are more boxes than
# wanted: of one picture after the other, first for the foreground, then for the background.
DrawOrder = Callable[[int], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxSampling:
    """How many boxes of a picture are drawn (arXiv 1506.01497).

    Args:
        number: In all, where there are as many.
        foreground_share: At most this share of them has an object; background fills the rest.

    Raises:
        ValueError: The number is below 1, or the share not in [0, 1].
    """

    number: int
    foreground_share: float

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"number must be at least 1; got {self.number}")
        if not 0 <= self.foreground_share <= 1:
            raise ValueError(f"foreground_share must be in [0, 1]; got {self.foreground_share}")


class DrawnBoxes(NamedTuple):
    """Places in a list of boxes, int64, in rising order unless some were left out."""

    foreground: Tensor
    background: Tensor


def random_order(device: torch.device, generator: torch.Generator | None = None) -> DrawOrder:
    """Draws from torch's generator of the device, or from one of one's own on that device."""
    return lambda number: torch.randperm(number, device=device, generator=generator)


def draw_boxes(objects: Tensor, sampling: BoxSampling, draw: DrawOrder) -> DrawnBoxes:
    """Choose boxes with an object and without.

    Args:
        objects: int64 (N,), the number of each box's object, `BACKGROUND` or `UNCOUNTED` of
            `ops.assignment`.
        sampling: How many.
        draw: Random orders.
    """
    most = int(sampling.number * sampling.foreground_share)
    foreground = _at_most((objects >= 0).nonzero()[:, 0], most, draw)
    background = _at_most((objects == BACKGROUND).nonzero()[:, 0], sampling.number - len(foreground), draw)
    return DrawnBoxes(foreground, background)


def _at_most(places: Tensor, number: int, draw: DrawOrder) -> Tensor:
    return places if len(places) <= number else places[draw(len(places))[:number]]
