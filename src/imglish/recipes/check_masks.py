"""Going through pictures with masks before training: every file, and what the masks have in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from imglish.data.formats.mask_labels import IGNORED, MaskLabels
from imglish.data.formats.segmentation_sets import SegmentationFiles, SegmentationSet
from imglish.data.mask_classes import read_labels
from imglish.data.pictures import read_picture
from imglish.errors import DataFormatError
from imglish.recipes.data_config import SegmentationFolderData, SegmentationSetData
from imglish.recipes.segmentation_records import segmentation_files

Layout = Literal["own"] | SegmentationSet

_SPLITS: tuple[Literal["train", "validation"], ...] = ("train", "validation")


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskCheck:
    """What a split holds and what is wrong with it.

    Args:
        split: "train" or "validation".
        num_samples: Pictures that can be used.
        classes: All classes.
        pictures: Pictures that have the class, by its name.
        pixels: Pixels of the class, by its name.
        problems: A line for each file that can not be used.
        notes: What is no fault, but good to know before training.
    """

    split: str
    num_samples: int
    classes: tuple[str, ...]
    pictures: Counter[str]
    pixels: Counter[str]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def shares(self) -> list[tuple[str, int, float]]:
        """Each class with its pictures and its share of the labelled pixels, in the order of ids."""
        total = max(1, self.pixels.total())
        return [(name, self.pictures[name], self.pixels[name] / total) for name in self.classes]


def check_masks(
    data: SegmentationFolderData | SegmentationSetData, progress: Callable[[int, int], None]
) -> list[MaskCheck]:
    """Check both splits: decode every picture and every mask.

    Args:
        data: Where they are.
        progress: Called with the number of files done and of all, for each pass anew.

    Raises:
        DataFormatError: A folder is missing or empty, or there are no two classes.
    """
    checks: list[MaskCheck] = []
    labels: MaskLabels | None = None
    for split in _SPLITS:
        files = segmentation_files(data, split, labels, progress)
        labels = files.labels
        checks.append(_check(split, files, checks[0] if checks else None, progress))
    return checks


def _check(
    split: str, files: SegmentationFiles, train: MaskCheck | None, progress: Callable[[int, int], None]
) -> MaskCheck:
    names = files.labels.classes
    pixels, pictures, problems = np.zeros(IGNORED + 1, np.int64), Counter[str](), list(files.problems)
    unlabelled = 0
    for number, record in enumerate(files.records, start=1):
        try:
            height, width = read_picture(record.path).shape[-2:]
            counts = np.bincount(read_labels(record, files.labels, (height, width)).ravel(), minlength=256)
        except DataFormatError as error:
            problems.append(str(error))
            continue
        finally:
            progress(number, len(files.records))
        pixels += counts
        present = np.flatnonzero(counts[:IGNORED])
        pictures.update(names[index] for index in present)
        unlabelled += not len(present)
    notes = []
    if unlabelled:
        notes.append(f"masks without a labelled pixel: {unlabelled}; they count for nothing")
    if missing := [name for name in names if name not in pictures]:
        notes.append(f"classes that no picture has: {len(missing)} ({', '.join(missing[:5])})")
    if train is not None and (new := [name for name in pictures if name not in train.pictures]):
        notes.append(f"classes that no training picture has: {', '.join(new[:5])}")
    return MaskCheck(
        split=split,
        num_samples=len(files.records) + len(files.problems) - len(problems),
        classes=names,
        pictures=pictures,
        pixels=Counter({name: int(pixels[index]) for index, name in enumerate(names)}),
        problems=tuple(problems),
        notes=tuple(notes),
    )
