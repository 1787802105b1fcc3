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
        DataFormatError: A folder is missing or empty, a picture has no mask or a mask no picture, or two have
            the same name.
    """
    pictures = _by_stem(list_pictures(images))
    annotations = _by_stem([path for path in list_pictures(masks) if path.suffix.lower() == ".png"])
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


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    """Files by their names without endings."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DataFormatError(
                f"{path}: has the name of {found[path.stem].name} but for its ending; expected one file of a "
                "name: rename or remove one"
            )
        found[path.stem] = path
    return found
