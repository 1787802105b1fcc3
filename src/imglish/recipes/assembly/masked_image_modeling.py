"""Joining masked image modelling: pictures alone, a visual tokenizer, a plain ViT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imglish.data.loader import Dataset
from imglish.data.pretraining import ImageSample, ImageStream, collate_masked_images
from imglish.data.transforms.color_jitter import ColorJitter, JitteredCrop
from imglish.data.transforms.image import ImageTransform
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.ops.block_masking import BlockMasking
from imglish.recipes import sources
from imglish.recipes.assembly.base import Assembly, Shares, scoring_transform, training_plan
from imglish.recipes.assembly.pretraining import load_visual_tokenizer
from imglish.recipes.beit_config import MaskedImageModelingTask as Settings
from imglish.recipes.config import RunConfig
from imglish.structures.batches import MaskedImages
from imglish.tasks.masked_image_modeling import MaskedImageModelingTask


def assemble_masked_image_modeling(
    config: RunConfig, settings: Settings, shares: Shares
) -> Assembly[MaskedImages]:
    """Pictures with hidden patches.

    Raises:
        CheckpointError: The visual tokenizer is missing or damaged.
        ConfigError: The visual tokenizer is none, or does not fit the model, or the data has no pictures.
        DataFormatError: A file is missing or damaged.
    """
    tokenizer = load_visual_tokenizer(settings.visual_tokenizer)
    model = ViTForMaskedImageModeling(
        settings.model, codebook_size=tokenizer.config.codebook_size, aggregation=settings.aggregation
    )
    mask = BlockMasking(
        grid_size=settings.model.grid_size,
        num_masked=settings.num_masked,
        min_block=settings.min_block,
        exact=settings.exact,
    )
    size = settings.model.image_size
    training = JitteredCrop(
        ColorJitter(settings.color_jitter),
        ImageTransform(size=size, crop_scale=settings.crop_scale, flip=settings.flip),
    )
    train = ImageStream(
        source=sources.pictures_alone(config.data, "train"), transform=training, draw_mask=mask
    )
    scored = ImageStream(
        source=sources.pictures_alone(config.data, "validation"),
        transform=scoring_transform(size),
        draw_mask=mask,
    )
    return Assembly(
        task=MaskedImageModelingTask(model, tokenizer, pictures=settings.pictures),
        plan=training_plan(train, collate_masked_images, config, shares),
        evaluation_set=First(scored, config.data.num_validation),
        collate=collate_masked_images,
    )


@dataclass(frozen=True, slots=True)
class First:
    """The first ``count`` samples of a data set; all where it is 0."""

    dataset: Dataset[ImageSample]
    count: int

    def __len__(self) -> int:
        return min(len(self.dataset), self.count) if self.count else len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> ImageSample:
        """Sample ``index``; raises DataFormatError where the picture is damaged."""
        return self.dataset.get(index, rng)
