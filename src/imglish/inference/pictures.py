"""Pictures of every kind that people have, opened, checked and prepared for a model."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imglish.data.transforms.image import to_model_range
from imglish.data.transforms.imagenet import resize_and_crop, to_imagenet_range
from imglish.data.transforms.resize import resize_bicubic
from imglish.data.transforms.upright import check_pixels, open_image, to_rgb
from imglish.errors import DataFormatError
from imglish.inference.look import Look

# A path, encoded bytes, a picture of Pillow, an array uint8 (H, W, 3) or (H, W), a tensor uint8 (3, H, W), or
# what was looked at before.
Picture = Path | str | bytes | Image.Image | NDArray[np.uint8] | Tensor | Look
Pictures = Picture | Sequence[Picture]

MAX_PIXELS = 100_000_000

# As a Path an address has one slash only; a single letter before the colon is a drive.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# Pictures of which only the middle is seen are cut to this aspect first: resizing a line of pixels until it
# is as high as the model's picture would take gigabytes.
_MOST_ASPECT = 16


def list_pictures(pictures: Pictures) -> tuple[list[Picture], bool]:
    """The pictures as a list, and whether it was a single one; what is neither is refused on opening."""
    one = isinstance(
        pictures, (Path, str, bytes, bytearray, memoryview, Image.Image, np.ndarray, Tensor, Look)
    )
    if one or not isinstance(pictures, Iterable):
        return [cast(Picture, pictures)], True
    return list(pictures), False


def open_picture(picture: Picture, name: str = "the picture", *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Open a picture.

    Args:
        picture: A path, encoded bytes, a picture of Pillow, a NumPy array uint8 (H, W, 3) or (H, W), a
            tensor uint8 (3, H, W), or a `Look`. Addresses of the network are never followed.
        name: What to call it in an error message where it has no path.
        max_pixels: Larger pictures are refused, files among them before they are decoded.

    Returns:
        RGB, uint8 (3, H, W), upright. Of 16 bits the upper 8 are kept; transparency is dropped.

    Raises:
        DataFormatError: It is missing, damaged, no picture, too large, or of another type or shape.
    """
    if isinstance(picture, Look):
        picture = picture.image
    if isinstance(picture, Tensor):
        return _from_tensor(picture, name, max_pixels)
    if isinstance(picture, np.ndarray):
        return _from_array(picture, name, max_pixels)
    source: Path | io.BytesIO | Image.Image
    if isinstance(picture, bytes):
        if not picture:
            raise DataFormatError(f"{name}: is empty; expected the bytes of a picture: get it again")
        source = io.BytesIO(picture)
    elif isinstance(picture, (Path, str)):
        if "\0" in str(picture):
            raise DataFormatError(f"{picture!r}: holds a zero byte; expected a path: give bytes as bytes")
        if _ADDRESS.match(str(picture)) and not Path(picture).exists():
            raise DataFormatError(f"{picture}: is an address; expected a file: download the picture first")
        source, name = Path(picture), str(picture) or "''"
        if source.is_file() and not source.stat().st_size:
            raise DataFormatError(f"{name}: is empty; expected a picture: get it again")
    elif isinstance(picture, Image.Image):
        source = picture
    else:
        raise DataFormatError(
            f"{name}: is of type {type(picture).__name__}; expected a path, bytes, a PIL image, a "
            "NumPy array or a tensor"
        )
    image = to_rgb(open_image(source, name, max_pixels=max_pixels), name)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _from_array(array: NDArray[np.uint8], name: str, max_pixels: int) -> Tensor:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise DataFormatError(
            f"{name}: is an array of {array.dtype} {tuple(array.shape)}; expected uint8 (H, W, 3) or (H, W)"
            + ("; give a batch as list(batch)" if array.ndim == 4 else "")
        )
    check_pixels(array.shape[0], array.shape[1], name, max_pixels)
    pixels = torch.from_numpy(np.array(array))  # a copy: arrays may be read-only or run backwards
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels.expand(3, -1, -1)


def _from_tensor(tensor: Tensor, name: str, max_pixels: int) -> Tensor:
    if tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[0] != 3:
        raise DataFormatError(
            f"{name}: is a tensor of {tensor.dtype} {tuple(tensor.shape)}; expected torch.uint8 (3, H, W)"
            + ("; give a batch as list(batch)" if tensor.ndim == 4 else "")
        )
    check_pixels(tensor.shape[1], tensor.shape[2], name, max_pixels)
    return tensor.cpu()


def prepare(
    image: Tensor, size: tuple[int, int], *, imagenet: bool = False, crop_share: float | None = None
) -> Tensor:
    """Resize a picture and map it to a model's range, as the official evaluation does.

    Args:
        image: uint8 (3, H, W).
        size: (height, width) that the model takes.
        imagenet: True takes ImageNet's mean and deviation, False maps to [-1, 1].
        crop_share: Keeps the aspect ratio and cuts out the middle, this share of the shorter side; None, and
            every ``size`` that is not square, squashes the whole picture to ``size``.

    Returns:
        float32 (3, *size).
    """
    if crop_share is None or size[0] != size[1]:
        small = resize_bicubic(image, size, "pillow")
    else:
        small = resize_and_crop(_without_far_ends(image), size[0], "pillow", crop_share=crop_share)
    return to_imagenet_range(small) if imagenet else to_model_range(small)


def _without_far_ends(image: Tensor) -> Tensor:
    """The middle of a very long picture; of others, all."""
    longest = _MOST_ASPECT * min(image.shape[1:])
    top, left = (max(0, (side - longest) // 2) for side in image.shape[1:])
    return image[:, top : top + longest, left : left + longest]
