"""Finding pictures by name, with one listing of each folder instead of one question per file."""

from __future__ import annotations

import os
from pathlib import Path

from imglish.errors import DataFormatError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


class PictureFolder:
    """A folder of pictures, possibly with folders in it.

    Args:
        root: The folder.

    Raises:
        DataFormatError: There is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataFormatError(f"{root}: no such folder; expected the folder of pictures: check the path")
        self.root = root
        self._listings: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> Path | None:
        """Path of the picture ``name`` (relative, with "/"), or None where there is no such file."""
        parent, _, base = name.rpartition("/")
        listing = self._listings.get(parent)
        if listing is None:
            folder = self.root / parent
            listing = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
            self._listings[parent] = listing
        return self.root / name if base in listing else None


def list_pictures(folder: Path) -> list[Path]:
    """Pictures directly in a folder, sorted by name; hidden files, as ``._a.jpg`` of a Mac, are none.

    Raises:
        DataFormatError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataFormatError(f"{folder}: no such folder; expected a folder of pictures: check the path")
    names = [name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES]
    return [folder / name for name in sorted(names) if not name.startswith(".")]
