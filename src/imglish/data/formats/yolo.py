"""YOLO's text labels: beside each picture a text file with a line for each object.

    images/train/a.jpg  labels/train/a.txt  classes.txt (a name a line)

A line is "class x y width height", the centre and the size of a box as shares of the picture's sides, or
"class x0 y0 x1 y1 x2 y2 ...", a polygon. A picture without a file has no objects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from PIL import Image

from imglish.data.formats.instances import Box, Category, InstanceColumns, InstancesFile
from imglish.data.formats.picture_folder import list_pictures
from imglish.data.formats.segmentation import Polygons
from imglish.errors import DataFormatError

_ORIENTATION = 0x0112  # EXIF; from 5 on height and width change places
_SLACK = 1e-3  # shares are written with a few decimals
_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation", "test")}


class YoloFolders(NamedTuple):
    """The pictures and the labels of a split."""

    images: Path
    labels: Path


def find_yolo(root: Path, split: str) -> YoloFolders:
    """Find a split in either layout: images/train and labels/train, or train/images and train/labels.

    Args:
        root: The folder.
        split: "train" or "validation", whose folder may also be val, valid or test.

    Raises:
        DataFormatError: There is no such folder.
    """
    for name in _FOLDERS[split]:
        for images, labels in (
            (root / "images" / name, root / "labels" / name),
            (root / name / "images", root / name / "labels"),
        ):
            if images.is_dir():
                return YoloFolders(images, labels)
    expected = root / "images" / _FOLDERS[split][0]
    raise DataFormatError(
        f"{root}: has no {split} pictures; expected {expected} and labels beside images: check the path"
    )


def read_yolo_classes(root: Path) -> tuple[str, ...]:
    """Names of the classes: the lines of classes.txt, or ``names`` of the only .yaml file.

    Raises:
        DataFormatError: There is neither, or no name in it.
    """
    text = root / "classes.txt"
    if text.is_file():
        try:
            names = [line.strip() for line in text.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            raise DataFormatError(
                f"{text}: is no UTF-8 text; expected the names of classes: save it so"
            ) from None
        while names and not names[-1]:
            names.pop()
        if not names or "" in names:
            raise DataFormatError(f"{text}: has an empty line or none; expected the name of a class in each")
        return tuple(names)
    found = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    if len(found) != 1:
        raise DataFormatError(
            f"{root}: has no classes.txt, and {len(found)} .yaml files; expected one with the name of a "
            "class in each line, or a single .yaml file with names"
        )
    return _yaml_names(found[0])


def read_yolo(folders: YoloFolders, classes: Sequence[str]) -> InstancesFile:
    """Read a split; objects and pictures that nothing can be made of are left out and told.

    Args:
        folders: Where they are, as `find_yolo` finds them.
        classes: Names in the order of the numbers in the files.

    Raises:
        DataFormatError: There are no pictures, or no folder of labels.
    """
    if not folders.labels.is_dir():
        raise DataFormatError(
            f"{folders.labels}: no such folder; expected a text file for each picture of {folders.images} "
            "with objects: check the path"
        )
    columns, problems, number = InstanceColumns(), list[str](), 0
    stems = set[str]()
    for image_id, path in enumerate(list_pictures(folders.images)):
        stems.add(path.stem)
        try:
            size = _size(path)
        except DataFormatError as error:
            problems.append(str(error))
            continue
        columns.add_image(image_id, path.name, size)
        label_path = folders.labels / f"{path.stem}.txt"
        if not label_path.is_file():
            continue
        seen = set[str]()
        for line_number, line in enumerate(
            label_path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1
        ):
            if not line.strip():
                continue
            found = _object(line, size, len(classes)) if line.strip() not in seen else "repeats a line"
            seen.add(line.strip())
            if isinstance(found, str):
                problems.append(
                    f"{label_path}: line {line_number} {found}; expected 'class x y width height' in shares "
                    "of the picture's sides, or a polygon: mend or remove it"
                )
                continue
            label, box, outline = found
            number += 1
            columns.add(
                annotation_id=number,
                image_id=image_id,
                category_id=label,
                box_xyxy=box,
                area=(box[2] - box[0]) * (box[3] - box[1]),
                is_crowd=False,
                segmentation=outline,
            )
    problems += [
        f"{path}: has no picture {path.stem} in {folders.images}: get it, or remove the labels"
        for path in sorted(folders.labels.glob("*.txt"))
        if path.stem not in stems and path.name != "classes.txt" and not path.name.startswith(".")
    ]
    built = columns.build(folders.images, {label: label for label in range(len(classes))}, unique_ids=False)
    if not len(built.records):
        raise DataFormatError(
            problems[0] if problems else f"{folders.images}: has no pictures in it; check the path"
        )
    categories = tuple(Category(label, name, True) for label, name in enumerate(classes))
    return InstancesFile(categories, built.records, tuple(problems))


def _object(line: str, size: tuple[int, int], num_classes: int) -> tuple[int, Box, Polygons | None] | str:
    """The label, box and outline of a line, or what is wrong with it."""
    words = line.split()
    try:
        label, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return f"has something else than numbers: {line.strip()[:40]!r}"
    if not 0 <= label < num_classes:
        return f"has class {label}, which is none of the {num_classes} classes"
    if len(numbers) < 4 or len(numbers) == 5 or len(numbers) % 2:
        return f"has {len(words)} numbers"
    if not all(math.isfinite(number) and -_SLACK <= number <= 1 + _SLACK for number in numbers):
        return "has a number outside 0 to 1"
    height, width = size
    if len(numbers) == 4:
        x, y, wide, high = numbers
        return label, ((x - wide / 2) * width, (y - high / 2) * height, (x + wide / 2) * width,
                       (y + high / 2) * height), None  # fmt: skip
    points = [number * (height if place % 2 else width) for place, number in enumerate(numbers)]
    outline = Polygons(size, (tuple(points),))
    return label, outline.box_xyxy(), outline


def _size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture held upright; only its head is read."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # on damaged data decoders raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataFormatError(f"{path}: does not open ({reason}); expected a picture: get it again") from None


def _yaml_names(path: Path) -> tuple[str, ...]:
    """``names`` of a YOLO settings file: a list, or a mapping from numbers."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise DataFormatError(f"{path}: is no YAML ({first}); expected one with names of classes") from None
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataFormatError(f"{path}: has no names; expected a list of the names of the classes")
    if strange := [name for name in names if not isinstance(name, (str, int)) or isinstance(name, bool)]:
        raise DataFormatError(
            f"{path}: has the name {strange[0]!r}, which is no text in YAML; expected the name of a class: "
            "put it in quotes"
        )
    return tuple(map(str, names))
