"""From a run's data settings to the records of a split, whatever the layout on disk.

Splits are "train", "validation" and, where the data has one, "test".
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NoReturn

from imglish.data.formats.image_folder import ImageFolder, read_image_folder
from imglish.data.formats.karpathy import KarpathyRecord, read_karpathy
from imglish.data.formats.nlvr2 import Nlvr2Record, read_nlvr2
from imglish.data.formats.table import (
    as_image_folder,
    read_caption_table,
    read_label_table,
    read_question_table,
    read_statement_table,
)
from imglish.data.formats.visual_genome import read_visual_genome
from imglish.data.formats.vqa import VqaRecord, read_vqa
from imglish.data.world.files import KARPATHY_SPLITS, PICTURE_NAME, WorldFiles, read_world
from imglish.data.world.scene import SHAPES
from imglish.errors import ConfigError
from imglish.recipes.data_config import (
    ClassFolderData,
    DataConfig,
    FolderData,
    KarpathyData,
    Nlvr2Data,
    TableData,
    VqaV2Data,
)

_REST_VAL = 1000  # pictures of val2014 that VQAv2's training leaves out
_WORLD_SPLITS = {"train": "train", "validation": "validation", "test": "compositional"}


def questions(data: DataConfig, split: str) -> tuple[VqaRecord, ...]:
    """Questions of a split; those of a test split have no answers.

    Raises:
        ConfigError: The data has no questions, or no such split.
        DataFormatError: A file is missing or damaged.
    """
    match data:
        case FolderData():
            files, name = read_world(data.root), _WORLD_SPLITS[split]
            return read_vqa(files.questions(name), files.annotations(name), files.images(name), PICTURE_NAME)
        case TableData():
            return read_question_table(_table(data, split)).strict()
        case VqaV2Data():
            return _vqa_v2(data, split)
        case _:
            _refuse(data, "questions", "folder, vqav2 or table")


def captioned(data: DataConfig, split: str) -> tuple[KarpathyRecord, ...]:
    """Captioned pictures of a split; errors as in `questions`."""
    match data:
        case FolderData():
            files = read_world(data.root)
            return read_karpathy(files.karpathy, files.images_root, (KARPATHY_SPLITS[_WORLD_SPLITS[split]],))
        case TableData():
            return read_caption_table(_table(data, split), split).strict()
        case KarpathyData():
            splits = {"train": ("train", "restval"), "validation": ("val",), "test": ("test",)}[split]
            return read_karpathy(data.root / data.annotations, data.root / data.images, splits)
        case _:
            _refuse(data, "captions", "folder, karpathy or table")


def statements(data: DataConfig, split: str) -> tuple[Nlvr2Record, ...]:
    """Statements about two pictures of a split; errors as in `questions`."""
    match data:
        case FolderData():
            files, name = read_world(data.root), _WORLD_SPLITS[split]
            return read_nlvr2(files.statements(name), files.statement_images(name))
        case TableData():
            return read_statement_table(_table(data, split)).strict()
        case Nlvr2Data():
            name = {"train": "train", "validation": "dev", "test": "test1"}[split]
            return read_nlvr2(data.root / f"{name}.json", data.root / "images" / name)
        case _:
            _refuse(data, "statements", "folder, nlvr2 or table")


def labelled(data: DataConfig, split: str, classes: tuple[str, ...] | None = None) -> ImageFolder:
    """Labelled pictures of a split; errors as in `questions`.

    Args:
        data: Where they are.
        split: Which.
        classes: The training split's classes, when another split is read.
    """
    match data:
        case FolderData():
            # A small World need not have every shape, so its classes are not those of its folders.
            folders = read_world(data.root).class_folders(_WORLD_SPLITS[split])
            return read_image_folder(folders, tuple(sorted(SHAPES)))
        case TableData():
            return as_image_folder(read_label_table(_table(data, split), classes).strict(), classes or ())
        case ClassFolderData():
            name = {"train": "train", "validation": "val", "test": "test"}[split]
            return read_image_folder(data.root / name, classes)
        case _:
            _refuse(data, "labelled pictures", "folder, class_folders or table")


def world_of(data: DataConfig) -> WorldFiles | None:
    """The World that is read, whose scene graphs allow more scores; None where it is other data."""
    return read_world(data.root) if isinstance(data, FolderData) else None


def _vqa_v2(data: VqaV2Data, split: str) -> tuple[VqaRecord, ...]:
    folder = data.root / "vqa"

    def read(name: str) -> tuple[VqaRecord, ...]:
        return read_vqa(
            folder / f"v2_OpenEnded_mscoco_{name}_questions.json",
            folder / f"v2_mscoco_{name}_annotations.json",
            data.root / name,
        )

    if split == "test":
        asked = folder / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
        return read_vqa(asked, None, data.root / "test2015")
    rest = read("val2014")
    pictures = sorted({record.image_id for record in rest})
    kept = set(random.Random(data.seed).sample(pictures, min(_REST_VAL, len(pictures) // 2)))
    if split == "validation":
        return tuple(record for record in rest if record.image_id in kept)
    records = read("train2014") + tuple(record for record in rest if record.image_id not in kept)
    if data.visual_genome is not None:
        records += read_visual_genome(data.visual_genome, data.visual_genome.parent / "images")
    return records


def _table(data: TableData, split: str) -> Path:
    path = {"train": data.train, "validation": data.validation, "test": data.test}[split]
    if path is None:
        raise ConfigError("data.test names no table; give one to answer")
    return path


def _refuse(data: DataConfig, what: str, kinds: str) -> NoReturn:
    raise ConfigError(f"data.kind {data.kind} has no {what}; expected {kinds}")
