"""From a run's data settings to the records of a split, whatever the layout on disk.

Splits are "train", "validation" and, where the data has one, "test".
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

from imglish.data.formats.image_folder import ImageFolder, LabelledPicture, list_classes, read_image_folder
from imglish.data.formats.karpathy import KarpathyRecord, read_karpathy
from imglish.data.formats.nlvr2 import Nlvr2Record, read_nlvr2
from imglish.data.formats.nocaps import read_nocaps
from imglish.data.formats.table import (
    as_image_folder,
    read_caption_table,
    read_label_table,
    read_question_table,
    read_statement_table,
)
from imglish.data.formats.visual_genome import read_visual_genome
from imglish.data.formats.vqa import VqaRecord, read_common_answers, read_vqa
from imglish.data.world.files import KARPATHY_SPLITS, PICTURE_NAME, WorldFiles, read_world
from imglish.data.world.scene import SHAPES
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes.data_config import (
    ClassFolderData,
    DataConfig,
    FolderData,
    KarpathyData,
    Nlvr2Data,
    NocapsData,
    TableData,
    VqaV2Data,
)
from imglish.text.class_names import class_names

_REST_VAL = 1000  # pictures of val2014 that VQAv2's training leaves out
_CLASS_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
WORLD_SPLITS = {"train": "train", "validation": "validation", "test": "compositional"}


def questions(data: DataConfig, split: str) -> tuple[VqaRecord, ...]:
    """Questions of a split; those of a test split have no answers.

    Raises:
        ConfigError: The data has no questions, or no such split.
        DataFormatError: A file is missing or damaged.
    """
    match data:
        case FolderData():
            files, name = world_split(data, split)
            return read_vqa(files.questions(name), files.annotations(name), files.images(name), PICTURE_NAME)
        case TableData():
            return read_question_table(_table(data, split)).strict()
        case VqaV2Data():
            return _vqa_v2(data, split)
        case _:
            _refuse(data, "questions", "folder, vqav2 or table")


def common_answers(data: DataConfig) -> tuple[str, ...]:
    """The most common answer to each annotated question, in the order in which answers become classes.

    VQAv2's are those of train2014, then of val2014, in the order of the published files and without Visual
    Genome's: so the classes are numbered as those of the official weights. Others are those of the training
    questions, then of the validation questions.
    """
    if isinstance(data, VqaV2Data):
        files = (_vqa_v2_annotations(data, name) for name in ("train2014", "val2014"))
        return tuple(answer for file in files for answer in read_common_answers(file))
    records = questions(data, "train") + questions(data, "validation")
    return tuple(record.annotation.most_common for record in records if record.annotation is not None)


def captioned(data: DataConfig, split: str) -> tuple[KarpathyRecord, ...]:
    """Captioned pictures of a split; errors as in `questions`."""
    match data:
        case FolderData():
            files, name = world_split(data, split)
            return read_karpathy(files.karpathy, files.images_root, (KARPATHY_SPLITS[name],))
        case TableData():
            return read_caption_table(_table(data, split), split).strict()
        case KarpathyData():
            splits = {"train": ("train", "restval"), "validation": ("val",), "test": ("test",)}[split]
            return read_karpathy(data.root / data.annotations, data.root / data.images, splits)
        case NocapsData():
            if split == "train":
                return captioned(KarpathyData(root=data.coco), split)
            name, file = {
                "validation": ("val", "nocaps_val_4500_captions.json"),
                "test": ("test", "nocaps_test_image_info.json"),
            }[split]
            return read_nocaps(data.root / file, data.root / name, name)
        case _:
            _refuse(data, "captions", "folder, karpathy, nocaps or table")


def statements(data: DataConfig, split: str) -> tuple[Nlvr2Record, ...]:
    """Statements about two pictures of a split; errors as in `questions`."""
    match data:
        case FolderData():
            files, name = world_split(data, split)
            return read_nlvr2(files.statements(name), files.statement_images(name))
        case TableData():
            return read_statement_table(_table(data, split)).strict()
        case Nlvr2Data():
            name = {"train": "train", "validation": "dev", "test": "test1"}[split]
            return read_nlvr2(*_nlvr2(data.root, name))
        case _:
            _refuse(data, "statements", "folder, nlvr2 or table")


def _nlvr2(root: Path, name: str) -> tuple[Path, Path]:
    """The statements and the pictures of a split, in either place that the published data has them."""
    annotations = root / f"{name}.json", root / "nlvr" / "nlvr2" / "data" / f"{name}.json"
    images = root / "images" / name, root / name
    # Where neither is there, reading names the first.
    file = next((path for path in annotations if path.is_file()), annotations[0])
    return file, next((path for path in images if path.is_dir()), images[0])


def labelled(data: DataConfig, split: str, classes: tuple[str, ...] | None = None) -> ImageFolder:
    """Labelled pictures of a split; errors as in `questions`.

    Args:
        data: Where they are.
        split: Which.
        classes: As `classes_of` gives them.
    """
    match data:
        case FolderData():
            files, name = world_split(data, split)
            return read_image_folder(files.class_folders(name), classes)
        case TableData():
            return as_image_folder(read_label_table(_table(data, split), classes).strict(), classes or ())
        case ClassFolderData():
            if data.held_out and split != "test":
                return _held_out(read_image_folder(data.root / "train", classes), data.held_out, split)
            return read_image_folder(data.root / _CLASS_FOLDERS[split], classes)
        case _:
            _refuse(data, "labelled pictures", "folder, class_folders or table")


def classes_of(data: DataConfig, split: str) -> tuple[str, ...]:
    """The classes in the order of their labels: those of the training split; errors as in `questions`.

    Args:
        data: Where they are.
        split: What is read them from where class folders have no ``train``, as for scoring official weights.
    """
    match data:
        case FolderData():
            return tuple(sorted(SHAPES))  # a small World need not have every shape
        case ClassFolderData():
            train = data.root / _CLASS_FOLDERS["train"]
            return list_classes(train if train.is_dir() else data.root / _CLASS_FOLDERS[split])
        case TableData():
            return labelled(data, "train").classes
        case _:
            _refuse(data, "labelled pictures", "folder, class_folders or table")


def names_of(data: DataConfig, classes: tuple[str, ...]) -> tuple[str, ...]:
    """What the classes are called: words for folders; tables name them themselves."""
    if isinstance(data, ClassFolderData):
        return class_names(classes, data.class_names)
    return classes


def world_of(data: DataConfig) -> WorldFiles | None:
    """The World that is read, whose scene graphs allow more scores; None where it is other data."""
    return read_world(data.root) if isinstance(data, FolderData) else None


def _vqa_v2(data: VqaV2Data, split: str) -> tuple[VqaRecord, ...]:
    if split == "test":
        asked = data.root / "vqa" / f"v2_OpenEnded_mscoco_{data.test}_questions.json"
        return read_vqa(asked, None, data.root / "test2015")
    rest = _read_vqa_v2(data, "val2014")
    pictures = sorted({record.image_id for record in rest})
    kept = set(random.Random(data.seed).sample(pictures, min(_REST_VAL, len(pictures) // 2)))
    if split == "validation":
        return tuple(record for record in rest if record.image_id in kept)
    records = _read_vqa_v2(data, "train2014")
    records += tuple(record for record in rest if record.image_id not in kept)
    if data.visual_genome is not None:
        records += read_visual_genome(data.visual_genome, data.visual_genome.parent / "images")
    return records


def _read_vqa_v2(data: VqaV2Data, name: str) -> tuple[VqaRecord, ...]:
    """The annotated questions of ``train2014`` or ``val2014``."""
    return read_vqa(
        data.root / "vqa" / f"v2_OpenEnded_mscoco_{name}_questions.json",
        _vqa_v2_annotations(data, name),
        data.root / name,
    )


def _vqa_v2_annotations(data: VqaV2Data, name: str) -> Path:
    return data.root / "vqa" / f"v2_mscoco_{name}_annotations.json"


def _held_out(folder: ImageFolder, count: int, split: str) -> ImageFolder:
    """The last ``count`` pictures of each class for validation; training keeps the others, at least one."""
    of_class: dict[int, list[LabelledPicture]] = defaultdict(list)
    for record in folder.records:
        of_class[record.label].append(record)
    cuts = {label: max(1, len(records) - count) for label, records in of_class.items()}
    records = (
        record
        for label, mine in of_class.items()
        for record in (mine[: cuts[label]] if split == "train" else mine[cuts[label] :])
    )
    found = ImageFolder(folder.classes, tuple(records))
    if not found.records:
        raise DataFormatError(
            "data.held_out: no class has a second picture that could be left out of training; set it to 0"
        )
    return found


def world_split(data: FolderData, split: str) -> tuple[WorldFiles, str]:
    """The files of a World, and what it calls a split; raises ConfigError where it has no such split."""
    files, name = read_world(data.root), WORLD_SPLITS[split]
    if name not in files.counts:
        raise ConfigError(f"{data.root}: this World has no {name} split; it has {', '.join(files.counts)}")
    return files, name


def _table(data: TableData, split: str) -> Path:
    path = {"train": data.train, "validation": data.validation, "test": data.test}[split]
    if path is None:
        raise ConfigError("data.test names no table; give one to answer")
    return path


def _refuse(data: DataConfig, what: str, kinds: str) -> NoReturn:
    raise ConfigError(f"data.kind {data.kind} has no {what}; expected {kinds}")
