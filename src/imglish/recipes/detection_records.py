"""From a run's data settings to pictures with objects or segments, whatever the layout on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from imglish.data.detection import SemanticMaps
from imglish.data.formats.coco import read_instances
from imglish.data.formats.instances import Category, InstanceRecords, InstancesFile
from imglish.data.formats.panoptic import PanopticFile, read_panoptic
from imglish.data.formats.yolo import find_yolo, read_yolo, read_yolo_classes
from imglish.data.world.files import read_world
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes.data_config import (
    CocoInstancesData,
    CocoPanopticData,
    DataConfig,
    FolderData,
    YoloData,
)
from imglish.recipes.records import WORLD_SPLITS

log = logging.getLogger(__name__)
Split = Literal["train", "validation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionFiles:
    """Pictures with objects of a split.

    Args:
        categories: In the order of their labels.
        records: All pictures; `imglish.data.detection.trained_on` chooses those to train on.
        problems: A line for each picture or object that is left out or mended.
        semantic: Class maps of the same pictures, where the data has them.
    """

    categories: tuple[Category, ...]
    records: InstanceRecords
    problems: tuple[str, ...]
    semantic: SemanticMaps | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of their labels."""
        return tuple(category.name for category in self.categories)

    @property
    def has_masks(self) -> bool:
        """Whether every object has an outline, so that masks can be scored."""
        return self.records.num_outlines == self.records.num_objects > 0

    def usable(self) -> DetectionFiles:
        """The same; what is left out is counted in the log.

        Raises:
            DataFormatError: There is no object on any picture.
        """
        _tell(self.problems)
        if not self.records.num_objects:
            reason = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise DataFormatError(
                f"{self.records[0].image.path.parent}: none of the {len(self.records)} pictures has an "
                f"object that can be used; expected annotations{reason}"
            )
        return self


def detection_files(
    data: DataConfig, split: Split, categories: Sequence[Category] | None = None
) -> DetectionFiles:
    """Pictures with objects of a split; what is wrong with them is told, see `DetectionFiles.usable`.

    Args:
        data: Where they are.
        split: Which.
        categories: Those of training, where they are known: labels must mean the same.

    Raises:
        ConfigError: The data has no objects.
        DataFormatError: A file or folder is missing or damaged, or the split has other categories.
    """
    match data:
        case FolderData():
            files = read_world(data.root)
            name = WORLD_SPLITS[split]
            found = read_instances(files.instances(name), files.images(name))
            return _files(found, SemanticMaps(folder=files.masks(name), first=1))
        case CocoInstancesData():
            found = _coco(data, split)
            if categories is not None:
                _check_same(found.categories, categories, data)
            images = data.train_images if split == "train" else data.validation_images
            folder = data.root / data.semantic / images if data.semantic else None
            return _files(found, SemanticMaps(folder=folder, first=data.semantic_first) if folder else None)
        case YoloData():
            return _files(read_yolo(find_yolo(data.root, split), read_yolo_classes(data.root)), None)
        case _:
            raise ConfigError(
                f"data.kind {data.kind} has no boxes of objects; expected folder, coco_instances or yolo"
            )


def panoptic_file(data: DataConfig, split: Split) -> PanopticFile:
    """Pictures cut into segments of a split; what is left out is counted in the log.

    Errors are those of `detection_files`.
    """
    match data:
        case FolderData():
            world, name = read_world(data.root), WORLD_SPLITS[split]
            found = read_panoptic(world.panoptic(name), world.images(name), world.panoptic_maps(name))
        case CocoPanopticData():
            paths = (
                (data.train, data.train_images, data.train_maps)
                if split == "train"
                else (data.validation, data.validation_images, data.validation_maps)
            )
            annotations, images, maps = (data.root / path for path in paths)
            found = read_panoptic(annotations, images, maps)
        case _:
            raise ConfigError(f"data.kind {data.kind} has no segments; expected folder or coco_panoptic")
    _tell(found.problems)
    return found


def _tell(problems: Sequence[str]) -> None:
    """Count what is left out, in the log."""
    if problems:
        log.warning(
            "%d pictures, objects, segments or outlines are left out (see imglish data check); the first: %s",
            len(problems),
            problems[0],
        )


def _coco(data: CocoInstancesData, split: Split) -> InstancesFile:
    paths = (data.train, data.train_images) if split == "train" else (data.validation, data.validation_images)
    annotations, images = (data.root / path for path in paths)
    return read_instances(annotations, images)


def _check_same(found: Sequence[Category], expected: Sequence[Category], data: CocoInstancesData) -> None:
    """Refuse a file whose labels mean something else."""
    for mine, theirs in zip_longest(found, expected):
        if (
            mine is None
            or theirs is None
            or (mine.category_id, mine.name) != (theirs.category_id, theirs.name)
        ):
            raise DataFormatError(
                f"{data.root / data.validation}: has {_said(mine)} where training has {_said(theirs)}; "
                "expected the same categories in both files"
            )


def _said(category: Category | None) -> str:
    if category is None:
        return "no category"
    return f"category {category.category_id} {category.name!r}"


def _files(found: InstancesFile, semantic: SemanticMaps | None) -> DetectionFiles:
    return DetectionFiles(
        categories=found.categories, records=found.records, problems=found.problems, semantic=semantic
    )
