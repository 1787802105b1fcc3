"""Accuracy at hidden positions, beside what knowing the frequencies alone would give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imglish.metrics.base import sum_over_ranks


class TokenAccuracy:
    """Share of hidden tokens found, by stream.

    ``<stream>/accuracy`` stands beside ``<stream>/unigram``: the accuracy of always answering the token
    that is most frequent among the targets themselves, the best that frequencies can do.

    Args:
        streams: Names of the streams.
    """

    def __init__(self, streams: Sequence[str]) -> None:
        self._streams = tuple(streams)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._right = dict.fromkeys(self._streams, 0)
        self._counts = {name: torch.zeros(0, dtype=torch.int64) for name in self._streams}

    def update(self, stream: str, predicted: Tensor, target: Tensor) -> None:
        """Count a batch: predicted and true token ids int64 (M,)."""
        self._right[stream] += int((predicted == target).sum())
        size = max(len(self._counts[stream]), int(target.max()) + 1 if len(target) else 0)
        old = torch.nn.functional.pad(self._counts[stream], (0, size - len(self._counts[stream])))
        self._counts[stream] = old + torch.bincount(target.cpu(), minlength=size)

    def reduce(self) -> None:
        """Sum over ranks."""
        for name in self._streams:
            self._right[name] = int(sum_over_ranks(torch.tensor(self._right[name])))
            size = _largest(len(self._counts[name]))
            padded = torch.nn.functional.pad(self._counts[name], (0, size - len(self._counts[name])))
            self._counts[name] = sum_over_ranks(padded)

    def compute(self) -> dict[str, float]:
        """Accuracy and unigram baseline in [0, 1], and hidden tokens, of each stream that hid any."""
        scores: dict[str, float] = {}
        for name in self._streams:
            total = int(self._counts[name].sum())
            if total:
                scores[f"{name}/accuracy"] = self._right[name] / total
                scores[f"{name}/unigram"] = int(self._counts[name].max()) / total
                scores[f"{name}/count"] = float(total)
        return scores


def _largest(size: int) -> int:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return size
    sizes = torch.tensor(size)
    torch.distributed.all_reduce(sizes, op=torch.distributed.ReduceOp.MAX)
    return int(sizes)


def share_found(logits: Tensor, target: Tensor) -> Tensor:
    """Share of tokens int64 (M,) whose prediction (M, V) is right, a scalar; 0 where nothing is hidden."""
    return (logits.argmax(dim=1) == target).float().mean() if len(target) else logits.new_zeros(())
