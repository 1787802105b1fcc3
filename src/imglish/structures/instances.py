"""Objects of one picture: what is true, what was found, and what a score compares.

Boxes are (left, top, right, bottom) in pixels, where a picture of width W reaches from 0 to W: a box that
covers all of it is (0, 0, W, H), and its width is right - left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imglish.structures.batch import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Instances(Batch):
    """The true objects of a picture that is trained on; N may be 0.

    boxes float32 (N, 4), inside of the picture as it is shown; labels int64 (N,) from 0; crowd bool (N,),
    True where a region holds many objects that were not told apart: it is neither an object to be found nor
    background; masks bool (N, H, W), True inside, as large as the batch's pictures with their padding, None
    where there are no masks or nobody asked for them.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, chosen: Tensor) -> Instances:
        """Those that ``chosen`` names: bool (N,), or int64 places in any order."""
        masks = None if self.masks is None else self.masks[chosen]
        return Instances(
            boxes=self.boxes[chosen], labels=self.labels[chosen], crowd=self.crowd[chosen], masks=masks
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Detections(Batch):
    """What a detector finds in a picture, best first; N may be 0.

    boxes float32 (N, 4); scores float32 (N,) in [0, 1]; labels int64 (N,) from 0; masks bool (N, H, W) of the
    picture that the boxes are of, None where the detector has no masks or they are encoded one by one.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)


class EncodedMask(NamedTuple):
    """A mask in COCO's compressed run lengths.

    Args:
        size: (height, width) in pixels.
        counts: The string of run lengths.
    """

    size: tuple[int, int]
    counts: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredTruth:
    """The true objects of a picture that is scored, as its file has them: nothing is clipped or left out.

    Args:
        boxes: float64 (N, 4), in pixels of the picture as it is stored.
        labels: int64 (N,) from 0.
        crowd: bool (N,), as in `Instances`.
        areas: float64 (N,), in pixels: by these objects count as small, medium or large.
        masks: One for each object, or None where the file has no masks.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    masks: tuple[EncodedMask, ...] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticMap:
    """A picture cut into segments, true or found.

    Args:
        ids: int32 (H, W), the segment of each pixel; 0 belongs to none.
        segment_ids: int64 (S,), ids of the segments, all of them different and none 0.
        labels: int64 (S,) from 0, things and stuff alike.
        crowd: bool (S,), as in `Instances`; always False where the segments were found.
    """

    ids: NDArray[np.int32]
    segment_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
