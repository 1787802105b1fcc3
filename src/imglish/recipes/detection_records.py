"""From a run's data settings to pictures with objects or segments, whatever the layout on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, NamedTuple

from imglish.data.detection import Record, SemanticMaps, scored_on
from imglish.data.formats.coco import read_categories, read_instances
from imglish.data.formats.instances import Category, InstanceRecords, InstancesFile, class_names
from imglish.data.formats.panoptic import PanopticFile, read_panoptic
from imglish.data.formats.yolo import find_yolo, read_yolo, read_yolo_classes
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes.data_config import (
    CocoInstancesData,
    CocoPanopticData,
    DataConfig,
    FolderData,
    YoloData,
)
from imglish.recipes.records import world_split

log = logging.getLogger(__name__)
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionFiles:
    """Pictures with objects of a split.

    Args:
        categories: In the order of their labels.
        records: All pictures; `imglish.data.detection.trained_on` chooses those to train on.
        problems: A line for each picture or object that is left out or mended.
        source: The json, or the folder of label files.
        semantic: Class maps of the same pictures, where the data has them.
    """

    categories: tuple[Category, ...]
    records: InstanceRecords
    problems: tuple[str, ...]
    source: Path
    semantic: SemanticMaps | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of their labels, see `class_names`."""
        return class_names(self.categories)

    @property
    def has_masks(self) -> bool:
        """Whether every object has an outline, so that masks can be scored."""
        return self.records.num_outlines == self.records.num_objects > 0

    def usable(self, *, needs_objects: bool = True) -> DetectionFiles:
        """The same; what is left out is counted in the log.

        Args:
            needs_objects: False takes pictures of which nobody has told what is there.

        Raises:
            DataFormatError: There is no object on any picture.
        """
        _tell(self.problems)
        if needs_objects and not self.records.num_objects:
            reason = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise DataFormatError(
                f"{self.source}: none of the {len(self.records)} pictures has an object that can be used; "
                f"expected annotations{reason}"
            )
        return self


class SegmentedPictures(NamedTuple):
    """Pictures of a split that segments are found in.

    Args:
        categories: In the order of their labels.
        records: Pictures.
        told: Whether their true segments are known.
    """

    categories: tuple[Category, ...]
    records: Sequence[Record]
    told: bool


def detection_files(
    data: DataConfig, split: Split, categories: Sequence[Category] | None = None
) -> DetectionFiles:
    """Pictures with objects of a split; what is wrong with them is told, see `DetectionFiles.usable`.

    Args:
        data: Where they are.
        split: Which; pictures of a test split need not have objects.
        categories: Those of training, where they are known: labels must mean the same.

    Raises:
        ConfigError: The data has no objects, or no such split.
        DataFormatError: A file or folder is missing or damaged, or the split has other categories.
    """
    match data:
        case FolderData():
            files, name = world_split(data, split)
            found = read_instances(files.instances(name), files.images(name))
            return _files(found, files.instances(name), SemanticMaps(folder=files.masks(name), first=1))
        case CocoInstancesData():
            annotations, images = _coco_paths(data, split)
            path = data.root / annotations
            found = read_instances(path, data.root / images, needs_objects=split != "test")
            if categories is not None:
                _check_same(found.categories, categories, path)
            folder = data.root / data.semantic / images if data.semantic else None
            maps = SemanticMaps(folder=folder, first=data.semantic_first) if folder else None
            return _files(found, path, maps)
        case YoloData():
            if split == "test":
                raise ConfigError(
                    "data.kind yolo has no test split; give --split validation, or predict pictures by "
                    "imglish predict"
                )
            folders = find_yolo(data.root, split)
            return _files(read_yolo(folders, read_yolo_classes(data.root)), folders.labels, None)
        case _:
            raise ConfigError(
                f"data.kind {data.kind} has no boxes of objects; expected folder, coco_instances or yolo"
            )


def panoptic_file(
    data: DataConfig, split: Split, categories: Sequence[Category] | None = None
) -> PanopticFile:
    """Pictures cut into segments of a split; what is left out is counted in the log.

    Arguments and errors are those of `detection_files`; the test split of `CocoPanopticData` is not cut so.
    """
    found, path = _panoptic(data, split)
    if categories is not None:
        _check_same(found.categories, categories, path, with_kinds=True)
    _tell(found.problems)
    return found


def segmented_pictures(
    data: DataConfig, split: Split, categories: Sequence[Category] | None = None
) -> SegmentedPictures:
    """The same for pictures to predict, too: those of COCO's test split, whose segments nobody has told.

    Arguments and errors are those of `detection_files`.
    """
    if not isinstance(data, CocoPanopticData) or split != "test":
        file = panoptic_file(data, split, categories)
        return SegmentedPictures(file.categories, file.records, told=True)
    path = data.root / data.validation
    known = read_categories(path)  # COCO's file of test pictures has things alone
    if categories is not None:
        _check_same(known, categories, path, with_kinds=True)
    found = read_instances(data.root / data.test, data.root / data.test_images, needs_objects=False)
    _tell(found.problems)
    return SegmentedPictures(known, scored_on(found.records), told=False)  # objects are no segments


def segment_categories(data: DataConfig, split: Split) -> tuple[Category, ...]:
    """The categories that labels of segments are of; errors are those of `detection_files`."""
    if isinstance(data, CocoPanopticData):
        return read_categories(data.root / (data.train if split == "train" else data.validation))
    return panoptic_file(data, split).categories


def _panoptic(data: DataConfig, split: Split) -> tuple[PanopticFile, Path]:
    """Pictures cut into segments, and the json that has them."""
    match data:
        case FolderData():
            world, name = world_split(data, split)
            path = world.panoptic(name)
            return read_panoptic(path, world.images(name), world.panoptic_maps(name)), path
        case CocoPanopticData():
            paths = (
                (data.train, data.train_images, data.train_maps)
                if split == "train"
                else (data.validation, data.validation_images, data.validation_maps)
            )
            path, images, maps = (data.root / path for path in paths)
            return read_panoptic(path, images, maps), path
        case _:
            raise ConfigError(f"data.kind {data.kind} has no segments; expected folder or coco_panoptic")


def _tell(problems: Sequence[str]) -> None:
    """Count what is left out, in the log."""
    if problems:
        log.warning(
            "%d pictures, objects, segments or outlines are left out (see imglish data check); the first: %s",
            len(problems),
            problems[0],
        )


def _coco_paths(data: CocoInstancesData, split: Split) -> tuple[str, str]:
    """The json and the folder of pictures of a split."""
    match split:
        case "train":
            return data.train, data.train_images
        case "validation":
            return data.validation, data.validation_images
        case "test":
            return data.test, data.test_images


def _check_same(
    found: Sequence[Category], expected: Sequence[Category], path: Path, *, with_kinds: bool = False
) -> None:
    """Refuse a file whose labels mean something else; ``with_kinds`` also where things are stuff."""
    said, told = ([_said(one, with_kinds) for one in categories] for categories in (found, expected))
    for mine, theirs in zip_longest(said, told, fillvalue="no category"):
        if mine != theirs:
            raise DataFormatError(
                f"{path}: has {mine} where training has {theirs}; expected the same categories in both files"
            )


def _said(category: Category, with_kind: bool) -> str:
    kind = (" (a thing)" if category.is_thing else " (stuff)") if with_kind else ""
    return f"category {category.category_id} {category.name!r}{kind}"


def _files(found: InstancesFile, source: Path, semantic: SemanticMaps | None) -> DetectionFiles:
    return DetectionFiles(
        categories=found.categories,
        records=found.records,
        problems=found.problems,
        source=source,
        semantic=semantic,
    )
