from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imglish.models.necks.fpn import ExtraSource, Fpn
from imglish.structures.pyramid import FeaturePyramid


def pyramid(widths: tuple[int, ...] = (6, 6, 6, 6)) -> FeaturePyramid:
    g = torch.Generator().manual_seed(1)
    return FeaturePyramid(
        {4 << i: torch.randn(2, c, 16 >> i, 24 >> i, generator=g) for i, c in enumerate(widths)}
    )


def test_all_levels_get_one_width_and_keep_their_sizes() -> None:
    given = pyramid((3, 4, 5, 6))
    found = Fpn((3, 4, 5, 6), 8)(given)
    assert found.sizes() == given.sizes()
    assert {x.shape[1] for x in found.maps.values()} == {8}


def test_a_level_learns_of_the_coarser_ones_only() -> None:
    neck, given = Fpn((6,) * 4, 8), pyramid()
    before = neck(given)
    changed = FeaturePyramid({**given.maps, 16: given[16] + 1})
    after = neck(changed)
    differs = {stride: not torch.equal(after[stride], before[stride]) for stride in given.strides}
    assert differs == {4: True, 8: True, 16: True, 32: False}


def test_a_cell_is_handed_down_to_the_cells_below_it() -> None:
    neck = Fpn((1, 1), 1)
    for conv in (*neck.laterals, *neck.outputs):
        torch.nn.init.dirac_(conv.weight)
    coarse = torch.tensor([[1.0, 2.0]]).view(1, 1, 1, 2)
    found = neck(FeaturePyramid({4: torch.zeros(1, 1, 2, 3), 8: coarse}))
    torch.testing.assert_close(found[4][0, 0], torch.tensor([[1.0, 1.0, 2.0]] * 2))  # nearest, cut to size


def test_levels_are_left_out_at_the_fine_end_and_added_at_the_coarse_one() -> None:
    neck, given = Fpn((3, 4, 5, 6), 8, first_level=1, num_extra=2, extra="output"), pyramid((3, 4, 5, 6))
    found = neck(given)
    assert found.sizes() == {8: (8, 12), 16: (4, 6), 32: (2, 3), 64: (1, 2), 128: (1, 1)}
    finer = neck(FeaturePyramid({**given.maps, 4: given[4] + 1}))
    assert all(torch.equal(finer[stride], found[stride]) for stride in found.strides)


def test_a_pooled_level_is_every_second_cell() -> None:
    found = Fpn((6,) * 4, 8, num_extra=2)(pyramid())
    assert torch.equal(found[64], F.max_pool2d(found[32], 1, stride=2))
    assert torch.equal(found[128], found[64][:, :, :1, :1])


@pytest.mark.parametrize("extra", ["input", "lateral", "output"])
@pytest.mark.parametrize("extra_relu", [False, True])
def test_added_levels_are_made_of_what_they_should(extra: ExtraSource, extra_relu: bool) -> None:
    neck = Fpn((3, 4), 8, num_extra=2, extra=extra, extra_relu=extra_relu)
    given = pyramid((3, 4))
    found = neck(given)
    sources = {"input": given[8], "lateral": neck.laterals[1](given[8]), "output": found[8]}
    first = neck.outputs[2](sources[extra])
    torch.testing.assert_close(found[16], first)
    torch.testing.assert_close(found[32], neck.outputs[3](first.relu() if extra_relu else first))


def test_norms_stand_behind_every_convolution() -> None:
    neck = Fpn((3, 4), 8, num_extra=1, norm=partial(nn.GroupNorm, 4))
    found = neck(pyramid((3, 4)))
    assert "laterals.1.norm.weight" in neck.state_dict() and "outputs.0.conv.bias" not in neck.state_dict()
    groups = found[8].detach().unflatten(1, (4, -1)).flatten(2)
    assert groups.mean(dim=2).abs().max() < 1e-5
    with pytest.raises(ValueError, match="pooled"):
        Fpn((3, 4), 8, num_extra=1, extra="output", norm=nn.BatchNorm2d)


@pytest.mark.parametrize("first_level", [-1, 2])
def test_a_pyramid_without_levels_is_refused(first_level: int) -> None:
    with pytest.raises(ValueError, match="first_level"):
        Fpn((3, 4), 8, first_level=first_level)
