"""From a run's data settings to pictures with masks, whatever the layout on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from imglish.data.formats.mask_folder import match_masks
from imglish.data.formats.mask_labels import MaskLabels, numbered
from imglish.data.formats.segmentation_sets import SegmentationFiles, read_segmentation_set
from imglish.data.mask_classes import find_labels, find_masks
from imglish.data.world.annotate import CLASSES
from imglish.data.world.files import read_world
from imglish.errors import ConfigError
from imglish.recipes.data_config import (
    DataConfig,
    FolderData,
    SegmentationFolderData,
    SegmentationSetData,
)

Progress = Callable[[int, int], None]


def segmentation_files(
    data: DataConfig,
    split: Literal["train", "validation"],
    labels: MaskLabels | None = None,
    progress: Progress | None = None,
) -> SegmentationFiles:
    """Pictures with masks of a split; files that are alone are told, see `SegmentationFiles.strict`.

    Args:
        data: Where they are.
        split: Which.
        labels: The classes, where they are known already: inferring them reads every training mask.
        progress: Called with the number of masks read and of all, while classes are inferred.

    Raises:
        ConfigError: The data has no masks.
        DataFormatError: A file or folder is missing or damaged, or there are no two classes.
    """
    match data:
        case FolderData():
            files = read_world(data.root)
            found = match_masks(files.mask_images(split), files.masks(split))
            return SegmentationFiles(numbered(CLASSES, first=1), found.records, found.problems)
        case SegmentationFolderData():
            found = find_masks(data.root, split, data.held_out)
            if labels is None:
                train = found if split == "train" else find_masks(data.root, "train", data.held_out)
                labels = find_labels(train.records, data.rules(), progress)
            return SegmentationFiles(labels, found.records, found.problems)
        case SegmentationSetData():
            return read_segmentation_set(data.name, data.root, split)
        case _:
            raise ConfigError(
                f"data.kind {data.kind} has no class maps; expected folder, segmentation_folder or "
                "segmentation_set"
            )
