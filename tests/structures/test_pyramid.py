from __future__ import annotations

import pytest
import torch

from imglish.structures.pyramid import FeaturePyramid


def test_a_pyramid_gives_its_maps_and_their_sizes_by_stride() -> None:
    fine, coarse = torch.zeros(2, 8, 13, 18), torch.zeros(2, 8, 7, 9)
    pyramid = FeaturePyramid({4: fine, 8: coarse})
    assert pyramid[4] is fine and pyramid[8] is coarse
    assert pyramid.strides == (4, 8)
    assert pyramid.sizes() == {4: (13, 18), 8: (7, 9)}


def test_a_stride_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        FeaturePyramid({4: torch.zeros(1, 1, 2, 2)})[16]


@pytest.mark.parametrize("strides", [(8, 4), (4, 16, 8), ()])
def test_strides_out_of_order_are_refused(strides: tuple[int, ...]) -> None:
    maps = {stride: torch.zeros(1, 1, 64 // stride, 64 // stride) for stride in strides}
    with pytest.raises(ValueError, match="ascending order"):
        FeaturePyramid(maps)
