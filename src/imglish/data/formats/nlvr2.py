"""NLVR2 (Suhr et al. 2019): one json object a line, a statement about two pictures.

    {"identifier": "train-100-0-2", "sentence": "...", "label": "True" or "False", "directory": 7}

The pictures are <identifier without its last part>-img0.png (left) and -img1.png (right), in the folder that
"directory" names where there is one (training pictures only). The hidden test split has no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.json_entries import Entry, load_json_lines
from imglish.data.formats.picture_folder import PictureFolder
from imglish.errors import DataFormatError

_LAYOUT = "NLVR2 json lines (identifier, sentence, label)"


@dataclass(frozen=True, slots=True)
class Nlvr2Record:
    """A statement about two pictures; ``label`` says whether it is true, None where that is not told."""

    identifier: str
    left: Path
    right: Path
    sentence: str
    label: bool | None


def read_nlvr2(annotations: Path, images: Path) -> tuple[Nlvr2Record, ...]:
    """Read a split.

    Args:
        annotations: The json lines.
        images: The folder of the split's pictures, such as images/train or dev.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, or a picture does not exist.
    """
    folder = PictureFolder(images)
    records = []
    for entry in load_json_lines(annotations, _LAYOUT):
        identifier = entry.text("identifier")
        pair, _, sentence_number = identifier.rpartition("-")
        if not pair or not sentence_number.isdigit():
            entry.fail(f"has identifier {identifier!r}, not one like 'train-100-0-2'")
        if "directory" in entry:
            pair = f"{entry.integer('directory')}/{pair}"
        left, right = (_picture(entry, folder, f"{pair}-img{side}.png") for side in (0, 1))
        records.append(Nlvr2Record(identifier, left, right, entry.text("sentence"), _label(entry)))
    if not records:
        raise DataFormatError(f"{annotations}: has no lines; expected {_LAYOUT}: get the file again")
    return tuple(records)


def _picture(entry: Entry, folder: PictureFolder, name: str) -> Path:
    path = folder.find(name)
    if path is None:
        entry.fail(f"is about picture {name!r}, which {folder.root} does not have")
    return path


def _label(entry: Entry) -> bool | None:
    if "label" not in entry:
        return None
    label = entry.text("label")
    if label not in ("True", "False"):
        entry.fail(f"has label {label!r}, not 'True' or 'False'")
    return label == "True"
