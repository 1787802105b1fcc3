"""Intersection over union, Dice and accuracy of class maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from imglish.metrics.base import sum_over_ranks


class SegmentationIou:
    """Mean IoU over classes and over groups of them, mean Dice, accuracy of pixels and its mean over classes.

    The whole data set is one sum: no mean over pictures. A class that neither the truth nor the prediction
    ever has is left out of mean IoU and mean Dice, one that the truth never has out of mean accuracy. These
    are mIoU, mDice, aAcc and mAcc of the official evaluation.

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

    def class_shares(self) -> Tensor:
        """The share of each class among the labelled pixels counted, float64 (classes,)."""
        true = self._confusion.sum(1)
        return true / true.sum().clamp(min=1)

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
        """Scores of all that was counted.

        ``semantic/`` ``mean_iou``, ``mean_iou_<group>``, ``mean_dice``, ``pixel_accuracy``,
        ``mean_accuracy``, and ``iou/<class>``, ``dice/<class>`` and ``accuracy/<class>`` of those that are
        not left out.
        """
        right, true = self._confusion.diag(), self._confusion.sum(1)
        union = self._confusion.sum(0) + true - right
        names, everything = self._classes, range(len(self._classes))
        iou = {i: float(right[i] / union[i]) for i in everything if union[i] > 0}
        dice = {i: 2 * value / (1 + value) for i, value in iou.items()}
        accuracy = {i: float(right[i] / true[i]) for i in everything if true[i] > 0}
        scores = {
            "semantic/mean_iou": _mean(iou, everything),
            "semantic/mean_dice": _mean(dice, everything),
            "semantic/pixel_accuracy": float(right.sum() / true.sum().clamp(min=1)),
            "semantic/mean_accuracy": _mean(accuracy, everything),
        }
        scores |= {f"semantic/mean_iou_{name}": _mean(iou, ids) for name, ids in self._groups.items()}
        for name, values in (("iou", iou), ("dice", dice), ("accuracy", accuracy)):
            scores |= {f"semantic/{name}/{names[i]}": value for i, value in values.items()}
        return scores


def _mean(values: Mapping[int, float], ids: Sequence[int]) -> float:
    """Of those ids that have a value; 0 where none has."""
    chosen = [values[i] for i in ids if i in values]
    return sum(chosen) / len(chosen) if chosen else 0.0
