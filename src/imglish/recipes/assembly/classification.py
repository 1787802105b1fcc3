"""Joining picture classification: the released form (mean of patches) and the paper's (names of classes)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from imglish.data.classification import ClassDataset, CollateClasses, Mixing, PictureTransform
from imglish.data.collate import pad_ids, padding_of
from imglish.data.transforms.image import ImageTransform, to_model_range
from imglish.data.transforms.imagenet import resize_and_crop, to_imagenet_range
from imglish.data.transforms.imagenet_training import ImageNetTraining
from imglish.errors import ConfigError
from imglish.metrics.accuracy import ClassAccuracy
from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.models.vit.model import ViTForClassification
from imglish.recipes.assembly.base import (
    Assembly,
    Shares,
    Splits,
    first,
    scoring_transform,
    training_plan,
)
from imglish.recipes.config import (
    ClassNamesTask as ClassNamesSettings,
    ImageClassificationTask as ClassificationSettings,
    RunConfig,
    ViTClassificationTask,
)
from imglish.recipes.records import classes_of, labelled, names_of
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import ClassificationBatch
from imglish.tasks.class_names import ClassNamesTask
from imglish.tasks.image_classification import ImageClassificationTask
from imglish.text.tokenizer import TextTokenizer


def assemble_classification(
    config: RunConfig,
    settings: ClassificationSettings | ViTClassificationTask,
    folder: RunFolder,
    shares: Shares,
    splits: Splits,
) -> Assembly[ClassificationBatch]:
    """Labelled pictures.

    Raises:
        ConfigError: ImageNet's pictures are wanted at a size that is not square.
        DataFormatError: A file is missing or damaged.
    """
    classes = classes_of(config.data, splits.scored)
    training, scoring = picture_transforms(settings)
    mixing = Mixing(
        num_classes=len(classes),
        mixup=settings.mixup,
        cutmix=settings.cutmix,
        smoothing=settings.smoothing,
    )
    plan = None
    if splits.train:
        _write_names(folder, names_of(config.data, classes))
        train = ClassDataset(records=labelled(config.data, "train", classes).records, transform=training)
        plan = training_plan(train, CollateClasses(mixing=mixing if settings.mix else None), config, shares)
    return Assembly(
        task=ImageClassificationTask(
            _classifier(settings, len(classes)),
            ClassAccuracy(),
            smoothing=settings.smoothing,
        ),
        plan=plan,
        evaluation_set=_scored(config, classes, splits, scoring),
        collate=CollateClasses(),
    )


def assemble_class_names(
    config: RunConfig,
    settings: ClassNamesSettings,
    text: TextTokenizer,
    folder: RunFolder,
    shares: Shares,
    splits: Splits,
) -> Assembly[ClassificationBatch]:
    """Labelled pictures, and the names of their classes as texts; errors as in `assemble_classification`."""
    classes = classes_of(config.data, splits.scored)
    names = names_of(config.data, classes)
    ids = [
        text.encode_for_model(settings.prompt.format(name=name), settings.max_text_tokens) for name in names
    ]
    size = settings.model.image_size
    plan = None
    if splits.train:
        _write_names(folder, names)
        transform = ToModelRange(settings.augment.transform(size))
        train = ClassDataset(records=labelled(config.data, "train", classes).records, transform=transform)
        plan = training_plan(train, CollateClasses(), config, shares)
    return Assembly(
        task=ClassNamesTask(
            Beit3ForRetrieval(settings.model),
            ClassAccuracy(),
            token_ids=pad_ids(ids),
            padding=padding_of(ids),
            smoothing=settings.smoothing,
            max_names=settings.max_names,
        ),
        plan=plan,
        evaluation_set=_scored(config, classes, splits, ToModelRange(scoring_transform(size))),
        collate=CollateClasses(),
    )


def _classifier(
    settings: ClassificationSettings | ViTClassificationTask, num_classes: int
) -> Beit3ForImageClassification | ViTForClassification:
    if isinstance(settings, ViTClassificationTask):
        return ViTForClassification(settings.model, num_classes)
    return Beit3ForImageClassification(replace(settings.model, output_norm=False), num_classes=num_classes)


def _write_names(folder: RunFolder, names: tuple[str, ...]) -> None:
    """Say in the run's folder what its classes are called."""
    folder.classes_path.write_text("\n".join(names) + "\n", encoding="utf-8")


def _scored(
    config: RunConfig, classes: tuple[str, ...], splits: Splits, transform: PictureTransform
) -> ClassDataset:
    records = labelled(config.data, splits.scored, classes).records
    return ClassDataset(records=first(records, config.data.num_validation), transform=transform)


def picture_transforms(
    settings: ClassificationSettings | ViTClassificationTask,
) -> tuple[PictureTransform, PictureTransform]:
    """How pictures are prepared for training and for scoring.

    Raises:
        ConfigError: ImageNet's pictures are wanted at a size that is not square.
    """
    size = settings.model.image_size
    if settings.pictures == "model":
        return ToModelRange(settings.augment.transform(size)), ToModelRange(scoring_transform(size))
    if size[0] != size[1]:
        raise ConfigError(
            f"task.model.image_size is {size[0]}x{size[1]}, but task.pictures imagenet are square; make it so"
        )
    return ImageNetTraining(size[0]), ImageNetScoring(size[0])


@dataclass(frozen=True, slots=True)
class ToModelRange:
    """A transform, then [-1, 1]."""

    transform: ImageTransform

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to float (3, *size)."""
        return to_model_range(self.transform(image, rng))


@dataclass(frozen=True, slots=True)
class ImageNetScoring:
    """The middle of the picture, in ImageNet's range: the very pixels of the official evaluation."""

    size: int

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to float (3, size, size); nothing is drawn."""
        return to_imagenet_range(resize_and_crop(image, self.size, "pillow"))
