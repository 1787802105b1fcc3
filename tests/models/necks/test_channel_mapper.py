from __future__ import annotations

import torch
from torch.nn import functional as F

from imglish.models.necks.channel_mapper import ChannelMapper
from imglish.structures.pyramid import FeaturePyramid
from tests.models.necks.test_fpn import pyramid


def test_each_level_is_mapped_by_itself_and_cut_at_zero() -> None:
    neck, given = ChannelMapper((3, 4, 5, 6), 8), pyramid((3, 4, 5, 6))
    found = neck(given)
    assert found.sizes() == given.sizes()
    for conv, stride in zip(neck.convs, given.strides, strict=True):
        torch.testing.assert_close(found[stride], F.relu(conv(given[stride])))


def test_added_levels_are_pooled() -> None:
    found = ChannelMapper((3, 4), 8, num_extra=1)(pyramid((3, 4)))
    torch.testing.assert_close(found[16], F.max_pool2d(found[8], 2))


def test_a_level_of_one_cell_is_its_own_pool() -> None:
    single = FeaturePyramid({32: torch.randn(1, 3, 1, 5)})
    found = ChannelMapper((3,), 8, num_extra=4)(single)
    assert found.sizes() == {32: (1, 5), 64: (1, 2), 128: (1, 1), 256: (1, 1), 512: (1, 1)}
