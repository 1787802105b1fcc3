from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from imglish.data.transforms.image import ImageTransform
from imglish.data.transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD, resize_and_crop, to_imagenet_range
from imglish.data.transforms.resize import Resampling, resize_bicubic


def picture(height: int, width: int) -> Tensor:
    g = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=g)


def by_pillow(image: Tensor, height: int, width: int) -> Tensor:
    resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


@pytest.mark.parametrize("size", [(16, 24), (50, 31), (90, 40)])
def test_pillow_is_exact_and_torchvision_is_off_by_a_grey_level_at_most(size: tuple[int, int]) -> None:
    image = picture(61, 47)
    exact = by_pillow(image, *size)
    assert torch.equal(resize_bicubic(image, size, "pillow"), exact)
    difference = (resize_bicubic(image, size).int() - exact.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.01


@pytest.mark.parametrize("resampling", ["pillow", "torchvision"])
def test_a_picture_of_the_right_size_stays_as_it_is(resampling: Resampling) -> None:
    image = picture(20, 30)
    assert resize_bicubic(image, (20, 30), resampling) is image


def test_the_transform_resizes_as_it_is_told() -> None:
    image = picture(61, 47)
    squash = ImageTransform(size=(20, 24), resampling="pillow")
    assert torch.equal(squash(image, np.random.default_rng(0)), by_pillow(image, 20, 24))


@pytest.mark.parametrize(("height", "width"), [(61, 47), (47, 61), (40, 40), (20, 33)])
def test_the_middle_of_the_shorter_side_is_kept(height: int, width: int) -> None:
    image = picture(height, width)
    tall, wide = (32 * height // min(height, width), 32 * width // min(height, width))
    whole = by_pillow(image, tall, wide)
    top, left = round((tall - 32) / 2), round((wide - 32) / 2)
    expected = whole[:, top : top + 32, left : left + 32]
    assert torch.equal(resize_and_crop(image, 32, "pillow"), expected)


def test_imagenet_pictures_have_their_own_mean_and_deviation() -> None:
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2).expand(3, 1, 2)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        expected = torch.tensor([-mean / std, (1 - mean) / std])
        torch.testing.assert_close(to_imagenet_range(image)[channel, 0], expected)
