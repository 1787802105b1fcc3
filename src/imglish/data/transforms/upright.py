"""Encoded pictures to upright RGB, for training and for use alike: a model is asked what it was taught.

Pillow does the work: it reads every common format, gives the pixels that BEiT-3 was trained on, and reports
damaged files.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from imglish.errors import DataFormatError

_UNBOUNDED = ("I", "F")


def open_image(
    source: Path | str | BinaryIO | Image.Image,
    name: str,
    *,
    upright: bool = True,
    max_pixels: int | None = None,
) -> Image.Image:
    """Decode a picture in its own mode.

    Args:
        source: A path, an opened file, or a picture of Pillow, decoded or not.
        name: What to call it in an error message.
        upright: True turns it as its EXIF orientation says.
        max_pixels: Larger pictures are refused before they are decoded; None refuses none but what Pillow
            itself does.

    Returns:
        The picture with its pixels in memory.

    Raises:
        DataFormatError: It is missing, cut short, damaged, no picture, or too large.
    """
    from_path = isinstance(source, (Path, str))
    try:
        opened = source if isinstance(source, Image.Image) else Image.open(source)
        with opened if from_path else nullcontext(opened) as image:
            if max_pixels is not None:
                check_pixels(image.height, image.width, name, max_pixels)
            image.load()
            return ImageOps.exif_transpose(image) if upright else image
    except DataFormatError:
        raise
    except FileNotFoundError:
        raise DataFormatError(f"{name}: no such file; expected a picture: check the path") from None
    except IsADirectoryError:
        raise DataFormatError(
            f"{name}: does not decode (Is a directory); expected a picture: name the pictures in it"
        ) from None
    except UnidentifiedImageError:
        raise DataFormatError(
            f"{name}: is no picture that can be decoded; expected PNG, JPEG or the like: get it again"
        ) from None
    except Exception as error:  # on damaged data decoders raise nearly anything
        if isinstance(error, Image.DecompressionBombError) and max_pixels is not None:
            raise DataFormatError(
                f"{name}: has more pixels than Pillow decodes; expected at most {max_pixels:,}: shrink it, "
                "or raise max_pixels and PIL.Image.MAX_IMAGE_PIXELS"
            ) from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataFormatError(
            f"{name}: does not decode ({reason}); expected a picture: get it again"
        ) from None


def check_pixels(height: int, width: int, name: str, max_pixels: int) -> None:
    """Raise DataFormatError for a picture of no pixels or of more than ``max_pixels``."""
    if height * width > max_pixels:
        raise DataFormatError(
            f"{name}: is {height} high and {width} wide; expected at most {max_pixels:,} pixels: shrink it, "
            "or raise max_pixels"
        )
    if height * width == 0:
        raise DataFormatError(f"{name}: is {height} high and {width} wide; expected at least one pixel")


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """The picture in RGB of 8 bits a channel.

    Of 16 bits the upper 8 are kept; transparency is dropped, as in the official data pipelines.

    Raises:
        DataFormatError: It has 32 bits a channel.
    """
    if image.mode in _UNBOUNDED:
        raise DataFormatError(
            f"{name}: has 32 bits a channel, whose range is not known; expected 8 or 16: convert it to 8 bits"
        )
    if image.mode.startswith("I;16"):  # Pillow would clip instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
