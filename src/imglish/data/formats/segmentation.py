"""Object outlines as COCO stores them: run lengths or polygons, decoded on demand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imglish.errors import DataFormatError


@dataclass(frozen=True, slots=True)
class RunLengths:
    """Lengths of runs, alternately outside and inside the object, down the columns from left to right.

    Args:
        size: (height, width) of the picture in pixels.
        counts: The lengths, or COCO's compressed string of them.
    """

    size: tuple[int, int]
    counts: str | tuple[int, ...]

    def to_mask(self) -> NDArray[np.bool_]:
        """The mask, bool (H, W).

        Raises:
            DataFormatError: The lengths do not add up to the picture's pixels.
        """
        height, width = self.size
        runs = _decompress(self.counts) if isinstance(self.counts, str) else np.array(self.counts, np.int64)
        if int(runs.sum()) != height * width or bool((runs < 0).any()):
            raise DataFormatError(
                f"run lengths cover {int(runs.sum())} pixels of a mask of {height} x {width} pixels; "
                "expected all of them: the annotation is damaged, get its file again"
            )
        inside = np.arange(len(runs)) % 2 == 1
        return np.repeat(inside, runs).reshape(width, height).T


@dataclass(frozen=True, slots=True)
class Polygons:
    """The outline of an object as one or more polygons.

    Args:
        size: (height, width) of the picture in pixels.
        points: For each polygon x0, y0, x1, y1, ... in pixels; at least three points.
    """

    size: tuple[int, int]
    points: tuple[tuple[float, ...], ...]

    def to_mask(self) -> NDArray[np.bool_]:
        """The mask, bool (H, W), filled as COCO's own tools fill it."""
        from faster_coco_eval.core import mask as coco_masks

        height, width = self.size
        pieces = coco_masks.frPyObjects([list(polygon) for polygon in self.points], height, width)
        return np.asarray(coco_masks.decode(coco_masks.merge(pieces))).astype(np.bool_)


def _decompress(counts: str) -> NDArray[np.int64]:
    """Undo COCO's string of run lengths: 5 bits a character, low first, less the run before the last one."""
    codes = np.frombuffer(counts.encode("latin-1", "replace"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    if not len(ends) or ends[-1] != len(codes) - 1 or bool((codes < 0).any()) or bool((codes > 63).any()):
        raise DataFormatError(
            f"run lengths {counts[:20]!r} are no COCO string: the annotation is damaged, get its file again"
        )
    starts = np.concatenate(([0], ends[:-1] + 1))
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if int(places.max()) > 11:  # 60 bits; longer numbers would overflow
        raise DataFormatError(f"run lengths {counts[:20]!r} hold a number too long: get the file again")
    numbers = np.add.reduceat((codes & 31) << (5 * places), starts)
    negative = (codes[ends] & 16) != 0
    numbers = np.where(negative, numbers - (np.int64(1) << (5 * (places[ends] + 1))), numbers)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
