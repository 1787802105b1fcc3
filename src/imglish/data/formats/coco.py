"""COCO instances and captions (Lin et al. 2014): one json with images, annotations and categories.

    {"images": [{"id", "file_name", "height", "width"}], "categories": [{"id", "name"}],
     "annotations": [{"id", "image_id", "category_id", "bbox": [x, y, width, height], "area", "iscrowd",
                      "segmentation": polygons or {"size", "counts"}}]}

A captions file has no categories, and annotations of {"id", "image_id", "caption"}. Objects365 and other
sets in this layout have boxes alone, names of pictures that begin with folders of their own, and category
ids of any numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

from imglish.data.formats.instances import (
    Box,
    Category,
    CocoImage,
    InstanceColumns,
    InstancesFile,
)
from imglish.data.formats.json_entries import Entry, JsonStream, load_json
from imglish.data.formats.picture_folder import PictureFolder
from imglish.data.formats.segmentation import Polygons, RunLengths
from imglish.errors import DataFormatError

_INSTANCES = "COCO instances json (images, annotations, categories)"
_CAPTIONS = "COCO captions json (images, annotations)"
_LISTS = ("images", "annotations", "categories")
_MISSING = "check the folder of the pictures, get this one, or remove it from the file"
_LEAST_NUMBERS = 6  # of a polygon: three points


@dataclass(frozen=True, slots=True)
class CaptionsRecord:
    """A picture and its captions, in the order of the file; none for test files."""

    image: CocoImage
    captions: tuple[str, ...]


def read_instances(annotations: Path, images: Path, *, needs_objects: bool = True) -> InstancesFile:
    """Read an instances file, picture by picture and object by object: it may have any size.

    A picture that is missing is left out with its objects, and so is an object that nothing can be made of;
    of an outline polygons of fewer than three points are left out. An object without a box has that of its
    outline, and one without an area that of its box.

    Args:
        annotations: The json.
        images: The folder its file names are relative to; where a name is not there, its last parts are
            looked for.
        needs_objects: False also takes a file without a list of annotations, as COCO's ``image_info`` files
            of test pictures.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, has no picture that is there, or
            repeats a category id.
    """
    reader = _InstancesReader(JsonStream(annotations, _INSTANCES), PictureFolder(images))
    read = reader.read(optional=() if needs_objects else ("annotations",))
    if not len(read.records):
        reader.refuse("has no images")
    return InstancesFile(read.categories, read.records, read.problems)


class AnnotationReader(ABC):
    """Collects what a COCO json has, element by element, and what is wrong with it.

    Args:
        stream: The json.
        folder: The folder of the pictures.
    """

    unique_ids: ClassVar[bool]  # whether no two objects of the file may have the same id

    def __init__(self, stream: JsonStream, folder: PictureFolder) -> None:
        self._stream, self._folder = stream, folder
        self._columns, self._categories = InstanceColumns(), dict[int, Category]()
        self._missing = set[int]()  # ids of pictures that were left out
        self._places: list[array[int]] = [array("q"), array("q")]  # annotation, and segment, of each object
        self._problems: dict[tuple[int, int, int], str] = {}  # by list, place in it, and segment

    @abstractmethod
    def annotation(self, index: int, entry: Entry) -> None:
        """Read element ``index`` of the annotations, by `add`."""

    def add(
        self, index: int, entry: Entry, image_id: int, box: Box, outline: RunLengths | Polygons | None,
        segment: int = -1,
    ) -> None:  # fmt: skip
        """Add the object that ``entry`` describes.

        Args:
            index: Of the annotation.
            entry: The object itself.
            image_id: Of its picture.
            box: Of the object.
            outline: Of the object.
            segment: Its place among the segments of the annotation; -1 where the annotation is one object.
        """
        self._columns.add(
            annotation_id=entry.integer("id"),
            image_id=image_id,
            category_id=entry.integer("category_id"),
            box_xyxy=box,
            area=entry.number("area") if "area" in entry else (box[2] - box[0]) * (box[3] - box[1]),
            is_crowd="iscrowd" in entry and entry.flag("iscrowd"),
            segmentation=outline,
        )
        self._places[0].append(index)
        self._places[1].append(segment)

    def read(self, optional: Collection[str] = ()) -> InstancesFile:
        """Read everything.

        Args:
            optional: Lists that the file need not have.

        Raises:
            DataFormatError: The file is missing, damaged or of another layout, or repeats a category id.
        """
        for name, index, entry in self._stream.elements(_LISTS, optional):
            if name == "categories":
                _add_category(self._categories, entry)
                continue
            try:
                if name == "images":
                    self._image(entry)
                else:
                    self.annotation(index, entry)
            except DataFormatError as error:
                self._problems[_LISTS.index(name), index, -1] = str(error)
        categories = _sorted_categories(self._categories, self._stream)
        labels = {category.category_id: label for label, category in enumerate(categories)}
        built = self._columns.build(self._folder.root, labels, unique_ids=self.unique_ids)
        for number, problem in built.left_out.items():
            self._leave_out(self._places[0][number], self._places[1][number], problem)
        for number, key in built.orphans.items():
            if key not in self._missing:
                problem = f"belongs to image id {key}, which is not among the images"
                self._leave_out(self._places[0][number], -1, problem)
        lines = tuple(self._problems[place] for place in sorted(self._problems))
        return InstancesFile(categories, built.records, lines)

    def refuse(self, problem: str) -> NoReturn:
        """Refuse a file of which nothing is left: for its first problem or, where there is none, for this."""
        # Without any picture all annotations are orphans, which is not what is wrong with them.
        if self._problems and (min(self._problems)[0] == 0 or self._columns.num_images):
            raise DataFormatError(self._problems[min(self._problems)])
        self._stream.fail(problem)

    def _leave_out(self, annotation: int, segment: int, problem: str) -> None:
        inner = (f"annotations[{annotation}].segments_info", segment)
        name, index = ("annotations", annotation) if segment < 0 else inner
        self._problems[1, annotation, segment] = self._stream.line(name, index, problem)

    def _image(self, entry: Entry) -> None:
        key, name, size = entry.integer("id"), entry.text("file_name"), _size(entry)
        if self._columns.has_image(key):
            entry.fail(f"repeats image id {key}")
        found = _find_tail(self._folder, name)
        if found is None:
            self._missing.add(key)
            entry.fail(f"names picture {name!r}, which {self._folder.root} does not have", _MISSING)
        self._columns.add_image(key, found, size)


class _InstancesReader(AnnotationReader):
    """Annotations of one object each."""

    unique_ids = True

    def annotation(self, index: int, entry: Entry) -> None:
        """Read an object."""
        outline, problem = _segmentation(entry)
        self.add(index, entry, entry.integer("image_id"), _box_of(entry, outline), outline)
        if problem:
            entry.fail(problem)


def read_categories(annotations: Path) -> tuple[Category, ...]:
    """The categories of an instances or panoptic file alone, sorted by id. Errors as in `read_instances`."""
    stream, categories = JsonStream(annotations, _INSTANCES), dict[int, Category]()
    for _, _, entry in stream.elements(("categories",)):
        _add_category(categories, entry)
    return _sorted_categories(categories, stream)


def read_captions(annotations: Path, images: Path) -> tuple[CaptionsRecord, ...]:
    """Read a captions file; arguments and errors as in `read_instances`."""
    file = load_json(annotations, _CAPTIONS)
    pictures = read_images(file, PictureFolder(images))
    captions: dict[int, list[str]] = {image_id: [] for image_id in pictures}
    for entry in file.entries("annotations") if "annotations" in file else ():
        captions[image_of(entry, pictures).image_id].append(entry.text("caption"))
    return tuple(CaptionsRecord(image, tuple(captions[key])) for key, image in pictures.items())


def read_images(file: Entry, folder: PictureFolder) -> dict[int, CocoImage]:
    """The images of an opened COCO json by id, each of which must lie in the folder."""
    images: dict[int, CocoImage] = {}
    for entry in file.entries("images"):
        key, name = entry.integer("id"), entry.text("file_name")
        path = folder.find(name)
        if path is None:
            entry.fail(f"names picture {name!r}, which {folder.root} does not have", _MISSING)
        if key in images:
            entry.fail(f"repeats image id {key}")
        images[key] = CocoImage(key, path, _size(entry))
    if not images:
        file.fail("has no images")
    return images


def image_of(entry: Entry, images: dict[int, CocoImage]) -> CocoImage:
    """The image an annotation belongs to."""
    image = images.get(entry.integer("image_id"))
    if image is None:
        entry.fail(f"belongs to image id {entry.integer('image_id')}, which is not among the images")
    return image


def read_box(entry: Entry) -> Box:
    """The box of an annotation: x, y, width, height on disk, left, top, right, bottom in records."""
    x, y, width, height = entry.numbers("bbox", 4)
    if width < 0 or height < 0:
        entry.fail(f"has a box of width {width} and height {height}")
    return x, y, x + width, y + height


def _add_category(categories: dict[int, Category], entry: Entry) -> None:
    """Add the category of an entry to those by id."""
    key = entry.integer("id")
    if key in categories:
        entry.fail(f"repeats category id {key}")
    is_thing = entry.flag("isthing") if "isthing" in entry else True
    categories[key] = Category(key, entry.text("name"), is_thing)


def _sorted_categories(categories: dict[int, Category], stream: JsonStream) -> tuple[Category, ...]:
    """Categories by their id; a file without any is refused."""
    if not categories:
        stream.fail("has no categories")
    return tuple(categories[key] for key in sorted(categories))


def _size(entry: Entry) -> tuple[int, int]:
    """(height, width) of a picture."""
    size = (entry.integer("height"), entry.integer("width"))
    if min(size) < 1:
        entry.fail(f"has height {size[0]} and width {size[1]}, not pixels")
    return size


def _find_tail(folder: PictureFolder, name: str) -> str | None:
    """The name of a picture in a folder: ``name`` or, where that is not there, the longest end of it.

    A backslash may part folders as well as be a character of a name, by the system that wrote the file.
    """
    spellings = (name.split("/"), name.replace("\\", "/").split("/"))
    tails = ("/".join(parts[start:]) for parts in spellings for start in range(len(parts)))
    return next((tail for tail in tails if tail and folder.find(tail) is not None), None)


def _box_of(entry: Entry, outline: RunLengths | Polygons | None) -> Box:
    """The box of an annotation, or else of its outline."""
    if "segments_info" in entry and "bbox" not in entry:
        entry.fail(
            "has segments",
            "of a panoptic json the check wants the folder of --maps, and training data.kind coco_panoptic",
        )
    if outline is not None and ("bbox" not in entry or entry.raw("bbox") in (None, [])):
        return outline.box_xyxy()
    return read_box(entry)


def _segmentation(entry: Entry) -> tuple[RunLengths | Polygons | None, str]:
    """The outline of an annotation, and what had to be left out of it.

    The size of polygons is not known here: that of the picture, which may come later.
    """
    outline = entry.raw("segmentation") if "segmentation" in entry else None
    if outline is None or outline == []:
        return None, ""
    if not isinstance(outline, list):
        return _runs(entry.entry("segmentation")), ""
    pieces, problem = list[tuple[float, ...]](), ""
    for polygon in outline:
        if not isinstance(polygon, list) or len(polygon) < _LEAST_NUMBERS or len(polygon) % 2:
            problem = "has a polygon without at least three points x, y"
            continue
        try:
            points = tuple(map(float, array("d", polygon)))
        except (TypeError, OverflowError):
            entry.fail("has a polygon with something else than numbers in it")
        if not math.isfinite(sum(points)):
            entry.fail("has a polygon with something else than numbers in it")
        pieces.append(points)
    return Polygons((0, 0), tuple(pieces)) if pieces else None, problem


def _runs(runs: Entry) -> RunLengths:
    height, width = map(int, runs.numbers("size", 2))
    counts = runs.raw("counts")
    if isinstance(counts, str):
        return RunLengths((height, width), counts)
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        runs.fail("has counts that are neither a string nor a list of whole numbers")
    return RunLengths((height, width), tuple(counts))
