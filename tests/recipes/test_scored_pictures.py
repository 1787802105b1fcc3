"""Scored pictures are those of the official evaluation, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision import transforms

from imglish.data.pictures import read_picture
from imglish.data.transforms.image import to_model_range
from imglish.inference.pictures import open_picture, prepare
from imglish.models.beit3.config import Beit3Config
from imglish.recipes.assembly.base import scoring_transform
from imglish.recipes.assembly.classification import picture_transforms
from imglish.recipes.config import ImageClassificationTask

SIZES = [(61, 47), (47, 61), (100, 130), (40, 200), (48, 48), (33, 20)]  # (height, width)


def noise(path: Path, size: tuple[int, int]) -> Path:
    """A picture in which every grey level counts."""
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def scored(path: Path) -> Tensor:
    model = Beit3Config(image_size=(48, 48), patch_size=16)
    _, transform = picture_transforms(ImageClassificationTask(model=model))
    return transform(read_picture(path), np.random.default_rng(0))


@pytest.mark.parametrize("size", SIZES)
def test_imagenets_are_those_of_the_official_transform(tmp_path: Path, size: tuple[int, int]) -> None:
    """Resize the shorter side by Pillow, cut out the middle (parity FACTS, section 7)."""
    path = noise(tmp_path / "x.png", size)
    official = transforms.Compose(
        [
            transforms.Resize(48, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(48),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ]
    )
    # One grey level is 0.017 here: what is left is rounding in float32.
    torch.testing.assert_close(scored(path), official(Image.open(path)), rtol=0, atol=1e-5)


def test_imagenets_are_those_of_timm_with_the_whole_shorter_side(tmp_path: Path) -> None:
    path = noise(tmp_path / "x.png", (100, 130))
    transform = create_transform(
        input_size=48,
        is_training=False,
        interpolation="bicubic",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        crop_pct=1.0,
    )
    torch.testing.assert_close(scored(path), transform(Image.open(path)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_others_are_squashed_by_pillow_as_officially(tmp_path: Path, size: tuple[int, int]) -> None:
    path = noise(tmp_path / "x.png", size)
    official = transforms.Compose(
        [
            transforms.Resize((32, 48), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    ours = to_model_range(scoring_transform((32, 48))(read_picture(path), np.random.default_rng(0)))
    torch.testing.assert_close(ours, official(Image.open(path)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_scores_are_of_what_predictions_see(tmp_path: Path, size: tuple[int, int]) -> None:
    path = noise(tmp_path / "x.png", size)
    used = prepare(open_picture(path), (48, 48), imagenet=True, crop_share=1.0)
    torch.testing.assert_close(scored(path), used, rtol=0, atol=0)
    squashed = to_model_range(scoring_transform((48, 48))(read_picture(path), np.random.default_rng(0)))
    torch.testing.assert_close(squashed, prepare(open_picture(path), (48, 48)), rtol=0, atol=0)
