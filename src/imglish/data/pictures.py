"""Decode pictures, class maps and segment maps; whatever is wrong with a file becomes a DataFormatError.

Pillow does the work: it reads every common format, gives the pixels that BEiT-3 was trained on, and reports
damaged files, on some of which torchvision's PNG decoder (0.29) crashes the whole process.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imglish.data.transforms.upright import open_image, to_rgb
from imglish.errors import DataFormatError

MaskKind = Literal["grey", "palette", "colours"]

_ONE_CHANNEL = dict.fromkeys(("1", "L", "P"), np.uint8) | dict.fromkeys(("I;16", "I;16B", "I"), np.int32)


def decode_picture(data: bytes, name: str) -> Tensor:
    """Decode an encoded picture.

    Args:
        data: The bytes of a PNG, JPEG, WebP or other file that Pillow reads.
        name: What to call it in an error message.

    Returns:
        RGB, uint8 (3, H, W), contiguous and upright, as the EXIF orientation says. Of 16 bits the upper 8 are
        kept; transparency is dropped, as in the official data pipelines.

    Raises:
        DataFormatError: The data is empty, cut short, damaged, no picture, or of 32 bits a channel.
    """
    pixels = np.asarray(to_rgb(_decode(data, name, upright=True), name))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def read_picture(path: Path) -> Tensor:
    """Decode a picture file: RGB, uint8 (3, H, W); errors as in `decode_picture`."""
    return decode_picture(_read(path), str(path))


def read_mask(path: Path, size: tuple[int, int]) -> Tensor:
    """Decode a map of class ids.

    Args:
        path: A picture file of one channel (grey or palette), whose values are the ids, or of three equal
            ones, as some programs write grey.
        size: (height, width) in pixels of the picture it belongs to.

    Returns:
        uint8 (H, W), or int32 (H, W) for files of 16 bits.

    Raises:
        DataFormatError: The file is missing, cut short or damaged, has colours or another size.
    """
    image = _decode(_read(path), str(path))
    if image.mode in ("LA", "RGB", "RGBA") and _is_grey(image):
        image = image.getchannel(0)
    if image.mode == "F":
        raise DataFormatError(
            f"{path}: has floating-point numbers; expected class ids of 8 or 16 bits: save it with those"
        )
    if image.mode not in _ONE_CHANNEL:
        raise DataFormatError(
            f"{path}: has channels {'+'.join(image.getbands())}; expected one channel of class ids: "
            "name the class of each colour, or convert colours to ids first"
        )
    _check_size(image, path, size)
    return torch.from_numpy(np.array(image, dtype=_ONE_CHANNEL[image.mode]))


def read_mask_colors(path: Path, size: tuple[int, int]) -> Tensor:
    """Decode a map of classes that are told apart by colour: 65536 R + 256 G + B, int32 (H, W).

    Files with a palette are taken for their colours, grey ones for R = G = B. Arguments and errors are those
    of `read_mask`.
    """
    image = to_rgb(_decode(_read(path), str(path)), str(path))
    _check_size(image, path, size)
    return torch.from_numpy(np.asarray(image).astype(np.int32) @ np.array([65536, 256, 1], dtype=np.int32))


def has_colors(path: Path) -> bool:
    """Whether a mask file has three channels of colour, be they alike or not; errors as in `read_mask`."""
    return _decode(_read(path), str(path)).mode in ("RGB", "RGBA")


def mask_values(path: Path) -> tuple[MaskKind, frozenset[int]]:
    """How a mask is written, and which values it has.

    Returns:
        ``grey`` with grey levels, ``palette`` with its numbers, or ``colours`` with 65536 R + 256 G + B.

    Raises:
        DataFormatError: The file is missing, cut short or damaged.
    """
    image = _decode(_read(path), str(path))
    size = (image.height, image.width)
    if image.mode in ("RGB", "RGBA") and not _is_grey(image):
        return "colours", frozenset(np.unique(read_mask_colors(path, size).numpy()).tolist())
    kind: MaskKind = "palette" if image.mode == "P" else "grey"
    return kind, frozenset(np.unique(read_mask(path, size).numpy()).tolist())


def read_segment_ids(path: Path, size: tuple[int, int]) -> Tensor:
    """Decode a COCO panoptic map: ids R + 256 G + 65536 B, int32 (H, W), 0 where unlabelled.

    Arguments and errors are those of `read_mask`; the file must have three channels.
    """
    image = _decode(_read(path), str(path))
    if image.mode not in ("RGB", "RGBA"):
        raise DataFormatError(
            f"{path}: has channels {'+'.join(image.getbands())}; expected R+G+B, the bytes of segment ids: "
            "check that this is a COCO panoptic map"
        )
    _check_size(image, path, size)
    channels = np.asarray(image)[..., :3].astype(np.int32)
    return torch.from_numpy(channels @ np.array([1, 256, 65536], dtype=np.int32))


def turned(size: tuple[int, int], expected: tuple[int, int]) -> str:
    """What to do about a picture of that (height, width) where sides have changed places; else empty.

    Pictures are held upright by their EXIF orientation, which programs that make annotations may overlook.
    """
    if size != expected[::-1]:
        return ""
    return "take the EXIF orientation out of the picture, by which it is turned, or turn its annotations, too"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataFormatError(f"{path}: no such file; expected a picture: check the path") from None
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}); expected a picture") from None


def _decode(data: bytes, name: str, *, upright: bool = False) -> Image.Image:
    if not data:
        raise DataFormatError(f"{name}: is empty; expected a picture: get it again")
    return open_image(io.BytesIO(data), name, upright=upright)


def _is_grey(image: Image.Image) -> bool:
    """Whether the colour channels are all alike."""
    if image.mode == "LA":
        return True
    pixels = np.asarray(image)[..., :3]
    return bool((pixels == pixels[..., :1]).all())


def _check_size(image: Image.Image, path: Path, size: tuple[int, int]) -> None:
    if (image.height, image.width) != size:
        raise DataFormatError(
            f"{path}: is {image.height} high and {image.width} wide, but its picture is {size[0]} high and "
            f"{size[1]} wide; expected the same size: "
            f"{turned((image.height, image.width), size) or 'get the pair again, or leave it out'}"
        )
