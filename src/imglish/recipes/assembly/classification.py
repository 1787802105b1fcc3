"""Joining picture classification: the released form (mean of patches) and the paper's (names of classes)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from imglish.data.class_names import class_names
from imglish.data.classification import ClassDataset, CollateClasses, Mixing, PictureTransform
from imglish.data.collate import pad_ids, padding_of
from imglish.data.loader import SinglePlan, Source
from imglish.data.transforms.image import ImageTransform, to_model_range
from imglish.data.transforms.imagenet import resize_and_crop, to_imagenet_range
from imglish.data.transforms.imagenet_training import ImageNetTraining
from imglish.errors import ConfigError
from imglish.metrics.accuracy import ClassAccuracy
from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.recipes.assembly.base import Assembly, Shares, first
from imglish.recipes.config import (
    ClassNamesTask as ClassNamesSettings,
    ImageClassificationTask as ClassificationSettings,
    RunConfig,
)
from imglish.recipes.records import labelled
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import ClassificationBatch
from imglish.tasks.class_names import ClassNamesTask
from imglish.tasks.image_classification import ImageClassificationTask
from imglish.text.tokenizer import TextTokenizer


def assemble_classification(
    config: RunConfig, settings: ClassificationSettings, folder: RunFolder, shares: Shares
) -> Assembly[ClassificationBatch]:
    """Labelled pictures."""
    train = labelled(config.data, "train")
    validation = labelled(config.data, "validation", train.classes)
    folder.classes_path.write_text("\n".join(train.classes) + "\n", encoding="utf-8")
    training, scoring = picture_transforms(settings)
    model = Beit3ForImageClassification(
        replace(settings.model, output_norm=False), num_classes=len(train.classes)
    )
    mixing = Mixing(
        num_classes=len(train.classes),
        mixup=settings.mixup,
        cutmix=settings.cutmix,
        smoothing=settings.smoothing,
    )
    return Assembly(
        task=ImageClassificationTask(model, ClassAccuracy(), smoothing=settings.smoothing),
        plan=SinglePlan(
            source=Source(
                dataset=ClassDataset(records=train.records, transform=training),
                per_rank=shares.per_rank(settings.batch_size),
                seed=config.train.seed,
            ),
            collate=CollateClasses(mixing=mixing if settings.mix else None),
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=ClassDataset(
            records=first(validation.records, config.data.num_validation), transform=scoring
        ),
        collate=CollateClasses(),
    )


def assemble_class_names(
    config: RunConfig, settings: ClassNamesSettings, text: TextTokenizer, folder: RunFolder, shares: Shares
) -> Assembly[ClassificationBatch]:
    """Labelled pictures, and the names of their classes as texts."""
    train = labelled(config.data, "train")
    validation = labelled(config.data, "validation", train.classes)
    names = class_names(train.classes)
    folder.classes_path.write_text("\n".join(names) + "\n", encoding="utf-8")
    ids = [
        text.encode_for_model(settings.prompt.format(name=name), settings.max_text_tokens) for name in names
    ]
    size = settings.model.image_size
    return Assembly(
        task=ClassNamesTask(
            Beit3ForRetrieval(settings.model),
            ClassAccuracy(),
            token_ids=pad_ids(ids),
            padding=padding_of(ids),
            smoothing=settings.smoothing,
            max_names=settings.max_names,
        ),
        plan=SinglePlan(
            source=Source(
                dataset=ClassDataset(
                    records=train.records, transform=ToModelRange(settings.augment.transform(size))
                ),
                per_rank=shares.per_rank(settings.batch_size),
                seed=config.train.seed,
            ),
            collate=CollateClasses(),
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=ClassDataset(
            records=first(validation.records, config.data.num_validation),
            transform=ToModelRange(ImageTransform(size=size)),
        ),
        collate=CollateClasses(),
    )


def picture_transforms(settings: ClassificationSettings) -> tuple[PictureTransform, PictureTransform]:
    """How pictures are prepared for training and for scoring.

    Raises:
        ConfigError: ImageNet's pictures are wanted at a size that is not square.
    """
    size = settings.model.image_size
    if settings.pictures == "model":
        return ToModelRange(settings.augment.transform(size)), ToModelRange(ImageTransform(size=size))
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
    """The middle of the picture, in ImageNet's range."""

    size: int

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to float (3, size, size); nothing is drawn."""
        return to_imagenet_range(resize_and_crop(image, self.size))
