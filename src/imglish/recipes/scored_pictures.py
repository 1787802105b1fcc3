"""What reports have in common: scoring picture by picture, and keeping the best and the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from imglish.data.loader import Dataset
from imglish.errors import DataFormatError

S = TypeVar("S")
R = TypeVar("R")
Progress = Callable[[int, int], None]  # called with the pictures done and all
_SHOWN = 6  # pictures of each end


class Rated(NamedTuple, Generic[R]):
    """A picture.

    Args:
        number: In the set.
        score: Its own, the higher the better.
        shown: What is needed to draw it.
    """

    number: int
    score: float
    shown: R


class BestAndWorst(Generic[R]):
    """Keeps the pictures with the highest and the lowest scores, and no others."""

    def __init__(self) -> None:
        self._best: list[Rated[R]] = []
        self._worst: list[Rated[R]] = []
        self._count = 0

    def add(self, rated: Rated[R]) -> None:
        """Take a picture."""
        self._count += 1
        self._best = sorted([*self._best, rated], key=lambda r: (-r.score, -r.number))[:_SHOWN]
        self._worst = sorted([*self._worst, rated], key=lambda r: (r.score, r.number))[:_SHOWN]

    def ends(self) -> tuple[list[Rated[R]], list[Rated[R]]]:
        """The best, the best first, and the worst, the worst first; none of a few pictures is among both."""
        num_worst = min(_SHOWN, self._count // 2)
        return self._best[: min(_SHOWN, self._count - num_worst)], self._worst[:num_worst]


def whole_samples(data: Dataset[S], progress: Progress) -> Iterator[tuple[int, S]]:
    """The samples that can be read, with their numbers.

    Args:
        data: What is scored.
        progress: Called with the samples done and all.

    Raises:
        DataFormatError: Every one is damaged; told at the end.
    """
    num_skipped = 0
    for number in range(len(data)):
        try:
            sample = data.get(number, np.random.default_rng(0))
        except DataFormatError:
            num_skipped += 1
            continue
        finally:
            progress(number + 1, len(data))
        yield number, sample
    if num_skipped == len(data):
        raise DataFormatError(
            f"none of the {len(data)} pictures to score can be used; imglish data check says why"
        )
