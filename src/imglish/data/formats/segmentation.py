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
        runs = self._runs()
        inside = np.arange(len(runs)) % 2 == 1
        return np.repeat(inside, runs).reshape(width, height).T

    def check(self) -> None:
        """Raise as `to_mask`, without making the mask."""
        self._runs()

    def _runs(self) -> NDArray[np.int64]:
        """The lengths, which cover the picture."""
        height, width = self.size
        runs = _decompress(self.counts) if isinstance(self.counts, str) else np.array(self.counts, np.int64)
        if int(runs.sum()) != height * width or bool((runs < 0).any()):
            raise DataFormatError(
                f"run lengths cover {int(runs.sum())} pixels of a mask of {height} x {width} pixels; "
                "expected all of them: the annotation is damaged, get its file again"
            )
        return runs

    def to_coco(self) -> bytes:
        """COCO's compressed string; raises as `to_mask`."""
        if isinstance(self.counts, str):
            self._runs()  # COCO's own tools would read past the end of a damaged string
            return self.counts.encode("latin-1")
        return encode_mask(self.to_mask())

    def box_xyxy(self) -> tuple[float, float, float, float]:
        """The smallest box around the mask, four zeros where it is empty; raises as `to_mask`."""
        rows, columns = np.nonzero(self.to_mask())
        if not len(rows):
            return 0.0, 0.0, 0.0, 0.0
        left, top = float(columns.min()), float(rows.min())
        return left, top, float(columns.max() + 1), float(rows.max() + 1)


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

        return np.asarray(coco_masks.decode(self._merged())).astype(np.bool_)

    def to_coco(self) -> bytes:
        """COCO's compressed run lengths of the mask."""
        counts: bytes = self._merged()["counts"]
        return counts

    def box_xyxy(self) -> tuple[float, float, float, float]:
        """The smallest box around the points."""
        x = [value for polygon in self.points for value in polygon[::2]]
        y = [value for polygon in self.points for value in polygon[1::2]]
        return min(x), min(y), max(x), max(y)

    def _merged(self) -> dict[str, bytes]:
        from faster_coco_eval.core import mask as coco_masks

        height, width = self.size
        pieces = coco_masks.frPyObjects([list(polygon) for polygon in self.points], height, width)
        merged: dict[str, bytes] = coco_masks.merge(pieces)
        return merged


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """COCO's compressed run lengths of a mask bool (H, W)."""
    from faster_coco_eval.core import mask as coco_masks

    counts: bytes = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return counts


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
