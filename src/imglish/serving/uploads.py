"""Pictures that strangers send: told apart, measured before they are decoded, and decoded."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from imglish.errors import DataFormatError
from imglish.inference.pictures import open_picture
from imglish.serving.refusals import RefusalError
from imglish.serving.settings import MIN_SIDE, MOST_ASPECT, Limits

# Formats that Pillow decodes by itself; some of the others start programs or are seldom met.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_FORMATS_IN_WORDS = "PNG, JPEG, WebP, GIF, BMP or TIFF"


def open_header(data: bytes, name: str, limits: Limits) -> Image.Image:
    """Read what a picture's header says, and check it; no pixel is decoded.

    Args:
        data: The encoded picture.
        name: Of its field, for an error message.
        limits: Bytes and pixels that are taken.

    Returns:
        The picture, not decoded yet; its ``size`` is (width, height).

    Raises:
        RefusalError: 422 for an empty, damaged, tiny or very long picture, 415 for another format, 413 for
            one that is too large.
    """
    if not data:
        raise RefusalError(422, "picture_empty", f"the {name} is empty; expected the bytes of a picture")
    if len(data) > limits.bytes:
        raise too_many_bytes(name, limits)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if data.startswith(_BEGINNINGS):
            raise _damaged(name) from None
        raise RefusalError(
            415, "picture_type", f"the {name} is no picture that is taken; expected {_FORMATS_IN_WORDS}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RefusalError(
            413, "picture_pixels", f"the {name} has far too many pixels; expected at most {limits.pixels:,}"
        ) from None
    except Exception:  # on damaged headers decoders raise nearly anything
        raise _damaged(name) from None
    width, height = image.size
    if width * height > limits.pixels:
        raise RefusalError(
            413,
            "picture_pixels",
            f"the {name} is {height} high and {width} wide; expected at most {limits.pixels:,} pixels",
        )
    if min(width, height) < MIN_SIDE:
        raise RefusalError(
            422,
            "picture_small",
            f"the {name} is {height} high and {width} wide; expected at least {MIN_SIDE} pixels each way",
        )
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise RefusalError(
            422,
            "picture_long",
            f"the {name} is {height} high and {width} wide; one side may be {MOST_ASPECT} times the other",
        )
    return image


def decode(image: Image.Image, name: str, max_pixels: int) -> Tensor:
    """The pixels of a picture whose header was checked: uint8 (3, H, W), upright.

    Raises:
        RefusalError: 422, it is cut short or damaged.
    """
    try:
        return open_picture(image, f"the {name}", max_pixels=max_pixels)
    except DataFormatError as error:
        raise RefusalError(422, "picture_damaged", str(error)) from None


def from_base64(text: object, name: str, limits: Limits) -> bytes:
    """The bytes of a picture in a JSON body; raises RefusalError where it is no base64 text, or too long."""
    if not isinstance(text, str):
        raise RefusalError(422, "field_wrong", f"the field {name!r} is wrong: expected a text in base64")
    if len(text) // 4 * 3 > limits.bytes + 3:
        raise too_many_bytes(name, limits)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusalError(
            422, "field_wrong", f"the field {name!r} is wrong: it is not base64; no address or path is read"
        ) from None


def too_many_bytes(name: str, limits: Limits, *, closes: bool = False) -> RefusalError:
    """The refusal of what is too large to be read; ``closes`` as of `RefusalError`."""
    return RefusalError(
        413,
        "too_large",
        f"the {name} is too large; a picture may have {limits.bytes:,} bytes",
        closes=closes,
    )


def _damaged(name: str) -> RefusalError:
    return RefusalError(
        422, "picture_damaged", f"the {name} is damaged where it begins; expected a whole picture"
    )
