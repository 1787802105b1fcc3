"""Boxes, masks, semantic map and panoptic segments of a scene, from its geometry, never its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imglish.data.world.render import region_depth
from imglish.data.world.scene import SHAPES, STUFF, Scene
from imglish.data.world.shapes import Window

# Semantic classes in the order of their ids: stuff first, then things.
CLASSES: tuple[str, ...] = STUFF + SHAPES


@dataclass(frozen=True, slots=True)
class Segment:
    """One panoptic segment.

    Args:
        number: Its value in the panoptic map, from 1.
        class_id: Index into CLASSES.
        thing: Index into the scene's things, or None for stuff.
    """

    number: int
    class_id: int
    thing: int | None


@dataclass(frozen=True, slots=True)
class Annotation:
    """What there is to find in a picture. T things, in the scene's order; height and width H = W.

    Args:
        things_masks: bool (T, H, W), True where the thing is seen: its silhouette covers at least half of the
            pixel and no nearer one does.
        boxes_xyxy: float (T, 4), the smallest box around the visible part, in pixels.
        semantic: uint8 (H, W), indices into CLASSES.
        panoptic: int32 (H, W), numbers of the segments; every pixel has one.
        segments: Those that have at least one pixel; stuff first.
    """

    things_masks: NDArray[np.bool_]
    boxes_xyxy: NDArray[np.float32]
    semantic: NDArray[np.uint8]
    panoptic: NDArray[np.int32]
    segments: tuple[Segment, ...]


def annotate(scene: Scene) -> Annotation:
    """Derive every dense annotation of a scene."""
    size, num_stuff = scene.picture_size, len(scene.regions)
    # The segment's number is the position in this list plus one: regions from the top, then things.
    class_ids = [CLASSES.index(region.stuff) for region in scene.regions]
    class_ids += [CLASSES.index(thing.shape) for thing in scene.things]
    panoptic = np.ones((size, size), dtype=np.int32)
    for number, region in enumerate(scene.regions[1:], start=2):
        panoptic[region_depth(region, size) >= 0] = number
    for number, thing in enumerate(scene.things, start=num_stuff + 1):
        window = Window(thing.centre, thing.radius, size)
        panoptic[window.rows, window.columns][window.distance(thing.shape) <= 0] = number

    numbers = np.arange(num_stuff + 1, len(class_ids) + 1, dtype=np.int32)
    masks = panoptic == numbers[:, None, None]
    present = np.bincount(panoptic.ravel(), minlength=len(class_ids) + 1) > 0
    return Annotation(
        things_masks=masks,
        boxes_xyxy=np.array([_box(mask) for mask in masks], dtype=np.float32).reshape(-1, 4),
        semantic=np.array([0, *class_ids], dtype=np.uint8)[panoptic],
        panoptic=panoptic,
        segments=tuple(
            Segment(number, class_id, None if number <= num_stuff else number - num_stuff - 1)
            for number, class_id in enumerate(class_ids, start=1)
            if present[number]
        ),
    )


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
