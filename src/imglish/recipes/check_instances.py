"""Going through pictures with objects before training: every file, and what the annotations have in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imglish.data.detection import check_outline, is_trainable, read_picture_of
from imglish.data.formats.coco import read_instances
from imglish.data.formats.instances import Instance, InstancesFile, InstancesRecord, class_names
from imglish.data.formats.panoptic import read_panoptic
from imglish.data.formats.yolo import find_yolo, read_yolo, read_yolo_classes
from imglish.data.pictures import read_segment_ids
from imglish.errors import DataFormatError

_MANY = 300  # objects in a picture from which memory is worth a thought
_LEAST_SIDE = 32  # pixels; the official loader does not train on smaller pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceCheck:
    """What a file or split holds and what is wrong with it.

    Args:
        name: Of the file or split.
        num_pictures: Pictures that can be used.
        num_objects: Their objects, crowds included.
        classes: All classes.
        category_ids: Their ids in the file.
        objects: Objects of each class, by its name.
        pictures: Pictures that have the class, by its name.
        problems: A line for each picture, object or outline that can not be used.
        notes: What is no fault, but good to know before training.
    """

    name: str
    num_pictures: int
    num_objects: int
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    objects: Counter[str]
    pictures: Counter[str]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_coco(
    annotations: Path,
    images: Path,
    *,
    decode: bool,
    train: InstanceCheck | None,
    progress: Callable[[int, int], None],
) -> InstanceCheck:
    """Check a COCO-style json and its pictures.

    Args:
        annotations: The json.
        images: The folder of the pictures.
        decode: True decodes every picture and every run length.
        train: The check of the training file, where this is another.
        progress: Called with the number of pictures done and of all.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout.
    """
    return _check(annotations.name, read_instances(annotations, images), decode, train, progress)


def check_panoptic(
    annotations: Path, images: Path, maps: Path, *, progress: Callable[[int, int], None]
) -> InstanceCheck:
    """Check a COCO panoptic json: decode every picture and every map of segments.

    Args:
        annotations: The json.
        images: The folder of the pictures.
        maps: The folder of the maps.
        progress: As in `check_coco`, and so are the errors.
    """
    file = read_panoptic(annotations, images, maps)
    classes = class_names(file.categories)
    category_ids = tuple(category.category_id for category in file.categories)
    segments, pictures, unlisted, empty = Counter[str](), Counter[str](), 0, 0
    problems, num_pictures = list(file.problems), 0
    for number, record in enumerate(file.records, start=1):
        progress(number, len(file.records))
        labels = [classes[segment.label] for segment in record.segments]
        segments.update(labels)
        pictures.update(set(labels))
        try:
            read_picture_of(record)
            values = set(read_segment_ids(record.map_path, record.image.size).unique().tolist())
        except DataFormatError as error:
            problems.append(str(error))
            continue
        num_pictures += 1
        known = {segment.segment_id for segment in record.segments}
        unlisted += len(values - known - {0})
        empty += len(known - values)
    notes = []
    if unlisted:
        notes.append(f"ids in maps that the json does not list, which count as unlabelled: {unlisted}")
    if empty:
        notes.append(f"segments without a pixel in their map, which are not trained on: {empty}")
    if all(category.is_thing for category in file.categories):
        notes.append("classes that are stuff, by an isthing of 0: none")
    if missing := [one for one in classes if one not in segments]:
        notes.append(f"classes that no segment has: {len(missing)} ({', '.join(missing[:5])})")
    return InstanceCheck(
        name=annotations.name,
        num_pictures=num_pictures,
        num_objects=segments.total(),
        classes=classes,
        category_ids=category_ids,
        objects=segments,
        pictures=pictures,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def check_yolo(root: Path, *, decode: bool, progress: Callable[[int, int], None]) -> list[InstanceCheck]:
    """Check both splits of a folder with YOLO labels; arguments and errors as in `check_coco`."""
    classes = read_yolo_classes(root)
    splits: tuple[Literal["train", "validation"], ...] = ("train", "validation")
    checks: list[InstanceCheck] = []
    for split in splits:
        found = read_yolo(find_yolo(root, split), classes)
        checks.append(_check(split, found, decode, checks[0] if checks else None, progress))
    return checks


def _check(
    name: str,
    file: InstancesFile,
    decode: bool,
    train: InstanceCheck | None,
    progress: Callable[[int, int], None],
) -> InstanceCheck:
    classes = class_names(file.categories)
    category_ids = tuple(category.category_id for category in file.categories)
    objects, pictures, counted = Counter[str](), Counter[str](), Counter[str]()
    problems, num_pictures, most = list(file.problems), 0, 0
    for number, record in enumerate(file.records, start=1):
        progress(number, len(file.records))
        wrong = list(_damage(record)) if decode else []
        problems += wrong
        num_pictures += not wrong
        labels = [classes[instance.label] for instance in record.instances]
        objects.update(labels)
        pictures.update(set(labels))
        most = max(most, len(labels))
        counted.update(_remarks(record))
    if not objects:
        problems.append(
            f"{name}: has no object on any of {len(file.records)} pictures; nothing can be trained"
        )
    notes = [f"{what}: {count}" for what, count in counted.items()]
    if most >= _MANY:
        notes.append(
            f"most objects in one picture: {most}; each has a mask of the picture's size in training"
        )
    if missing := [one for one in classes if one not in objects]:
        notes.append(f"classes that no object has: {len(missing)} ({', '.join(missing[:5])})")
    if train is not None:
        if (train.category_ids, train.classes) != (category_ids, classes):
            problems.append(
                f"{name}: has other categories than {train.name}; expected the same ids and names in both"
            )
        elif new := [one for one in objects if one not in train.objects]:
            notes.append(f"classes that no object of training has: {', '.join(new[:5])}")
    return InstanceCheck(
        name=name,
        num_pictures=num_pictures,
        num_objects=file.records.num_objects,
        classes=classes,
        category_ids=category_ids,
        objects=objects,
        pictures=pictures,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _damage(record: InstancesRecord) -> Iterator[str]:
    """A line for what of a picture does not decode."""
    try:
        read_picture_of(record)
    except DataFormatError as error:
        yield str(error)
    for instance in record.instances:
        try:
            check_outline(record, instance)
        except DataFormatError as error:
            yield str(error)


def _remarks(record: InstancesRecord) -> Iterator[str]:
    """What is worth counting of a picture and its objects."""
    size = record.image.size
    if not record.instances:
        yield "pictures without objects, which are not trained on by default"
    if min(size) < _LEAST_SIDE:
        yield f"pictures with a side under {_LEAST_SIDE} pixels, which are not trained on by default"
    for instance in record.instances:
        if not is_trainable(instance, size):
            yield "objects outside their picture, thinner than a pixel or without area, not trained on"
        elif _reaches_out(instance, size):
            yield "boxes that reach out of their picture, which are cut off at its edges"
        if instance.is_crowd:
            yield "crowds, which are neither found nor background"
        if instance.segmentation is None:
            yield "objects without an outline, which no mask is trained on or scored with"


def _reaches_out(instance: Instance, size: tuple[int, int]) -> bool:
    left, top, right, bottom = instance.box_xyxy
    # Half a pixel: boxes are rounded to hundredths, and often drawn to the last pixel's centre.
    return min(left, top) < -0.5 or right > size[1] + 0.5 or bottom > size[0] + 0.5
