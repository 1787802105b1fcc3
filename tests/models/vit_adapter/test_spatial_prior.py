from __future__ import annotations

import pytest
import torch
from torch import nn

from imglish.models.vit_adapter.spatial_prior import SpatialPrior
from tests.models.vit_adapter.tiny import pictures, unsettle

STRIDES = (4, 8, 16, 32)
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order


def build() -> SpatialPrior:
    torch.manual_seed(0)
    prior = SpatialPrior(width=10, stem_width=4, norm=nn.BatchNorm2d).eval()
    unsettle(prior)
    return prior


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
def test_the_maps_have_strides_of_4_8_16_and_32(size: tuple[int, int]) -> None:
    maps = build()(pictures(*size))
    assert [tuple(x.shape) for x in maps] == [(2, 10, size[0] // s, size[1] // s) for s in STRIDES]


def test_rows_stay_rows_and_columns_stay_columns() -> None:
    """With every kernel transposed, a transposed picture gives transposed maps."""
    prior = build()
    expected = prior(pictures())
    with torch.no_grad():
        for parameter in prior.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.mT.clone())
    for ours, straight in zip(prior(pictures().mT.contiguous()), expected, strict=True):
        torch.testing.assert_close(ours.mT, straight, **ROUNDING)


def test_a_change_in_the_picture_stays_near_its_place() -> None:
    prior = build()
    changed = pictures(96, 160)
    changed[:, :, 40:44, 120:124] += 1
    # Half of the receptive field in pixels: kernels of 3 at strides 1, 2, 2, 2 (the pool), then 4, 8, 16.
    reach = (1 + 2 + 2 + 2, 1 + 2 + 2 + 2 + 4, 1 + 2 + 2 + 2 + 4 + 8, 1 + 2 + 2 + 2 + 4 + 8 + 16)
    for before, after, stride, far in zip(
        prior(pictures(96, 160)), prior(changed), STRIDES, reach, strict=True
    ):
        rows, columns = (before != after).any(dim=1)[0].nonzero(as_tuple=True)
        assert len(rows) > 0
        assert (rows * stride >= 40 - far).all() and (rows * stride < 44 + far).all()
        assert (columns * stride >= 120 - far).all() and (columns * stride < 124 + far).all()


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_each_map_has_the_projection_of_its_number(level: int) -> None:
    prior = build()
    before = prior(pictures())
    projection = (prior.fc1, prior.fc2, prior.fc3, prior.fc4)[level]
    nn.init.constant_(projection.weight, 0.0)
    nn.init.constant_(projection.bias, 2.0)  # type: ignore[arg-type]
    for index, (old, new) in enumerate(zip(before, prior(pictures()), strict=True)):
        assert torch.equal(new, torch.full_like(old, 2.0) if index == level else old)


def test_the_widths_of_the_paper() -> None:
    prior = SpatialPrior(width=768, stem_width=64, norm=nn.BatchNorm2d)
    convolutions = [m for m in prior.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.stride[0]) for m in convolutions] == [
        (3, 64, 2), (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 256, 2),
        (64, 768, 1), (128, 768, 1), (256, 768, 1), (256, 768, 1),
    ]  # fmt: skip
    # Convolutions before a norm have no bias; those after the last norm have one.
    assert [m.bias is not None for m in convolutions] == [False] * 6 + [True] * 4


def test_the_norm_is_the_one_asked_for() -> None:
    prior = SpatialPrior(width=10, stem_width=4, norm=nn.SyncBatchNorm)
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in prior.modules()) == 6
    assert not any(isinstance(m, nn.BatchNorm2d) for m in prior.modules())
