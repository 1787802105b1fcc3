"""Anchors lie where, and are as large as, computed by hand."""

from __future__ import annotations

import pytest
import torch

from imglish.ops.anchors import (
    AnchorShapes,
    cell_anchors,
    cells_on_picture,
    inside_picture,
    level_anchors,
    level_sizes,
    octave_scales,
    pyramid_anchors,
    square_levels,
)

SHAPES = AnchorShapes(ratios=(0.25, 1.0), scales=(1.0, 3.0))


def test_anchors_of_a_cell_come_ratio_by_ratio() -> None:
    sides = [(8, 2), (24, 6), (4, 4), (12, 12)]  # (width, height)
    expected = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides])
    torch.testing.assert_close(cell_anchors(4, SHAPES), expected)
    assert len(SHAPES) == 4


def test_a_level_goes_row_by_row_from_the_corner_of_cells() -> None:
    found = level_anchors((2, 3), 4, SHAPES).view(2, 3, 4, 4)
    cell = cell_anchors(4, SHAPES)
    torch.testing.assert_close(found[0, 0], cell)
    torch.testing.assert_close(found[1, 2], cell + torch.tensor([8.0, 4, 8, 4]))


def test_octaves_end_before_the_double() -> None:
    assert octave_scales(4, 2) == pytest.approx((4, 4 * 2**0.5))


def test_levels_have_anchors_of_their_strides() -> None:
    sizes = level_sizes((33, 64), (16, 32))
    assert sizes == {16: (3, 4), 32: (2, 2)}
    fine, coarse = pyramid_anchors(sizes, SHAPES)
    assert (len(fine), len(coarse)) == (3 * 4 * 4, 2 * 2 * 4)
    levels = square_levels(sizes, 8)
    assert [len(x) for x in levels.anchors] == [12, 4] and levels.grids == ((3, 4), (2, 2))
    assert levels.anchors[1][0].tolist() == [-128, -128, 128, 128]


def test_cells_on_the_padding_are_told() -> None:
    found = cells_on_picture((3, 4), 8, (17, 16), num_anchors=2).view(3, 4, 2)
    assert found[..., 0].tolist() == [[True, True, False, False]] * 3  # a row with one pixel counts
    assert torch.equal(found[..., 0], found[..., 1])
    assert not cells_on_picture((3, 4), 8, (16, 32)).view(3, 4)[2].any()


def test_anchors_that_reach_out_are_told() -> None:
    anchors = torch.tensor([[0.0, 0, 9, 4], [-1, 0, 9, 4], [0, 0, 10, 4], [0, 0, 9, 5]])
    assert inside_picture(anchors, (5, 10)).tolist() == [True, False, False, False]
    assert inside_picture(anchors, (5, 10), border=1).tolist() == [True, True, True, True]


@pytest.mark.parametrize("values", [(), (0.0,), (1.0, -1.0)])
def test_sizes_that_are_none_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ratios"):
        AnchorShapes(ratios=values)
