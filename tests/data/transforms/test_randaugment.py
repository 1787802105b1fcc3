from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from imglish.data.transforms.image import ImageTransform
from imglish.data.transforms.randaugment import (
    OPERATIONS,
    RandAugment,
    auto_contrast,
    brightness,
    rotation,
    sharpness,
    strength,
    warp,
)


def picture(low: int = 20, high: int = 240, size: tuple[int, int] = (18, 26)) -> Tensor:
    g = torch.Generator().manual_seed(4)
    return torch.randint(low, high, (3, *size), dtype=torch.uint8, generator=g)


def test_contrast_is_stretched_to_the_whole_range() -> None:
    stretched = auto_contrast(picture())
    assert stretched.amin((1, 2)).tolist() == [0, 0, 0]
    assert stretched.amax((1, 2)).min() >= 254  # the released code cuts fractions off
    assert (stretched.int() - TF.autocontrast(picture()).int()).abs().max() <= 1


def test_a_channel_of_one_value_keeps_it() -> None:
    image = picture()
    image[1] = 77
    assert (auto_contrast(image)[1] == 77).all()
    assert (auto_contrast(image, wrap=True)[1] == 77).all()


def test_the_released_contrast_turns_a_channel_white_unless_it_holds_black() -> None:
    image = picture()
    image[0, 0, 0] = 0
    wrapped = auto_contrast(image, wrap=True)
    torch.testing.assert_close(wrapped[0], auto_contrast(image)[0], rtol=0, atol=0)
    assert (wrapped[1:] == 255).all()


def test_brightness_multiplies_and_clips() -> None:
    image = torch.tensor([[[0, 10, 100, 250]]], dtype=torch.uint8).expand(3, 1, 4)
    assert brightness(image, 1.36)[0, 0].tolist() == [0, 13, 136, 255]


def test_sharpness_goes_from_smooth_through_the_picture_itself() -> None:
    image = picture()
    torch.testing.assert_close(sharpness(image, 1.0), image, rtol=0, atol=0)
    flat = torch.full((3, 5, 5), 90, dtype=torch.uint8)
    torch.testing.assert_close(sharpness(flat, 1.8), flat, rtol=0, atol=0)
    dot = flat.clone()
    dot[:, 2, 2] = 103
    assert sharpness(dot, 0.0)[0, 2].tolist() == [90, 91, 95, 91, 90]
    assert sharpness(dot, 1.5)[0, 2].tolist() == [90, 89, 107, 89, 90]


def test_sharpness_clips_where_the_released_code_wraps() -> None:
    image = torch.full((3, 3, 3), 230, dtype=torch.uint8)
    image[:, 1, 1] = 250
    smooth = round((8 * 230 + 5 * 250) / 13)
    sharp = int(smooth + 2.0 * (250 - smooth))
    assert sharp > 255
    assert sharpness(image, 2.0)[0, 1, 1] == 255
    assert sharpness(image, 2.0, wrap=True)[0, 1, 1] == sharp - 256


def test_a_shift_moves_whole_pixels_and_fills() -> None:
    image = picture()
    moved = warp(image, ((1, 0, -7), (0, 1, 0)), fill=128)
    torch.testing.assert_close(moved[:, :, :-7], image[:, :, 7:], rtol=0, atol=0)
    assert (moved[:, :, -7:] == 128).all()


def test_a_shear_moves_rows_by_their_number() -> None:
    image = picture()
    sheared = warp(image, ((1, 0.5, 0), (0, 1, 0)), fill=0)
    torch.testing.assert_close(sheared[:, 4, 2:], image[:, 4, :-2], rtol=0, atol=0)
    between = (image[:, 3, :-2].float() + image[:, 3, 1:-1].float()) / 2
    torch.testing.assert_close(sheared[:, 3, 2:].float(), between.round(), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(16, 16), (18, 26)])
def test_a_half_turn_is_a_flip_of_both_axes(size: tuple[int, int]) -> None:
    image = picture(size=size)
    turned = warp(image, rotation(180.0, *size), fill=128)
    # The centre of the released code is half a pixel off the middle, so row and column 0 come from outside.
    torch.testing.assert_close(turned[:, 1:, 1:], image.flip(1, 2)[:, :-1, :-1], rtol=0, atol=0)


def test_a_quarter_turn_goes_anticlockwise() -> None:
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[:, 1, 4] = 200  # above the centre, at (x, y) = (4, 4)
    assert (warp(image, rotation(90.0, 8, 8), fill=0)[0] > 100).nonzero().tolist() == [[4, 1]]


def test_strengths_are_those_of_the_released_recipes() -> None:
    recorded = {"brightness": 1.36, "sharpness": 1.36, "shear_x": 0.21, "translate_y": 7.0, "rotate": 21.0}
    assert {name: strength(name, 7) for name in recorded} == pytest.approx(recorded)  # type: ignore[arg-type]
    assert strength("equalize", 7) == 0


def test_the_same_generator_gives_the_same_picture_and_the_given_one_is_left_alone() -> None:
    image, augment = picture(), RandAugment(chance=1.0)
    before = image.clone()
    first, second = (augment(image, np.random.default_rng(seed)) for seed in (5, 5))
    assert torch.equal(first, second) and torch.equal(image, before)
    many = [augment(image, np.random.default_rng(seed)) for seed in range(12)]
    assert len({bytes(x.numpy().tobytes()) for x in many}) > 6


def test_every_operation_is_drawn_equally_often_and_in_both_directions() -> None:
    image, augment, draws = picture(), RandAugment(num_operations=1), 3000
    signed = [name for name in OPERATIONS if name.startswith(("shear", "translate", "rotate"))]
    shares = {(name, 1): 0.05 for name in OPERATIONS if name not in signed}
    shares |= {(name, sign): 0.025 for name in signed for sign in (-1, 1)}
    shares["identity", 1] += 0.5  # half of the operations are not applied
    results = {
        augment.apply(image, name, sign * strength(name, augment.magnitude)).numpy().tobytes(): (name, sign)
        for name, sign in shares
    }
    assert len(results) == len(shares)
    rng = np.random.default_rng(0)
    seen = Counter(results[augment(image, rng).numpy().tobytes()] for _ in range(draws))
    for what, share in shares.items():
        noise = 4 * (share * (1 - share) / draws) ** 0.5  # four standard deviations
        assert seen[what] / draws == pytest.approx(share, abs=noise), what


def test_the_transform_augments_the_resized_picture() -> None:
    transform = ImageTransform(size=(12, 12), augment=RandAugment(num_operations=1, chance=1.0))
    plain = ImageTransform(size=(12, 12))(picture(), np.random.default_rng(0))
    seen = [transform(picture(), np.random.default_rng(seed)) for seed in range(8)]
    assert all(x.shape == (3, 12, 12) for x in seen)
    assert sum(not torch.equal(x, plain) for x in seen) >= 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"magnitude": 11}, r"magnitude must lie in \[0, 10\]; got 11"),
        ({"chance": -0.1}, r"chance must lie in \[0, 1\]; got -0\.1"),
        ({"fill": 300}, r"fill must lie in \[0, 255\]; got 300"),
        ({"num_operations": -1}, "num_operations must not be negative; got -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandAugment(**settings)  # type: ignore[arg-type]
