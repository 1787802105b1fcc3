"""Class maps in colour: the colours, what lies under them, and the legend beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish import Predictor
from imglish.data.formats.segmentation_classes import ADE20K, CITYSCAPES, COCO_STUFF
from imglish.inference.drawing import draw_classes, draw_objects, draw_segments, present_classes
from imglish.inference.palettes import class_colors
from imglish.structures.instances import PanopticMap
from tests.inference.tiny_weights import pixels, segmenter

NAMES = ("sky", "fish", "star")


def test_published_classes_have_their_published_colours() -> None:
    ade = class_colors(ADE20K)
    assert ade.shape == (150, 3) and ade.dtype == np.uint8
    told = {name: tuple(ade[ADE20K.index(name)].tolist()) for name in ("wall", "sky", "person", "flag")}
    assert told == {
        "wall": (120, 120, 120),
        "sky": (6, 230, 230),
        "person": (150, 5, 61),
        "flag": (92, 0, 255),
    }
    streets = class_colors(CITYSCAPES)
    assert streets[0].tolist() == [128, 64, 128] and streets[13].tolist() == [0, 0, 142]  # road, car
    assert streets.shape == (19, 3)


@pytest.mark.parametrize("number", [2, 21, 171, 255])
def test_other_classes_have_colours_that_differ_and_stay(number: int) -> None:
    names = COCO_STUFF if number == 171 else [f"class {n}" for n in range(number)]
    colors = class_colors(names).astype(int)
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 999 * np.eye(number, dtype=int)
    assert apart.min() >= (64 if number <= 21 else 32) and 31 <= colors.min() and colors.max() <= 255
    longer = class_colors([*names, "one more"]) if number < 255 else colors
    np.testing.assert_array_equal(colors, longer[:number])


def test_no_class_has_no_colour() -> None:
    assert class_colors([]).shape == (0, 3)


def test_colours_lie_over_the_picture_and_ignored_pixels_stay_bare() -> None:
    image = np.full((600, 4, 3), 100, np.uint8)  # of several strips
    classes = np.zeros((600, 4), np.int64)
    classes[300:, 2:], classes[0, 0] = 2, 255
    drawn = np.asarray(draw_classes(image, classes, NAMES, opacity=0.5, legend=False))
    colors = class_colors(NAMES)
    for place, number in (((599, 3), 2), ((599, 0), 0), ((10, 3), 0)):
        np.testing.assert_allclose(drawn[place], (100 + colors[number].astype(float)) / 2, atol=0.5)
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert (drawn[1:300] == drawn[1, 0]).all() and (drawn[300:, 2:] == drawn[599, 3]).all()  # every row
    whole = np.asarray(draw_classes(image, classes, NAMES, opacity=1.0, legend=False))
    assert (whole[599, 3] == colors[2]).all()
    assert (np.asarray(draw_classes(image, classes, NAMES, opacity=0.0, legend=False)) == image).all()
    assert (image == 100).all()  # what was given is left alone
    bright = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    half = draw_classes(bright, np.array([[0, 0], [0, 255]]), NAMES, opacity=0.5, legend=False)
    expected = (0.299 * 255 + colors[0].astype(float)) / 2  # over grey; BT.601's share of red
    np.testing.assert_allclose(np.asarray(half)[0, 0], expected, atol=1)
    assert np.asarray(half)[1, 1].tolist() == [255, 0, 0]


def test_a_picture_in_which_no_class_was_found_is_shown_as_it_is() -> None:
    image = pixels(4, 6)
    drawn = draw_classes(image, np.full((4, 6), -1), ())
    np.testing.assert_array_equal(np.asarray(drawn), image)


def test_the_legend_has_the_colours_of_the_classes_that_are_there() -> None:
    classes = np.zeros((40, 30), np.int64)
    classes[:5] = 2
    plain = draw_classes(np.zeros((40, 30, 3), np.uint8), classes, NAMES, legend=False)
    told = draw_classes(np.zeros((40, 30, 3), np.uint8), classes, NAMES)
    assert told.height == 40 and told.width > 30
    np.testing.assert_array_equal(np.asarray(told)[:, :30], np.asarray(plain))
    beside = {tuple(color) for color in np.asarray(told)[:, 30:].reshape(-1, 3).tolist()}
    sky, fish, star = (tuple(color) for color in class_colors(NAMES).tolist())
    assert {sky, star} <= beside and fish not in beside


def test_a_legend_of_many_classes_takes_columns() -> None:
    names = [f"class {number}" for number in range(60)]
    classes = np.arange(60, dtype=np.int64).repeat(60).reshape(60, 60)
    told = draw_classes(np.zeros((60, 60, 3), np.uint8), classes, names)
    beside = {tuple(color) for color in np.asarray(told)[:, 60:].reshape(-1, 3).tolist()}
    assert {tuple(color) for color in class_colors(names).tolist()} <= beside and told.height == 60


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="sizes must agree"):
        draw_classes(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.int64), NAMES)
    with pytest.raises(ValueError, match="opacity must lie"):
        draw_classes(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.int64), NAMES, opacity=1.5)


def test_classes_that_are_there_come_by_their_size() -> None:
    assert present_classes(np.array([2, 2, 2, 0, 255, 255, 255, 255, -1]), 3) == [2, 0]


def test_an_answer_draws_itself(tmp_path: Path) -> None:
    picture = pixels(20, 40)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = Predictor(segmenter()).segment(tmp_path / "a.png")
    drawn = found.draw(tmp_path / "a.png", opacity=0.4)
    assert drawn.mode == "RGB" and drawn.height >= 20 and drawn.width > 40
    expected = draw_classes(picture, found.classes, found.names, opacity=0.4)
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(expected))


def test_segments_have_the_colours_of_their_classes_and_white_lines_between_them() -> None:
    image, names = np.full((4, 9, 3), 100, np.uint8), ("cat", "dog")
    ids = np.repeat([[7, 7, 7, 300, 300, 0, 0, 2, 2]], 4, axis=0).astype(np.int32)
    found = PanopticMap(
        ids=ids, segment_ids=np.array([300, 7, 2, 55]), labels=np.array([1, 1, 0, 0]),
        crowd=np.zeros(4, np.bool_),
    )  # fmt: skip
    drawn = np.asarray(draw_segments(image, found, names))
    classes = np.where(ids == 2, 0, np.where(ids == 0, -1, 1)).astype(np.int64)
    expected = np.array(draw_classes(image, classes, names, legend=False))
    expected[:, [3, 5, 7]] = 255  # two cats, side by side, are told apart
    np.testing.assert_array_equal(drawn, expected)
    none = np.zeros(0, np.int64)
    nothing = PanopticMap(ids=0 * ids, segment_ids=none, labels=none, crowd=none.astype(np.bool_))
    np.testing.assert_array_equal(draw_segments(image, nothing, names), image)
    upright = PanopticMap(
        ids=ids.T.copy(), segment_ids=found.segment_ids, labels=found.labels, crowd=found.crowd
    )
    turned = draw_segments(image.transpose(1, 0, 2).copy(), upright, names)
    np.testing.assert_array_equal(np.asarray(turned), drawn.transpose(1, 0, 2))
    with pytest.raises(ValueError, match="sizes must agree"):
        draw_segments(image[:2], found, names)


def test_objects_have_frames_names_and_masks_in_the_colours_of_their_classes() -> None:
    grey = np.full((100, 120, 3), 128, np.uint8)
    mask = np.zeros((100, 120), np.bool_)
    mask[50:80, 50:90] = True
    behind = np.ones((100, 120), np.bool_)
    colors = class_colors(NAMES).astype(int)
    drawn = np.asarray(
        draw_objects(grey, [(50, 50, 90, 80), (0, 0, 120, 100)], [2, 0], NAMES, scores=[0.9, 0.5],
                     masks=[mask, behind], opacity=0.5, zoom=1)
    ).astype(int)  # fmt: skip
    assert drawn.shape == grey.shape
    assert (drawn[79, 60:90] == colors[2]).all() and (drawn[50:80, 89] == colors[2]).all()
    np.testing.assert_allclose(drawn[65, 70], (128 + colors[2]) / 2, atol=1)  # the first mask is on top
    np.testing.assert_allclose(drawn[90, 30], (128 + colors[0]) / 2, atol=1)
    assert (drawn[36:49, 50:75] == colors[2]).all(axis=-1).any()  # its name stands above the frame
    bare = np.asarray(draw_objects(grey, [(50, 50, 90, 80)], [2], NAMES, zoom=1))
    assert (bare[65, 70] == 128).all() and (bare[79, 60:90] == colors[2]).all()
    # No place above, a box without area, and none at all.
    assert draw_objects(grey, [(0, 0, 40, 0), (3, 1, 3, 9)], [0, 1], NAMES).size == (240, 200)
    large = np.asarray(draw_objects(grey, [(50, 50, 90, 80)], [2], NAMES, zoom=3)).astype(int)
    assert (large[239, 180:270] == colors[2]).all() and large.shape == (300, 360, 3)
    at_the_edge = np.asarray(draw_objects(grey, [(110, 50, 120, 80)], [2], NAMES, zoom=1)).astype(int)
    assert (at_the_edge[36:49, 80:100] == colors[2]).all(axis=-1).any()  # its name begins further left
    assert (np.asarray(draw_objects(grey, [], [], NAMES, zoom=1)) == grey).all()


def test_the_first_object_lies_on_top_and_small_pictures_are_enlarged() -> None:
    grey, box = np.full((60, 200, 3), 128, np.uint8), (50.0, 30.0, 90.0, 55.0)
    colors = class_colors(NAMES)
    drawn = np.asarray(draw_objects(grey, [box, box], [2, 0], NAMES, zoom=1))
    assert (drawn[54, 50:90] == colors[2]).all()
    assert draw_objects(grey, [box], [2], NAMES).size == (4 * 200, 4 * 60)  # 256 pixels fit 60 four times


def test_a_name_without_place_above_stands_within() -> None:
    grey = np.full((100, 120, 3), 128, np.uint8)
    drawn = np.asarray(draw_objects(grey, [(10, 2, 100, 90)], [2], NAMES, zoom=1))
    assert (drawn[4:12, 12:30] == class_colors(NAMES)[2]).all(axis=-1).any()


def test_names_are_black_on_bright_colours_and_white_on_dark_ones() -> None:
    names = [f"class {number}" for number in range(21)]
    brightness = class_colors(names) @ np.array([0.3, 0.59, 0.11])
    grey = np.full((100, 200, 3), 128, np.uint8)
    for label in (int(brightness.argmin()), int(brightness.argmax())):
        drawn = np.asarray(draw_objects(grey, [(20, 50, 190, 90)], [label], names, zoom=1))
        written = drawn[36:49, 22:60].reshape(-1, 3)
        shade = (written @ np.array([0.3, 0.59, 0.11])) - brightness[label]
        assert abs(shade).max() > 100  # it can be read
        assert (shade[abs(shade).argmax()] < 0) == (brightness[label] > 128)


def test_masks_of_another_size_are_refused() -> None:
    grey = np.full((10, 12, 3), 128, np.uint8)
    with pytest.raises(ValueError, match="sizes must agree"):
        draw_objects(grey, [(0, 0, 1, 1)], [0], NAMES, masks=[np.ones((12, 10), np.bool_)])
    with pytest.raises(ValueError, match="opacity must lie in"):
        draw_objects(grey, [], [], NAMES, opacity=2)
    with pytest.raises(ValueError, match="zoom must be at least 1"):
        draw_objects(grey, [], [], NAMES, zoom=0)
