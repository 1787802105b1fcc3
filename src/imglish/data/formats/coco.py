"""COCO instances and captions (Lin et al. 2014): one json with images, annotations and categories.

    {"images": [{"id", "file_name", "height", "width"}], "categories": [{"id", "name"}],
     "annotations": [{"id", "image_id", "category_id", "bbox": [x, y, width, height], "area", "iscrowd",
                      "segmentation": polygons or {"size", "counts"}}]}

A captions file has no categories, and annotations of {"id", "image_id", "caption"}.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.json_entries import Entry, load_json
from imglish.data.formats.picture_folder import PictureFolder
from imglish.data.formats.segmentation import Polygons, RunLengths

_INSTANCES = "COCO instances json (images, annotations, categories)"
_CAPTIONS = "COCO captions json (images, annotations)"

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Category:
    """A class of things (or of stuff in panoptic files).

    Args:
        category_id: Its id in the file.
        name: Its name.
        is_thing: False for stuff.
    """

    category_id: int
    name: str
    is_thing: bool


@dataclass(frozen=True, slots=True)
class CocoImage:
    """A picture: its id in the file, its path, its (height, width) in pixels."""

    image_id: int
    path: Path
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Instance:
    """One object.

    Args:
        annotation_id: Its id in the file.
        label: Index into the file's categories, which are sorted by id.
        box_xyxy: Left, top, right, bottom in pixels.
        area: Of the mask, in pixels.
        is_crowd: The outline holds many objects that were not told apart.
        segmentation: The outline, not yet decoded; None in files of boxes only.
    """

    annotation_id: int
    label: int
    box_xyxy: Box
    area: float
    is_crowd: bool
    segmentation: RunLengths | Polygons | None


@dataclass(frozen=True, slots=True)
class InstancesRecord:
    """A picture and its objects, in the order of the file."""

    image: CocoImage
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class InstancesFile:
    """Categories sorted by id, and one record for each picture, also for those without objects."""

    categories: tuple[Category, ...]
    records: tuple[InstancesRecord, ...]


@dataclass(frozen=True, slots=True)
class CaptionsRecord:
    """A picture and its captions, in the order of the file; none for test files."""

    image: CocoImage
    captions: tuple[str, ...]


def read_instances(annotations: Path, images: Path) -> InstancesFile:
    """Read an instances file.

    Args:
        annotations: The json.
        images: The folder its file names are relative to.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, or names a picture, image id or
            category id that does not exist.
    """
    file = load_json(annotations, _INSTANCES)
    categories = read_categories(file)
    labels = {category.category_id: label for label, category in enumerate(categories)}
    pictures = read_images(file, PictureFolder(images))
    instances: dict[int, list[Instance]] = {image_id: [] for image_id in pictures}
    for entry in file.entries("annotations"):
        image = image_of(entry, pictures)
        instances[image.image_id].append(_instance(entry, label_of(entry, labels), image.size))
    return InstancesFile(
        categories, tuple(InstancesRecord(image, tuple(instances[key])) for key, image in pictures.items())
    )


def read_captions(annotations: Path, images: Path) -> tuple[CaptionsRecord, ...]:
    """Read a captions file; arguments and errors as in `read_instances`."""
    file = load_json(annotations, _CAPTIONS)
    pictures = read_images(file, PictureFolder(images))
    captions: dict[int, list[str]] = {image_id: [] for image_id in pictures}
    for entry in file.entries("annotations") if "annotations" in file else ():
        captions[image_of(entry, pictures).image_id].append(entry.text("caption"))
    return tuple(CaptionsRecord(image, tuple(captions[key])) for key, image in pictures.items())


def read_categories(file: Entry) -> tuple[Category, ...]:
    """The categories of an opened COCO json, sorted by id."""
    categories: dict[int, Category] = {}
    for entry in file.entries("categories"):
        key = entry.integer("id")
        if key in categories:
            entry.fail(f"repeats category id {key}")
        is_thing = entry.integer("isthing") == 1 if "isthing" in entry else True
        categories[key] = Category(key, entry.text("name"), is_thing)
    if not categories:
        file.fail("has no categories")
    return tuple(categories[key] for key in sorted(categories))


def read_images(file: Entry, folder: PictureFolder) -> dict[int, CocoImage]:
    """The images of an opened COCO json by id, each of which must lie in the folder."""
    images: dict[int, CocoImage] = {}
    for entry in file.entries("images"):
        key, name = entry.integer("id"), entry.text("file_name")
        path = folder.find(name)
        if path is None:
            entry.fail(f"names picture {name!r}, which {folder.root} does not have")
        if key in images:
            entry.fail(f"repeats image id {key}")
        size = (entry.integer("height"), entry.integer("width"))
        if min(size) < 1:
            entry.fail(f"has height {size[0]} and width {size[1]}, not pixels")
        images[key] = CocoImage(key, path, size)
    if not images:
        file.fail("has no images")
    return images


def image_of(entry: Entry, images: dict[int, CocoImage]) -> CocoImage:
    """The image an annotation belongs to."""
    image = images.get(entry.integer("image_id"))
    if image is None:
        entry.fail(f"belongs to image id {entry.integer('image_id')}, which is not among the images")
    return image


def label_of(entry: Entry, labels: dict[int, int]) -> int:
    """Index of the category an annotation or segment belongs to."""
    label = labels.get(entry.integer("category_id"))
    if label is None:
        entry.fail(f"has category id {entry.integer('category_id')}, which is not among the categories")
    return label


def read_box(entry: Entry) -> Box:
    """The box of an annotation: x, y, width, height on disk, left, top, right, bottom in records."""
    x, y, width, height = entry.numbers("bbox", 4)
    if width < 0 or height < 0:
        entry.fail(f"has a box of width {width} and height {height}")
    return x, y, x + width, y + height


def _instance(entry: Entry, label: int, size: tuple[int, int]) -> Instance:
    return Instance(
        annotation_id=entry.integer("id"),
        label=label,
        box_xyxy=read_box(entry),
        area=entry.number("area"),
        is_crowd=entry.integer("iscrowd") == 1 if "iscrowd" in entry else False,
        segmentation=_segmentation(entry, size),
    )


def _segmentation(entry: Entry, size: tuple[int, int]) -> RunLengths | Polygons | None:
    outline = entry.raw("segmentation") if "segmentation" in entry else None
    if outline is None or outline == []:
        return None
    if isinstance(outline, list):
        for polygon in outline:
            if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
                entry.fail("has a polygon without at least three points x, y")
            if not all(isinstance(number, (int, float)) for number in polygon):
                entry.fail("has a polygon with something else than numbers in it")
        return Polygons(size, tuple(tuple(map(float, polygon)) for polygon in outline))
    runs = entry.entry("segmentation")
    height, width = runs.numbers("size", 2)
    if (height, width) != size:
        entry.fail(
            f"has a mask {height:g} high and {width:g} wide, its picture is {size[0]} high, {size[1]} wide"
        )
    counts = runs.raw("counts")
    if isinstance(counts, str):
        return RunLengths(size, counts)
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        runs.fail("has counts that are neither a string nor a list of whole numbers")
    return RunLengths(size, tuple(counts))
