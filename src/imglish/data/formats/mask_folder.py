"""ADE20K's layout: a folder of pictures and a folder of masks of the same names.

    images/training/0001.jpg  annotations/training/0001.png

In ADE20K's masks 0 is unlabelled and class c has the value c + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.picture_folder import list_pictures
from imglish.errors import DataFormatError


@dataclass(frozen=True, slots=True)
class MaskRecord:
    """A picture and its mask; read them with `imglish.data.pictures`, which checks that their sizes agree."""

    path: Path
    mask_path: Path


def read_mask_folder(images: Path, masks: Path) -> tuple[MaskRecord, ...]:
    """Match pictures and masks by name, sorted by name.

    Args:
        images: The folder of pictures.
        masks: The folder of masks, PNGs.

    Raises:
        DataFormatError: A folder is missing or empty, or a picture has no mask or a mask no picture.
    """
    pictures = {path.stem: path for path in list_pictures(images)}
    annotations = {path.stem: path for path in list_pictures(masks) if path.suffix.lower() == ".png"}
    if not pictures:
        raise DataFormatError(f"{images}: has no pictures in it; expected one for each mask: check the path")
    for stem, path in pictures.items():
        if stem not in annotations:
            raise DataFormatError(
                f"{path}: has no mask; expected {masks / stem}.png: get it, or remove the picture"
            )
    for stem, path in annotations.items():
        if stem not in pictures:
            raise DataFormatError(f"{path}: has no picture {stem} in {images}: get it, or remove the mask")
    return tuple(MaskRecord(path, annotations[stem]) for stem, path in pictures.items())
