"""Deformable attention against a reference that samples pixel by pixel."""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from imglish.ops.deformable_attention import Form, LevelSizes, deformable_attention, reference_points

SIZES: LevelSizes = ((3, 5), (2, 1), (4, 4))  # no two levels alike, none of the first two square
NUM_PIXELS = 15 + 2 + 16
ROUNDING = {"rtol": 1e-9, "atol": 1e-12}  # float64, summed in another order
FORMS: tuple[Form, ...] = ("reference", "gather", "export")  # Triton's: test_deformable_forms.py


def bilinear(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Value (C,) of an image (H, W, C) at pixel coordinates; what lies outside is zero."""
    height, width = image.shape[:2]
    left, top = math.floor(x.item()), math.floor(y.item())
    total = torch.zeros_like(image[0, 0])
    for row, column in product((top, top + 1), (left, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            total = total + (1 - abs(x - column)) * (1 - abs(y - row)) * image[row, column]
    return total


def one_by_one(values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
    """The definition, a loop for each axis: pixel i of n has its centre at (i + 0.5) / n."""
    batch, queries, heads, _, points, _ = locations.shape
    rows = []
    for b, q, head in product(range(batch), range(queries), range(heads)):
        total = torch.zeros_like(values[0, 0, 0])
        start = 0
        for level, (height, width) in enumerate(level_sizes):
            image = values[b, start : start + height * width, head].reshape(height, width, -1)
            start += height * width
            for point in range(points):
                place = locations[b, q, head, level, point]
                sample = bilinear(image, place[0] * width - 0.5, place[1] * height - 0.5)
                total = total + weights[b, q, head, level, point] * sample
        rows.append(total)
    return torch.stack(rows).reshape(batch, queries, -1)


def case(spread: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations and weights; ``spread`` 1 fills the picture, more goes beyond its rim."""
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(2, NUM_PIXELS, 2, 3, generator=g, dtype=torch.float64)
    places = torch.rand(2, 4, 2, len(SIZES), 2, 2, generator=g, dtype=torch.float64)
    weights = torch.randn(2, 4, 2, len(SIZES) * 2, generator=g, dtype=torch.float64).softmax(-1)
    return values, (places - 0.5) * spread + 0.5, weights.unflatten(3, (len(SIZES), 2))


# Within the picture, over its rim, and mostly far from it.
@pytest.mark.parametrize("spread", [0.5, 1.5, 6.0])
@pytest.mark.parametrize("form", FORMS)
def test_it_equals_the_definition(spread: float, form: Form) -> None:
    values, locations, weights = case(spread)
    expected = one_by_one(values, SIZES, locations, weights)
    assert expected.abs().max() > 0.01
    found = deformable_attention(values, SIZES, locations, weights, form=form)
    torch.testing.assert_close(found, expected, **ROUNDING)


@pytest.mark.parametrize("spread", [0.9, 1.5])
@pytest.mark.parametrize("form", FORMS)
def test_its_gradients_equal_those_of_the_definition(spread: float, form: Form) -> None:
    cotangent = torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for attend in (partial(deformable_attention, form=form), one_by_one):
        values, locations, weights = (tensor.requires_grad_() for tensor in case(spread))
        (attend(values, SIZES, locations, weights) * cotangent).sum().backward()
        gradients.append((values.grad, locations.grad, weights.grad))
    for ours, expected in zip(*gradients, strict=True):
        assert expected is not None and expected.abs().max() > 0.01
        torch.testing.assert_close(ours, expected, **ROUNDING)


@pytest.mark.parametrize("form", FORMS)
def test_its_gradients_equal_finite_differences(form: Form) -> None:
    values, locations, weights = (tensor[:1].clone().requires_grad_() for tensor in case(0.9, seed=3))
    assert torch.autograd.gradcheck(
        lambda v, p, w: deformable_attention(v, SIZES, p, w, form=form), (values, locations, weights)
    )


def test_at_the_pixel_centres_every_pixel_is_its_own_sample() -> None:
    values = case()[0]
    for level, (height, width) in enumerate(SIZES):
        places = reference_points(((height, width),)).double()[None, :, None, None, None]
        locations = places.expand(2, -1, 2, len(SIZES), 1, 2)
        weights = torch.zeros(2, height * width, 2, len(SIZES), 1, dtype=torch.float64)
        weights[:, :, :, level] = 1
        start = sum(h * w for h, w in SIZES[:level])
        own = values[:, start : start + height * width].flatten(2)
        # Centres such as 2.5 / 3 come from float32.
        torch.testing.assert_close(
            deformable_attention(values, SIZES, locations, weights), own, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("x", "y", "share"),
    [
        (0.5, 0.5, 1.0),
        (0.0, 0.5, 0.5),  # on the rim half of the sample lies outside
        (1.0, 1.0, 0.25),  # and in the corner three quarters
        (-0.125, 0.5, 0.0),  # half a pixel beyond the rim
        (0.5, 1.125, 0.0),
        (0.5, 40.0, 0.0),
        (-40.0, -40.0, 0.0),
    ],
)
def test_outside_the_picture_there_are_zeros(x: float, y: float, share: float) -> None:
    values = torch.full((1, 16, 1, 2), 3.0)
    locations = torch.tensor([x, y]).view(1, 1, 1, 1, 1, 2)
    sampled = deformable_attention(values, ((4, 4),), locations, torch.ones(1, 1, 1, 1, 1))
    torch.testing.assert_close(sampled, torch.full((1, 1, 2), 3.0 * share))


def test_a_point_far_outside_pulls_at_nothing() -> None:
    values, locations, weights = (tensor.requires_grad_() for tensor in case())
    far = locations + torch.tensor([5.0, 0.0])
    deformable_attention(values, SIZES, far, weights).sum().backward()
    assert values.grad is not None and not values.grad.any()
    assert locations.grad is not None and not locations.grad.any()


def test_the_first_coordinate_is_the_column() -> None:
    values = torch.arange(8.0).view(1, 8, 1, 1)  # rows 0 1 2 3 and 4 5 6 7
    locations = torch.tensor([3.5 / 4, 0.5 / 2]).view(1, 1, 1, 1, 1, 2)
    sampled = deformable_attention(values, ((2, 4),), locations, torch.ones(1, 1, 1, 1, 1))
    assert sampled.item() == pytest.approx(3.0)


def test_heads_do_not_mix() -> None:
    values, locations, weights = case()
    changed = values.clone()
    changed[:, :, 1] += 1
    before = deformable_attention(values, SIZES, locations, weights)
    after = deformable_attention(changed, SIZES, locations, weights)
    assert torch.equal(before[..., :3], after[..., :3])
    assert not torch.allclose(before[..., 3:], after[..., 3:], atol=0.01)


def test_reference_points_are_pixel_centres_row_by_row() -> None:
    points = reference_points(((1, 2), (2, 1)))
    expected = [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]
    torch.testing.assert_close(points, torch.tensor(expected), rtol=0, atol=0)
