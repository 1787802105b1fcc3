"""ADE20K's layout: a folder of pictures and a folder of masks of the same names.

    images/training/0001.jpg  annotations/training/0001.png

In ADE20K's masks 0 is unlabelled and class c has the value c + 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.picture_folder import list_pictures
from imglish.errors import DataFormatError

MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif"})  # JPEG and the like change values


@dataclass(frozen=True, slots=True)
class MaskRecord:
    """A picture and its mask; read them with `imglish.data.pictures`, which checks that their sizes agree."""

    path: Path
    mask_path: Path


@dataclass(frozen=True, slots=True)
class MatchedMasks:
    """Pictures with masks, sorted by name, and a line for each file that is alone."""

    records: tuple[MaskRecord, ...]
    problems: tuple[str, ...]

    def strict(self) -> tuple[MaskRecord, ...]:
        """The records; raises DataFormatError where a file is alone."""
        if self.problems:
            raise DataFormatError(self.problems[0])
        return self.records


def read_mask_folder(images: Path, masks: Path, suffix: str = "") -> tuple[MaskRecord, ...]:
    """Match pictures and masks by name, sorted by name.

    Args:
        images: The folder of pictures.
        masks: The folder of masks: PNG, TIFF, BMP or GIF.
        suffix: What the names of masks have more than those of their pictures, such as ``_1stHO``; other
            masks are left alone.

    Raises:
        DataFormatError: A folder is missing or empty, a picture has no mask or a mask no picture, or two have
            the same name.
    """
    return match_masks(images, masks, suffix).strict()


def match_masks(images: Path, masks: Path, suffix: str = "") -> MatchedMasks:
    """As `read_mask_folder`, but a picture or a mask that is alone is told and left out."""
    found = [path for path in list_pictures(masks) if path.stem.endswith(suffix)]
    lossless = [path for path in found if path.suffix.lower() in MASK_SUFFIXES]
    lossy = {path.stem.removesuffix(suffix) for path in found} if len(lossless) < len(found) else set[str]()
    return match_files(
        _by_stem(list_pictures(images)), _by_stem(lossless, suffix), images, masks, suffix, lossy=lossy
    )


def match_files(
    pictures: Mapping[str, Path],
    masks: Mapping[str, Path],
    images_root: Path,
    masks_root: Path,
    suffix: str = "",
    ending: str = ".png",
    lossy: Collection[str] = (),
) -> MatchedMasks:
    """Match files by their keys.

    Args:
        pictures: Pictures by what their masks are found by.
        masks: Masks by the same.
        images_root: Where the pictures are, for messages.
        masks_root: Where the masks are.
        suffix: What a mask's name has after the key.
        ending: Of the masks' files, for messages.
        lossy: Keys of which there is a file of a kind that changes values, for messages.

    Raises:
        DataFormatError: There is no picture at all.
    """
    if not pictures:
        raise DataFormatError(
            f"{images_root}: has no pictures in it; expected one for each mask: check the path"
        )
    problems = [
        f"{path}: has no mask; expected {masks_root / key}{suffix}{ending}"
        f"{', not JPEG or WebP, which change values' if key in lossy else ''}: get it, or remove the picture"
        for key, path in pictures.items()
        if key not in masks
    ]
    problems += [
        f"{path}: has no picture {key} in {images_root}: get it, or remove the mask"
        for key, path in masks.items()
        if key not in pictures
    ]
    records = tuple(MaskRecord(path, masks[key]) for key, path in pictures.items() if key in masks)
    return MatchedMasks(records, tuple(problems))


def _by_stem(paths: list[Path], suffix: str = "") -> dict[str, Path]:
    """Files by their names without endings."""
    found: dict[str, Path] = {}
    for path in paths:
        stem = path.stem.removesuffix(suffix)
        if stem in found:
            raise DataFormatError(
                f"{path}: has the name of {found[stem].name} but for its ending; expected one file of a "
                "name: rename or remove one"
            )
        found[stem] = path
    return found
