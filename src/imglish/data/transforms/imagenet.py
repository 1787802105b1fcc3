"""Pictures for ImageNet classifiers keep their aspect ratio and have a range of their own."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from imglish.data.transforms.resize import Resampling, resize_bicubic

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_imagenet_range(image: Tensor) -> Tensor:
    """Map uint8 (..., 3, H, W) to float32 of mean 0 and deviation 1 over ImageNet (FACTS, section 7)."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=image.device).view(3, 1, 1)
    return image.to(torch.float32).div_(255.0).sub_(mean).div_(std)


def resize_and_crop(
    image: Tensor, size: int, resampling: Resampling = "torchvision", *, crop_share: float = 1.0
) -> Tensor:
    """Resize the shorter side and cut out the middle, as the official evaluation on ImageNet.

    Args:
        image: uint8 (3, H, W).
        size: Side of the result in pixels.
        resampling: Exactly as the official code or faster; see `resize_bicubic`.
        crop_share: Share of the shorter side that is kept: 1 in BEiT-3's evaluation.

    Returns:
        uint8 (3, size, size).
    """
    height, width = image.shape[-2:]
    shorter = min(height, width)
    resized = int(size / crop_share)
    scaled = (resized * height // shorter, resized * width // shorter)
    cropped: Tensor = TF.center_crop(resize_bicubic(image, scaled, resampling), [size, size])
    return cropped
