"""How truly captions name things, measured against what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from imglish.metrics.base import sum_over_ranks

Name = tuple[str, str]  # colour and shape


class CaptionFacts:
    """Share of things that captions name with the right colour and shape, and share of wrong names."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._counts = torch.zeros(3, dtype=torch.float64)  # things, rightly named things, names given

    def update(self, named: Sequence[Sequence[Name]], present: Sequence[Sequence[Name]]) -> None:
        """Count captions.

        Args:
            named: For each caption the (colour, shape) it names, repeats included.
            present: For each picture the (colour, shape) of its things.
        """
        for names, things in zip(named, present, strict=True):
            right = sum((Counter(names) & Counter(things)).values())
            self._counts += torch.tensor([len(things), right, len(names)], dtype=torch.float64)

    def reduce(self) -> None:
        """Sum over ranks."""
        self._counts = sum_over_ranks(self._counts)

    def compute(self) -> dict[str, float]:
        """``caption/things_named`` and ``caption/wrong_names``, in [0, 1]."""
        things, right, names = self._counts.tolist()
        return {
            "caption/things_named": right / things if things else 0.0,
            "caption/wrong_names": (names - right) / names if names else 0.0,
        }
