"""Outlines of objects that follow their picture through resizing, crops and flips, undecoded till the end.

A picture is changed several times, and most of its objects may be cropped away: so outlines remember where
they have gone, and become masks of the final size, one at a time, when the others are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imglish.data.formats.segmentation import Polygons, RunLengths


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pixels of a stored picture are in a changed one: x' = scale_x x + move_x, and y alike.

    Args:
        scale_x: Changed pixels for each stored one, negative where it is flipped.
        scale_y: The same downwards.
        move_x: Where the stored picture's left edge is.
        move_y: Where its upper edge is.
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    move_x: float = 0.0
    move_y: float = 0.0

    def resized(self, scale_x: float, scale_y: float) -> Placement:
        """After the changed picture is resized by these factors."""
        return Placement(
            self.scale_x * scale_x, self.scale_y * scale_y, self.move_x * scale_x, self.move_y * scale_y
        )

    def cropped(self, left: int, top: int) -> Placement:
        """After what is left of and above that pixel is cut off."""
        return replace(self, move_x=self.move_x - left, move_y=self.move_y - top)

    def flipped(self, width: int) -> Placement:
        """After the changed picture, so many pixels wide, is flipped from left to right."""
        return replace(self, scale_x=-self.scale_x, move_x=width - self.move_x)


@dataclass(frozen=True, slots=True)
class Outline:
    """An object's outline in a stored picture, and where that picture has gone.

    Args:
        source: Polygons, run lengths, or a mask bool (H, W) of the stored picture.
        placement: Of the stored picture.
    """

    source: RunLengths | Polygons | NDArray[np.bool_]
    placement: Placement = Placement()

    def to_mask(self, size: tuple[int, int]) -> Tensor:
        """The mask of the changed picture, bool (H, W) of that (height, width).

        Polygons are moved and then filled, so that an enlarged outline has no steps; of masks each pixel is
        that of the stored one in which its centre lies.

        Raises:
            DataFormatError: Run lengths do not add up to the picture.
        """
        if isinstance(self.source, Polygons):
            points = tuple(self._moved(polygon) for polygon in self.source.points)
            return torch.from_numpy(Polygons(size, points).to_mask())
        mask = self.source.to_mask() if isinstance(self.source, RunLengths) else self.source
        rows = _sources(size[0], self.placement.scale_y, self.placement.move_y)
        columns = _sources(size[1], self.placement.scale_x, self.placement.move_x)
        inside_rows = np.flatnonzero((rows >= 0) & (rows < mask.shape[0]))
        inside_columns = np.flatnonzero((columns >= 0) & (columns < mask.shape[1]))
        seen = np.zeros(size, np.bool_)
        seen[np.ix_(inside_rows, inside_columns)] = mask[np.ix_(rows[inside_rows], columns[inside_columns])]
        return torch.from_numpy(seen)

    def _moved(self, polygon: tuple[float, ...]) -> tuple[float, ...]:
        place, points = self.placement, np.array(polygon)
        points[::2] = points[::2] * place.scale_x + place.move_x
        points[1::2] = points[1::2] * place.scale_y + place.move_y
        return tuple(points.tolist())


def _sources(count: int, scale: float, move: float) -> NDArray[np.int64]:
    """Which stored row or column each of ``count`` changed ones is from."""
    places: NDArray[np.int64] = np.floor((np.arange(count) + 0.5 - move) / scale).astype(np.int64)
    return places
