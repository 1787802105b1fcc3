from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imglish.data.world.annotate import CLASSES, annotate
from imglish.data.world.scene import SHAPES, STUFF, Scene, WorldConfig, draw_scene
from tests.data.world.geometry import band_at, covers, on_edge

# Pixel centres this near to an edge may fall on either side by rounding, in pixels.
EDGE = 1e-3

CASES = [("easy", 64, 0), ("easy", 64, 1), ("full", 64, 3), ("full", 64, 11), ("full", 80, 19)]


@pytest.mark.parametrize(("level", "size", "index"), CASES)
def test_masks_and_maps_agree_with_the_geometry_pixel_by_pixel(level: str, size: int, index: int) -> None:
    scene = draw_scene(WorldConfig(level=level, picture_size=size), "validation", index)  # type: ignore[arg-type]
    annotation = annotate(scene)
    for row in range(size):
        for column in range(size):
            x, y = column + 0.5, row + 0.5
            seen = [i for i, thing in enumerate(scene.things) if covers(thing, x, y)]
            nearest = max(seen, default=None)
            if nearest is None:
                expected = scene.regions[band_at(scene, x, y)].stuff
            else:
                expected = scene.things[nearest].shape
            masked = [i for i, mask in enumerate(annotation.things_masks) if mask[row, column]]
            agrees = masked == ([] if nearest is None else [nearest])
            agrees = agrees and CLASSES[annotation.semantic[row, column]] == expected
            assert agrees or on_edge(scene, x, y, EDGE), (row, column, expected)


def test_classes_are_stuff_then_shapes() -> None:
    assert CLASSES == (*STUFF, *SHAPES) and len(set(CLASSES)) == 18


@pytest.mark.parametrize("level", ["easy", "full"])
def test_boxes_hold_the_visible_part_and_touch_it_on_four_sides(level: str) -> None:
    for index in range(40):
        scene = draw_scene(WorldConfig(level=level), "train", index)  # type: ignore[arg-type]
        annotation = annotate(scene)
        assert annotation.boxes_xyxy.shape == (len(scene.things), 4)
        for mask, box in zip(annotation.things_masks, annotation.boxes_xyxy, strict=True):
            left, top, right, bottom = box.astype(int)
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            inner = mask[top:bottom, left:right]
            assert inner[0].any() and inner[-1].any() and inner[:, 0].any() and inner[:, -1].any()


@pytest.mark.parametrize(("level", "least"), [("easy", 0.7), ("full", 0.38)])
def test_enough_of_every_thing_and_region_is_visible(level: str, least: float) -> None:
    occluded = 0
    for index in range(150):
        scene = draw_scene(WorldConfig(level=level), "train", index)  # type: ignore[arg-type]
        annotation = annotate(scene)
        for i, (thing, mask) in enumerate(zip(scene.things, annotation.things_masks, strict=True)):
            alone = annotate(_only(scene, i)).things_masks[0]
            assert mask.sum() >= least * alone.sum(), (index, thing)
            occluded += int(mask.sum() < alone.sum())
        for region in scene.regions:
            assert (annotation.semantic == CLASSES.index(region.stuff)).mean() > 0.03
    assert occluded > 5


def _only(scene: Scene, i: int) -> Scene:
    return replace(scene, things=(scene.things[i],))


def test_panoptic_segments_part_the_picture() -> None:
    for index in range(40):
        scene = draw_scene(WorldConfig(level="full"), "train", index)
        annotation = annotate(scene)
        assert {segment.number for segment in annotation.segments} == set(np.unique(annotation.panoptic))
        for segment in annotation.segments:
            mask = annotation.panoptic == segment.number
            assert set(annotation.semantic[mask]) == {segment.class_id}
            if segment.thing is None:
                assert CLASSES[segment.class_id] in STUFF
            else:
                assert CLASSES[segment.class_id] == scene.things[segment.thing].shape
                np.testing.assert_array_equal(mask, annotation.things_masks[segment.thing])
