"""What a detector says that finds a set of boxes, one for each of its queries."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BoxSet(NamedTuple):
    """The queries of a batch after one stage.

    Args:
        classes: Logits (B, Q, num_classes), each class for itself: no place stands for background.
        boxes: (B, Q, 4) in pixels of the batch's pictures, not cut off at their borders.
    """

    classes: Tensor
    boxes: Tensor
