"""RandAugment (arXiv 1909.13719) with the operations of the released fine-tuning (parity FACTS, section 7).

All operations map uint8 (3, H, W) to uint8 (3, H, W). They give the very pixels of the released code, which
calls OpenCV (5.0; older builds differ by a grey level), but for two overflows that one has to ask for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

Operation = Literal[
    "identity", "auto_contrast", "equalize", "brightness", "sharpness",
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate",
]  # fmt: skip
OPERATIONS: tuple[Operation, ...] = (
    "identity", "auto_contrast", "equalize", "brightness", "sharpness",
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate",
)  # fmt: skip

MAX_MAGNITUDE = 10
# What the largest magnitude does: factors of brightness and sharpness, shear in pixels a pixel, shifts in
# pixels whatever the picture's size, and degrees.
_LARGEST: dict[Operation, float] = {
    "brightness": 1.8,
    "sharpness": 1.8,
    "shear_x": 0.3,
    "shear_y": 0.3,
    "translate_x": 10.0,
    "translate_y": 10.0,
    "rotate": 30.0,
}
_FACTOR_AT_ZERO = 0.1
_FACTORS = ("brightness", "sharpness")

Affine = tuple[tuple[float, float, float], tuple[float, float, float]]


def strength(operation: Operation, magnitude: float) -> float:
    """What a magnitude in [0, 10] means to an operation; 0 for those that have no strength."""
    share = magnitude / MAX_MAGNITUDE * _LARGEST.get(operation, 0.0)
    return share + _FACTOR_AT_ZERO if operation in _FACTORS else share


@dataclass(frozen=True, kw_only=True, slots=True)
class RandAugment:
    """A few random operations of one magnitude, one after the other.

    Args:
        num_operations: Drawn with replacement for each picture.
        magnitude: In [0, 10]; geometric operations get either sign.
        chance: Of each drawn operation to be applied.
        fill: Grey level in [0, 255] of what comes in from outside.
        wrap: True repeats two overflows of the released code; see `auto_contrast` and `sharpness`.
    """

    num_operations: int = 2
    magnitude: float = 7.0
    chance: float = 0.5
    fill: int = 128
    wrap: bool = False

    def __post_init__(self) -> None:
        if self.num_operations < 0:
            raise ValueError(f"num_operations must not be negative; got {self.num_operations}")
        for name, value, largest in (
            ("magnitude", self.magnitude, MAX_MAGNITUDE),
            ("chance", self.chance, 1),
            ("fill", self.fill, 255),
        ):
            if not 0 <= value <= largest:
                raise ValueError(f"{name} must lie in [0, {largest}]; got {value}")

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Change uint8 (3, H, W) at random; every draw comes from ``rng``."""
        for place in rng.integers(len(OPERATIONS), size=self.num_operations):
            operation, applies, sign = OPERATIONS[place], rng.random() < self.chance, rng.choice((-1, 1))
            if applies:
                value = strength(operation, self.magnitude)
                signed = value if operation in _FACTORS else float(sign) * value
                image = self.apply(image, operation, signed)
        return image

    def apply(self, image: Tensor, operation: Operation, value: float) -> Tensor:
        """Change uint8 (3, H, W) by one operation of strength ``value``, sign included (see `strength`)."""
        match operation:
            case "identity":
                return image
            case "auto_contrast":
                return auto_contrast(image, wrap=self.wrap)
            case "equalize":
                equalized: Tensor = TF.equalize(image)
                return equalized
            case "brightness":
                return brightness(image, value)
            case "sharpness":
                return sharpness(image, value, wrap=self.wrap)
            case "shear_x":
                return warp(image, ((1, value, 0), (0, 1, 0)), self.fill)
            case "shear_y":
                return warp(image, ((1, 0, 0), (value, 1, 0)), self.fill)
            case "translate_x":
                return warp(image, ((1, 0, -value), (0, 1, 0)), self.fill)
            case "translate_y":
                return warp(image, ((1, 0, 0), (0, 1, -value)), self.fill)
            case "rotate":
                return warp(image, rotation(value, image.shape[-2], image.shape[-1]), self.fill)


def auto_contrast(image: Tensor, *, wrap: bool = False) -> Tensor:
    """Stretch each channel to the full range.

    Args:
        image: uint8 (3, H, W).
        wrap: The released code negates the darkest value as an unsigned byte, which turns a channel white
            unless its darkest value is 0. True repeats that.
    """
    flat = image.flatten(1)
    low, high = flat.amin(dim=1).double(), flat.amax(dim=1).double()
    scale = 255.0 / (high - low).clamp(min=1.0)
    offset = torch.where(low > 0, 256.0 - low, 0.0) if wrap else -low
    stretched = image.double() * scale.view(3, 1, 1) + (offset * scale).view(3, 1, 1)
    one_value = (high <= low).view(3, 1, 1)
    return torch.where(one_value, image, stretched.clamp(0.0, 255.0).to(torch.uint8))


def brightness(image: Tensor, factor: float) -> Tensor:
    """Multiply by a factor; 0 is black, 1 the picture itself."""
    return image.float().mul_(factor).clamp_(0.0, 255.0).to(torch.uint8)


def sharpness(image: Tensor, factor: float, *, wrap: bool = False) -> Tensor:
    """Move away from a smoothed picture; the outermost pixels stay.

    Args:
        image: uint8 (3, H, W).
        factor: 0 is smooth, 1 the picture itself.
        wrap: The released code does not clip: what is brighter than 255 comes out dark, what is darker than 0
            bright. True repeats that.
    """
    kernel = torch.ones(3, 3)
    kernel[1, 1] = 5.0
    sharp = image.float()
    smooth = F.conv2d(sharp[:, None], (kernel / kernel.sum())[None, None])[:, 0].round_()
    inner = sharp[:, 1:-1, 1:-1]
    inner.copy_(smooth + factor * (inner - smooth))
    if wrap:
        return sharp.to(torch.int64).remainder_(256).to(torch.uint8)
    return sharp.clamp_(0.0, 255.0).to(torch.uint8)


def rotation(degrees: float, height: int, width: int) -> Affine:
    """Turn anticlockwise about (width / 2, height / 2), OpenCV's centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return (cos, sin, (1 - cos) * x - sin * y), (-sin, cos, sin * x + (1 - cos) * y)


def warp(image: Tensor, forward: Affine, fill: int) -> Tensor:
    """Move pixels by an affine map, read bilinearly.

    Args:
        image: uint8 (3, H, W).
        forward: (x, y, 1) of a pixel to where it goes.
        fill: Grey level outside the picture.
    """
    height, width = image.shape[-2:]
    back = np.linalg.inv(np.array([*forward, (0.0, 0.0, 1.0)]))[:2].astype(np.float32)
    of_x, of_y, shift = torch.from_numpy(back).double()[:, :, None, None].unbind(dim=1)
    rows = torch.arange(height, dtype=torch.float64)[:, None]
    columns = torch.arange(width, dtype=torch.float64)
    # OpenCV multiplies and adds in float32 with one rounding. In doubles, which hold these products exactly,
    # the same bits come out; many a value lies midway between two grey levels and would fall the other way.
    x, y = (of_x * columns + (of_y * rows + shift).float()).float()
    left, top = x.floor(), y.floor()
    across, down = x - left, y - top
    # One pixel of rim on each side; whatever lies farther out reads the rim, too.
    padded = F.pad(image.float(), (1, 1, 1, 1), value=float(fill))
    columns_of = [(left.long() + 1 + step).clamp(0, width + 1) for step in (0, 1)]
    rows_of = [(top.long() + 1 + step).clamp(0, height + 1) for step in (0, 1)]
    upper, lower = (
        _between(padded[:, row, columns_of[0]], padded[:, row, columns_of[1]], across) for row in rows_of
    )
    return _between(upper, lower, down).round_().to(torch.uint8)


def _between(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """From ``a`` towards ``b``, float32 with one rounding."""
    return (a.double() + share.double() * (b - a).double()).float()
