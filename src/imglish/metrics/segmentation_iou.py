"""Intersection over union of class maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from imglish.metrics.base import sum_over_ranks


class SegmentationIou:
    """Mean IoU over classes, over groups of classes, and pixel accuracy.

    A class that neither the truth nor the prediction ever has is left out of the means.

    Args:
        classes: Names of the classes in the order of their ids.
        groups: Names of groups and their class ids, such as things and stuff.
        ignored: Id in the truth that counts for nothing.
    """

    def __init__(
        self, classes: Sequence[str], groups: Mapping[str, Sequence[int]] | None = None, *, ignored: int = 255
    ) -> None:
        self._classes, self._groups, self._ignored = tuple(classes), dict(groups or {}), ignored
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        size = len(self._classes)
        self._confusion = torch.zeros(size, size, dtype=torch.float64)  # rows are the truth

    def update(self, predicted: Tensor, masks: Tensor) -> None:
        """Count pixels: predicted and true class ids int64 (B, H, W)."""
        size = len(self._classes)
        known = masks != self._ignored
        pairs = masks[known] * size + predicted[known]
        self._confusion += torch.bincount(pairs.cpu(), minlength=size * size).view(size, size)

    def reduce(self) -> None:
        """Sum over ranks."""
        self._confusion = sum_over_ranks(self._confusion)

    def compute(self) -> dict[str, float]:
        """``semantic/`` ``mean_iou``, ``mean_iou_<group>``, ``pixel_accuracy``, ``iou/<class>``."""
        right = self._confusion.diag()
        union = self._confusion.sum(0) + self._confusion.sum(1) - right
        present = union > 0
        iou = right / union.clamp(min=1)

        def mean(ids: Sequence[int]) -> float:
            chosen = [iou[i].item() for i in ids if present[i]]
            return sum(chosen) / len(chosen) if chosen else 0.0

        scores = {
            "semantic/mean_iou": mean(range(len(self._classes))),
            "semantic/pixel_accuracy": float(right.sum() / self._confusion.sum().clamp(min=1)),
        }
        scores |= {f"semantic/mean_iou_{name}": mean(ids) for name, ids in self._groups.items()}
        return scores | {
            f"semantic/iou/{name}": iou[i].item() for i, name in enumerate(self._classes) if present[i]
        }
