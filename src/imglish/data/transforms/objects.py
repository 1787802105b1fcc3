"""A picture with its objects, and the changes that picture, boxes, outlines and class map make together.

Pictures are resized bilinearly without antialiasing, as OpenCV does, class maps to the nearest pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imglish.data.transforms.outlines import Outline
from imglish.data.transforms.segmentation import resize_mask, resize_picture
from imglish.structures.instances import Instances


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureObjects:
    """A picture on its way to the model; N may be 0.

    Args:
        image: uint8 (3, H, W).
        boxes: float32 (N, 4), left, top, right, bottom in pixels of the image.
        labels: int64 (N,).
        crowd: bool (N,), as in `Instances`.
        outlines: One for each object; empty where nobody wants masks.
        semantic: Class map uint8 (H, W), 255 ignored; None where nobody wants one.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    outlines: tuple[Outline, ...] = ()
    semantic: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[-2], self.image.shape[-1]

    def take(self, chosen: Tensor) -> PictureObjects:
        """Only the objects at these places int64 (M,)."""
        return replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            crowd=self.crowd[chosen],
            outlines=tuple(self.outlines[place] for place in chosen.tolist()) if self.outlines else (),
        )

    def masks(self) -> Tensor:
        """The decoded outlines: bool (N, H, W)."""
        masks = torch.zeros(len(self.outlines), *self.size, dtype=torch.bool)
        for mask, outline in zip(masks, self.outlines, strict=True):
            mask.copy_(outline.to_mask(self.size))
        return masks

    def to_instances(self, *, with_masks: bool) -> Instances:
        """The objects as a model is trained on them."""
        return Instances(
            boxes=self.boxes,
            labels=self.labels,
            crowd=self.crowd,
            masks=self.masks() if with_masks else None,
        )


def resized(scene: PictureObjects, size: tuple[int, int]) -> PictureObjects:
    """Resize everything to (height, width)."""
    if scene.size == size:
        return scene
    scale_y, scale_x = size[0] / scene.size[0], size[1] / scene.size[1]
    return replace(
        scene,
        image=resize_picture(scene.image, size),
        boxes=clip_boxes(scene.boxes * torch.tensor([scale_x, scale_y, scale_x, scale_y]), size),
        outlines=tuple(
            replace(outline, placement=outline.placement.resized(scale_x, scale_y))
            for outline in scene.outlines
        ),
        semantic=None if scene.semantic is None else resize_mask(scene.semantic, size),
    )


def cropped(scene: PictureObjects, top: int, left: int, size: tuple[int, int]) -> PictureObjects:
    """Cut a window of (height, width) out, and drop the objects whose boxes do not reach into it."""
    height, width = size
    window = (..., slice(top, top + height), slice(left, left + width))
    moved = scene.boxes - torch.tensor([left, top, left, top], dtype=torch.float32)
    changed = replace(
        scene,
        image=scene.image[window],
        boxes=clip_boxes(moved, size),
        outlines=tuple(
            replace(outline, placement=outline.placement.cropped(left, top)) for outline in scene.outlines
        ),
        semantic=None if scene.semantic is None else scene.semantic[window],
    )
    return changed.take(torch.nonzero(has_area(changed.boxes)).flatten())


def flipped(scene: PictureObjects) -> PictureObjects:
    """Flip everything from left to right."""
    width = scene.size[1]
    left, top, right, bottom = scene.boxes.unbind(1)
    return replace(
        scene,
        image=scene.image.flip(-1),
        boxes=torch.stack([width - right, top, width - left, bottom], dim=1),
        outlines=tuple(
            replace(outline, placement=outline.placement.flipped(width)) for outline in scene.outlines
        ),
        semantic=None if scene.semantic is None else scene.semantic.flip(-1),
    )


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) cut off at the edges of a picture of (height, width)."""
    height, width = size
    return boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=boxes.dtype))


def has_area(boxes: Tensor, least: float = 0.0) -> Tensor:
    """Which boxes (N, 4) are wider and higher than ``least`` pixels: bool (N,)."""
    return ((boxes[:, 2:] - boxes[:, :2]) > least).all(1)


def boxes_of(masks: Tensor) -> Tensor:
    """The smallest boxes around masks bool (N, H, W): float32 (N, 4), zeros for empty masks."""
    boxes = torch.zeros(len(masks), 4)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        if len(rows):
            box[0], box[1], box[2], box[3] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
