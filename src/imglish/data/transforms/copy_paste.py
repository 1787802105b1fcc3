"""Copy-paste (Ghiasi et al. 2021): objects of one picture are laid over another.

The official HTC++ moves objects within their picture (InstaBoost); this is in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from imglish.data.transforms.objects import PictureObjects, boxes_of, cropped
from imglish.data.transforms.outlines import Outline


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyPaste:
    """Lay some objects of another picture over this one.

    Args:
        chance: That anything is pasted, in [0, 1].
        most: Objects that are pasted at most; how many is drawn, and which.
        least_pixels: An object of which fewer pixels are left uncovered is dropped, where any are covered.

    Raises:
        ValueError: A number is out of its range.
    """

    chance: float = 0.5
    most: int = 100
    least_pixels: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1 or self.most < 1 or self.least_pixels < 1:
            raise ValueError(
                f"chance {self.chance} must lie in [0, 1], most {self.most} and least_pixels "
                f"{self.least_pixels} must be at least 1"
            )

    def __call__(
        self, scene: PictureObjects, other: PictureObjects, rng: np.random.Generator
    ) -> PictureObjects:
        """Paste objects of ``other``; both pictures keep their upper left corners together.

        Returns:
            The picture with the objects that can still be seen, then the pasted ones. Boxes of objects that
            are partly covered are those of what is left of them.

        Raises:
            ValueError: Objects have no outlines.
        """
        if len(scene.outlines) != len(scene.boxes) or len(other.outlines) != len(other.boxes):
            raise ValueError("objects have no outlines; expected masks to be read for copy-paste")
        shared = min(scene.size[0], other.size[0]), min(scene.size[1], other.size[1])
        other = cropped(other, 0, 0, shared)
        other = other.take(self._chosen(other, rng))
        pasted = torch.zeros(len(other.boxes), *scene.size, dtype=torch.bool)
        pasted[:, : shared[0], : shared[1]] = other.masks()
        seen = pasted.flatten(1).any(1)
        other, pasted = other.take(torch.nonzero(seen).flatten()), pasted[seen]
        if not len(pasted):
            return scene
        covered = pasted.any(0)
        image = scene.image.clone()
        image[:, covered] = other.image[:, covered[: shared[0], : shared[1]]]
        scene = _uncovered(scene, covered, self.least_pixels)
        semantic = scene.semantic
        if semantic is not None and other.semantic is not None:
            semantic = semantic.clone()
            semantic[covered] = other.semantic[covered[: shared[0], : shared[1]]]
        return replace(
            scene,
            image=image,
            boxes=torch.cat([scene.boxes, boxes_of(pasted)]),
            labels=torch.cat([scene.labels, other.labels]),
            crowd=torch.cat([scene.crowd, other.crowd]),
            outlines=(*scene.outlines, *map(_decoded, pasted)),
            semantic=semantic,
        )

    def _chosen(self, other: PictureObjects, rng: np.random.Generator) -> Tensor:
        """Places of the objects to paste; crowds never are."""
        places = np.flatnonzero(~other.crowd.numpy())
        count = int(rng.integers(0, min(len(places), self.most) + 1))
        return torch.from_numpy(np.sort(rng.permutation(places)[:count]))


def _uncovered(scene: PictureObjects, covered: Tensor, least_pixels: int) -> PictureObjects:
    """The objects of which enough is left, with the masks and boxes of that."""
    kept, boxes, outlines = list[int](), list[Tensor](), list[Outline]()
    for place, outline in enumerate(scene.outlines):
        mask = outline.to_mask(scene.size)
        if not bool((mask & covered).any()):
            kept.append(place)
            boxes.append(scene.boxes[place])
            outlines.append(outline)
            continue
        rest = mask & ~covered
        if int(rest.sum()) < least_pixels:
            continue
        box = scene.boxes[place] if bool(scene.crowd[place]) else boxes_of(rest[None])[0]
        kept.append(place)
        boxes.append(box)
        outlines.append(_decoded(rest))
    left = scene.take(torch.tensor(kept, dtype=torch.int64))
    return replace(left, boxes=torch.stack(boxes) if boxes else left.boxes, outlines=tuple(outlines))


def _decoded(mask: Tensor) -> Outline:
    return Outline(mask.numpy())
