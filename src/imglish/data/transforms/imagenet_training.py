"""Training pictures of the released ImageNet recipe: timm's crop, RandAugment, erasing (FACTS, section 7)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from imglish.data.transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, slots=True)
class ImageNetTraining:
    """Random crop, flip, RandAugment and erasing, as timm does them.

    Args:
        size: Side of the result in pixels.
    """

    size: int
    _transform: Callable[[Image.Image], Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        transform: Any = create_transform(
            input_size=self.size,
            is_training=True,
            color_jitter=0.4,
            auto_augment="rand-m9-mstd0.5-inc1",
            interpolation="bicubic",
            re_prob=0.25,
            re_mode="pixel",
            re_count=1,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        object.__setattr__(self, "_transform", transform)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to float (3, size, size) of ImageNet's mean and deviation."""
        with _drawing_from(rng):
            return self._transform(to_pil_image(image))


@contextmanager
def _drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Let the global generators, which timm draws from, follow ``rng``, and put them back afterwards."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        seed = int(rng.integers(2**32))
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
