from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imglish.data.transforms.segmentation import (
    RandomFlip,
    ScoringViews,
    SegmentationTraining,
    fit_into,
    resize_mask,
    resize_picture,
)

# cv2.resize of OpenCV 4.5.5 (INTER_LINEAR and INTER_NEAREST) of the row below to 7 and to 3 pixels.
ROW = [0, 100, 30, 250, 90]
LINEAR = {7: [0, 57, 80, 30, 187, 181, 90], 3: [33, 30, 143]}
NEAREST = {7: [0, 0, 100, 30, 30, 250, 90], 3: [0, 100, 250]}
STRIPES = (
    torch.arange(4, dtype=torch.int64).repeat_interleave(16).expand(32, 64)
)  # four classes, side by side


def grey(values: Tensor) -> Tensor:
    """A picture uint8 (3, H, W) whose levels are those of (H, W)."""
    return values.to(torch.uint8).expand(3, *values.shape).contiguous()


class Draws(np.random.Generator):
    """A generator that returns what it is told, and keeps the bounds that it is asked for."""

    def __init__(self, shares: list[float], numbers: list[int]) -> None:
        super().__init__(np.random.PCG64(0))
        self.shares, self.numbers = iter(shares), iter(numbers)
        self.bounds: list[tuple[int, int]] = []

    def random(self, *_: Any, **__: Any) -> float:  # type: ignore[override]
        return next(self.shares)

    def integers(self, low: int, high: int | None = None, **_: Any) -> int:  # type: ignore[override]
        assert high is not None
        self.bounds.append((low, high))
        return next(self.numbers)


def plain(**settings: Any) -> SegmentationTraining:
    """A pipeline that neither scales nor flips nor changes colours, unless told."""
    unchanged: dict[str, Any] = {"ratios": (1.0, 1.0), "flip": 0.0, "distortion": None}
    return SegmentationTraining(**(unchanged | settings))


@pytest.mark.parametrize("width", [7, 3])
def test_pictures_and_masks_are_resized_as_opencv_does(width: int) -> None:
    row = torch.tensor([ROW] * 4, dtype=torch.uint8)
    found = resize_picture(grey(row), (4, width))[0, 0].tolist()
    assert found == pytest.approx(LINEAR[width], abs=1)  # it rounds in another place
    assert resize_mask(row, (4, width))[0].tolist() == NEAREST[width]


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((480, 640), (2048, 512), (512, 683)),  # 682.67
        ((640, 480), (2048, 512), (683, 512)),
        ((100, 900), (2048, 512), (228, 2048)),  # the longer side binds
        ((1024, 2048), (2048, 1024), (1024, 2048)),
        ((375, 500), (520, 520), (390, 520)),
        ((1, 5000), (512, 512), (1, 512)),
    ],
)
def test_a_picture_is_scaled_until_it_touches_a_side(
    size: tuple[int, int], scale: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit_into(size, scale) == expected


def test_the_ratio_scales_both_sides_before_the_picture_is_fitted() -> None:
    # 0.5 + 0.25 * 1.5 = 0.875 of (40, 32), cut to whole pixels: (35, 28).
    transform = plain(crop=(64, 64), scale=(40, 32), ratios=(0.5, 2.0))
    image, mask = transform(grey(STRIPES), STRIPES, Draws([0.25], [0, 0]))
    assert image.shape == (3, 64, 64) and mask.shape == (64, 64)
    labelled = mask != 255
    assert labelled[:18, :35].all() and labelled.sum() == 18 * 35  # 17.5 is rounded up


def test_small_pictures_are_padded_below_and_at_the_right_after_the_range() -> None:
    transform = plain(crop=(40, 70), scale=(64, 32))
    image, mask = transform(grey(STRIPES + 9), STRIPES, np.random.default_rng(0))
    assert image.dtype == torch.float32 and mask.dtype == torch.int64
    assert (mask[32:] == 255).all() and (mask[:, 64:] == 255).all()
    assert (image[:, 32:] == 0).all() and (image[:, :, 64:] == 0).all()
    assert torch.equal(mask[:32, :64], STRIPES)
    red = (9 / 255 - 0.485) / 0.229
    assert image[0, 0, 0].item() == pytest.approx(red)


def test_the_model_range_is_that_of_half_and_half() -> None:
    image, _ = plain(crop=(32, 64), scale=(64, 32), pictures="model")(
        grey(STRIPES + 200), STRIPES, np.random.default_rng(0)
    )
    assert image.unique().tolist() == pytest.approx([(200 + n) / 127.5 - 1 for n in range(4)])


def test_a_crop_that_one_class_fills_is_drawn_again() -> None:
    transform = plain(crop=(32, 16), scale=(64, 32))
    draws = Draws([0.0], [0, 0, 0, 4, 0, 5])
    _, mask = transform(grey(STRIPES), STRIPES, draws)
    # At 0 there is one class, at 4 the first one has 12 of 16 columns, which is 75 % already.
    assert mask[0].tolist() == [0] * 11 + [1] * 5
    assert draws.bounds == [(0, 1), (0, 49)] * 3


def test_after_ten_more_draws_the_last_crop_counts_whatever_it_has() -> None:
    draws = Draws([0.0], [0, 0] * 10 + [0, 48])
    _, mask = plain(crop=(32, 16), scale=(64, 32))(grey(STRIPES), STRIPES, draws)
    assert (mask == 3).all() and len(draws.bounds) == 22


def test_ignored_pixels_count_for_no_class() -> None:
    stripes = STRIPES.clone()
    stripes[:, 16:32] = 255
    draws = Draws([0.0], [0, 5, 0, 0] + [0, 25] * 9)
    _, mask = plain(crop=(32, 16), scale=(64, 32))(grey(STRIPES), stripes, draws)
    assert set(mask.unique().tolist()) == {2, 255}  # none of the eleven has two classes
    nothing = torch.full_like(STRIPES, 255)
    _, mask = plain(crop=(32, 16), scale=(64, 32))(grey(STRIPES), nothing, np.random.default_rng(0))
    assert (mask == 255).all()


def test_one_draw_is_enough_where_any_crop_will_do() -> None:
    draws = Draws([0.0], [0, 0])
    plain(crop=(32, 16), scale=(64, 32), most_of_one=1.0)(grey(STRIPES), STRIPES, draws)
    assert len(draws.bounds) == 2


def test_picture_and_mask_stay_together() -> None:
    transform = SegmentationTraining(crop=(24, 24), scale=(64, 32), distortion=None, pictures="model")
    flipped = 0
    for seed in range(30):
        image, mask = transform(grey(STRIPES * 80), STRIPES, np.random.default_rng(seed))
        levels = ((image[0] + 1) * 127.5 / 80).round().to(torch.int64)
        known = mask != 255
        # Edges are blurred where a picture grows; nothing else may differ.
        assert (levels[known] == mask[known]).float().mean() > 0.8
        flipped += bool((mask[0].diff()[known[0, 1:]] < 0).any())
    assert 5 < flipped < 25


def test_a_flip_comes_by_its_chance() -> None:
    image = grey(STRIPES)
    for chance, drawn, turned in ((0.5, 0.4, True), (0.5, 0.6, False), (1.0, 0.99, True)):
        found, mask = RandomFlip(chance)(image, STRIPES, Draws([drawn], []))
        assert torch.equal(mask, STRIPES.flip(-1) if turned else STRIPES)
        assert torch.equal(found, image.flip(-1) if turned else image)
    RandomFlip(0.0)(image, STRIPES, Draws([], []))  # draws nothing


def test_the_same_generator_gives_the_same_crop() -> None:
    transform = SegmentationTraining(crop=(24, 24), scale=(64, 32))
    image = torch.randint(0, 256, (3, 32, 64), dtype=torch.uint8)
    first, second = (transform(image, STRIPES, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": (0, 512)},
        {"scale": (2048, 0)},
        {"ratios": (0.0, 1.0)},
        {"ratios": (2.0, 0.5)},
        {"flip": 1.5},
        {"most_of_one": 0.0},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        SegmentationTraining(**settings)


# Scoring


def views(size: tuple[int, int], **settings: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(height, width) of each view with its padding and without."""
    for view in ScoringViews(**settings)(torch.zeros(3, *size, dtype=torch.uint8)):
        yield (view.image.shape[-2], view.image.shape[-1]), view.size


def test_views_end_at_multiples_of_32_or_at_the_fitted_size() -> None:
    assert list(views((480, 640))) == [((512, 704), (512, 704))]
    assert list(views((480, 640), fit="plain")) == [((512, 683), (512, 683))]


def test_each_ratio_is_a_view() -> None:
    found = [size for size, _ in views((480, 640), ratios=(0.5, 1.0, 1.75))]
    assert found == [(256, 352), (512, 704), (896, 1216)]


def test_views_are_no_smaller_than_the_crop_where_that_is_asked() -> None:
    found = views((480, 640), ratios=(0.5, 1.0, 1.5), fit="at_least_crop", crop=(512, 512))
    assert [size for size, _ in found] == [(512, 683), (512, 683), (768, 1024)]
    # The longer side has no limit: 2048 would leave a shorter side of 205.
    assert next(views((100, 1000), fit="at_least_crop", crop=(512, 512)))[0] == (512, 5120)


@pytest.mark.parametrize(("padding", "value"), [("black", -0.485 / 0.229), ("mean", 0.0)])
def test_small_views_are_padded_before_the_range_or_after_it(padding: Any, value: float) -> None:
    settings: dict[str, Any] = {
        "scale": (3584, 896),
        "ratios": (640 / 896, 1.0),
        "crop": (896, 896),
        "padding": padding,
    }
    assert list(views((480, 640), **settings)) == [
        ((896, 896), (640, 864)),
        ((896, 1216), (896, 1216)),
    ]
    view = ScoringViews(**settings)(torch.full((3, 480, 640), 255, dtype=torch.uint8))[0]
    assert view.image[0, 639, 863].item() == pytest.approx((1 - 0.485) / 0.229)
    assert view.image[0, 640, 0].item() == pytest.approx(value)
    assert view.image[0, 0, 864].item() == pytest.approx(value)


def test_flipped_views_follow_each_ratio_and_are_padded_at_the_right_too() -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[:, :, 0] = 255  # a line at the left
    scoring = ScoringViews(
        scale=(32, 32), ratios=(1.0, 2.0), flip=True, crop=(48, 48), padding="mean", pictures="model"
    )
    found = scoring(image)
    assert [(view.flipped, view.size) for view in found] == [
        (False, (32, 32)),
        (True, (32, 32)),
        (False, (64, 64)),
        (True, (64, 64)),
    ]
    assert found[0].image[0, 0].tolist() == [1.0] + [-1.0] * 31 + [0.0] * 16
    assert found[1].image[0, 0].tolist() == [-1.0] * 31 + [1.0] + [0.0] * 16


@pytest.mark.parametrize(
    "settings", [{"ratios": ()}, {"crop": (0, 0)}, {"scale": (0, 1)}, {"ratios": (0.0,)}]
)
def test_impossible_views_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive, and there must be a ratio"):
        ScoringViews(**settings)
