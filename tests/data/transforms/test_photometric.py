from __future__ import annotations

import colorsys

import numpy as np
import torch
from torch import Tensor

from imglish.data.transforms.photometric import PhotometricDistortion, from_hsv, to_hsv

# Colours with what cv2.cvtColor of OpenCV 4.5.5 and 5.0.0 makes of them (RGB to HSV, and back).
COLORS = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (1, 254, 200), (90, 91, 92), (200, 13, 77), (3, 2, 254)]
HSV = [(0, 0, 0), (0, 0, 255), (0, 255, 255), (84, 254, 254), (105, 6, 92), (170, 238, 200), (120, 253, 254)]
BACK = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 254, 203), (89, 90, 92), (200, 13, 75), (1, 1, 254)]


def row(colors: list[tuple[int, int, int]]) -> Tensor:
    """A picture uint8 (3, 1, N)."""
    return torch.tensor(colors, dtype=torch.uint8).T[:, None].contiguous()


def listed(image: Tensor) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in image[:, 0].T.tolist()]


def test_hue_saturation_and_value_are_those_of_opencv() -> None:
    assert listed(torch.stack(to_hsv(row(COLORS)))) == HSV


def test_colours_come_back_as_those_of_opencv() -> None:
    assert listed(from_hsv(*row(HSV))) == BACK


def test_hsv_is_that_of_the_standard_library() -> None:
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    hue, saturation, value = to_hsv(image)
    back = from_hsv(hue, saturation, value)
    for y in range(8):
        for x in range(9):
            h, s, v = colorsys.rgb_to_hsv(*(image[:, y, x] / 255).tolist())
            away = abs(int(hue[y, x]) - 180 * h)
            assert min(away, 180 - away) <= 0.51 and abs(int(saturation[y, x]) - 255 * s) <= 0.51
            assert int(value[y, x]) == round(255 * v)
    # Half a step of hue is a degree: a sixtieth of the largest spread.
    assert int((back.int() - image.int()).abs().max()) <= 255 // 60 + 2


class Drawn(np.random.Generator):
    """A generator whose draws are told in advance."""

    def __init__(self, shares: list[float], numbers: list[float]) -> None:
        super().__init__(np.random.PCG64(0))
        self.shares, self.numbers = shares, numbers

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        return self.shares.pop(0)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: object = None) -> float:  # type: ignore[override]
        value = self.numbers.pop(0)
        assert low <= value <= high
        return value

    def integers(self, low: int, high: int | None = None, **_: object) -> int:  # type: ignore[override]
        value = int(self.numbers.pop(0))
        assert high is not None and low <= value < high
        return value


YES, NO = 0.4, 0.6


def test_brightness_is_added_and_contrast_multiplied_with_fractions_cut_off() -> None:
    image = row([(0, 100, 250), (7, 8, 9)])
    changed = PhotometricDistortion()(image, Drawn([YES, YES, YES, NO, NO], [10.7, 0.5]))
    assert listed(changed) == [(5, 55, 127), (8, 9, 9)]


def test_contrast_comes_first_or_last() -> None:
    image = row([(250, 250, 250)])
    first = PhotometricDistortion()(image, Drawn([YES, YES, YES, NO, NO], [-32.0, 1.5]))
    assert listed(first) == [(255, 255, 255)]
    # A saturation of 127 becomes 63, so (200, 150, 150), before contrast clips the red.
    draws = Drawn([NO, NO, YES, NO, YES], [0.5, 1.5])
    assert listed(PhotometricDistortion()(row([(200, 100, 100)]), draws)) == [(255, 225, 225)]


def test_hue_turns_by_two_degrees_a_step_and_wraps() -> None:
    red = row([(255, 0, 0)])
    assert listed(PhotometricDistortion()(red, Drawn([NO, YES, NO, NO, YES], [-18]))) == [(255, 0, 153)]
    assert listed(PhotometricDistortion()(red, Drawn([NO, YES, NO, NO, YES], [17]))) == [(255, 144, 0)]


def test_nothing_is_drawn_from_elsewhere_and_the_picture_is_kept() -> None:
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    kept = image.clone()
    distort = PhotometricDistortion()
    for seed in range(20):
        once, again = (distort(image, np.random.default_rng(seed)) for _ in range(2))
        assert torch.equal(once, again) and once.dtype == torch.uint8
    assert torch.equal(image, kept)
