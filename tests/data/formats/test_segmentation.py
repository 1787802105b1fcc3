from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_masks

from imglish.data.formats.segmentation import Polygons, RunLengths, encode_mask
from imglish.errors import DataFormatError

masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(masks)
def test_compressed_run_lengths_decode_to_the_mask_that_pycocotools_encoded(mask: np.ndarray) -> None:
    encoded = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    decoded = RunLengths(mask.shape, encoded["counts"].decode()).to_mask()
    np.testing.assert_array_equal(decoded, mask)


def test_long_runs_take_several_characters() -> None:
    mask = np.zeros((500, 700), dtype=bool)
    mask[3:490, 100:680] = True
    mask[200:210] = False
    encoded = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(RunLengths(mask.shape, encoded["counts"].decode()).to_mask(), mask)


def test_plain_run_lengths_go_down_the_columns() -> None:
    mask = RunLengths((2, 3), (1, 2, 3)).to_mask()
    assert mask.tolist() == [[False, True, False], [True, False, False]]


def test_polygons_are_filled_as_pycocotools_fills_them() -> None:
    points = ((2.0, 2.0, 12.5, 2.0, 12.5, 9.0, 2.0, 9.0), (1.0, 12.0, 6.0, 12.0, 3.0, 17.0))
    expected = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects([list(p) for p in points], 20, 16)))
    mask = Polygons((20, 16), points).to_mask()
    assert mask.dtype == np.bool_ and mask.any()
    np.testing.assert_array_equal(mask, expected.astype(bool))


@pytest.mark.parametrize(
    "counts", [(1, 2), (7,), (8, -2), "`o0", "", "ab\u00e9\u00e9", "0" * 5, "o" * 13 + "0"]
)
def test_run_lengths_that_are_damaged_are_refused(counts: str | tuple[int, ...]) -> None:
    with pytest.raises(DataFormatError, match="run lengths"):
        RunLengths((2, 3), counts).to_mask()


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_string_either_decodes_or_is_refused(counts: str) -> None:
    try:
        assert RunLengths((3, 4), counts).to_mask().shape == (3, 4)
    except DataFormatError:
        pass


@pytest.mark.parametrize("counts", ["~~~", "52", (5, 5)])
def test_damaged_run_lengths_are_not_handed_to_cocos_tools(counts: str | tuple[int, ...]) -> None:
    with pytest.raises(DataFormatError, match="run lengths"):
        RunLengths((3, 4), counts).to_coco()


def test_run_lengths_and_polygons_know_their_box_and_coco_form() -> None:
    mask = np.zeros((6, 8), np.bool_)
    mask[1:3, 2:7] = True
    string = encode_mask(mask)
    assert RunLengths((6, 8), string.decode()).to_coco() == string
    assert RunLengths((6, 8), string.decode()).box_xyxy() == (2, 1, 7, 3)
    assert RunLengths((6, 8), (48,)).box_xyxy() == (0, 0, 0, 0)
    polygon = Polygons((6, 8), ((2, 1, 7, 1, 7, 3, 2, 3),))
    assert polygon.to_coco() == string and polygon.box_xyxy() == (2, 1, 7, 3)
