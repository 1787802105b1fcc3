"""ImageNet's layout: a folder of pictures for each class; labels count the sorted class names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.picture_folder import list_pictures
from imglish.errors import DataFormatError


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture and its label, an index into the folder's classes."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Class names in the order of their labels, and the pictures sorted by class and name."""

    classes: tuple[str, ...]
    records: tuple[LabelledPicture, ...]


def read_image_folder(root: Path, classes: tuple[str, ...] | None = None) -> ImageFolder:
    """List a folder of class folders.

    Args:
        root: The folder, such as imagenet/train.
        classes: The training split's classes when reading another split, so that labels agree; a class may
            then have no folder. By default the sorted names of the folders, each of which must hold pictures.

    Raises:
        DataFormatError: The folder is missing, has no class folders, one without pictures, or one whose class
            is unknown.
    """
    folders = _class_folders(root)
    if classes is None:
        classes = tuple(sorted(folders))
    strangers = sorted(set(folders) - set(classes))
    if strangers:
        raise DataFormatError(
            f"{root}: has a folder {strangers[0]!r}, which is none of the {len(classes)} known classes "
            f"({', '.join(classes[:3])}, ...): remove it, or train with it"
        )
    records: list[LabelledPicture] = []
    for label, name in enumerate(classes):
        if name not in folders:
            continue
        pictures = list_pictures(folders[name])
        if not pictures:
            raise DataFormatError(
                f"{folders[name]}: has no pictures in it; expected those of class {name!r}: "
                "get them again, or remove the folder"
            )
        records.extend(LabelledPicture(path, label) for path in pictures)
    return ImageFolder(classes, tuple(records))


def list_classes(root: Path) -> tuple[str, ...]:
    """The sorted names of class folders, with pictures in them or none; errors as in `read_image_folder`."""
    return tuple(sorted(_class_folders(root)))


def _class_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise DataFormatError(f"{root}: no such folder; expected a folder of class folders: check the path")
    folders = {path.name: path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if not folders:
        raise DataFormatError(f"{root}: has no folders in it; expected one for each class: check the path")
    return folders
