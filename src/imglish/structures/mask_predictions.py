"""What a set of queries says of a picture: classes and masks."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MaskPredictions(NamedTuple):
    """Queries that each claim one mask.

    Args:
        classes: Logits (B, Q, num_classes + 1); the last stands for "no object".
        masks: Logits (B, Q, h, w); above zero is inside.
    """

    classes: Tensor
    masks: Tensor


class MaskTargets(NamedTuple):
    """The masks of one picture.

    Args:
        classes: int64 (G,).
        masks: bool (G, H, W), True inside.
    """

    classes: Tensor
    masks: Tensor
