"""Joining the pretraining tasks: contrastive teacher, visual tokenizer, masked data modelling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import timm
import torch
from torch import Tensor

from imglish.data.loader import MixturePlan, SinglePlan, Source
from imglish.data.pretraining import (
    CaptionedImages,
    ImageStream,
    PairStream,
    PictureSource,
    TextSource,
    TextStream,
    WordMasking,
    collate_captioned,
    collate_images,
    collate_masked,
)
from imglish.data.transforms.image import ImageTransform
from imglish.errors import ConfigError
from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, Beit3ForRetrieval
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.teachers import FeatureTeacher, TimmTeacher
from imglish.ops.block_masking import BlockMasking
from imglish.recipes import sources
from imglish.recipes.assembly.base import Assembly, Shares, check_chunks
from imglish.recipes.config import (
    ContrastiveTask,
    MaskedDataModelingTask,
    RunConfig,
    VisualTokenizerTask,
)
from imglish.recipes.run_folder import RunFolder, find_run
from imglish.structures.batches import ImageBatch, ImageTextBatch, MaskedBatch
from imglish.tasks.masked_data_modeling import MaskedDataModelingTask as MaskedTask
from imglish.tasks.retrieval import RetrievalTask
from imglish.tasks.visual_tokenizer import VisualTokenizerTask as TokenizerTask
from imglish.text.tokenizer import TextTokenizer
from imglish.train.checkpoint import load_strictly


def assemble_contrastive(
    config: RunConfig, settings: ContrastiveTask, text: TextTokenizer, shares: Shares
) -> Assembly[ImageTextBatch]:
    """Dual encoder on captioned pictures.

    Raises:
        ConfigError: Chunks and micro steps are asked for at once, or the data has no captioned pictures.
    """
    check_chunks(settings.chunk_size, shares)

    def dataset(split: str) -> CaptionedImages:
        return CaptionedImages(
            source=sources.pictures(config.data, split),
            transform=ImageTransform(size=settings.model.image_size),
            tokenizer=text,
            max_tokens=settings.max_text_tokens,
        )

    source = Source(
        dataset=dataset("train"), per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
    )
    return Assembly(
        task=RetrievalTask(
            Beit3ForRetrieval(settings.model), RetrievalRecall(), chunk_size=settings.chunk_size
        ),
        plan=SinglePlan(
            source=source, collate=collate_captioned, rank=shares.rank, world_size=shares.world_size
        ),
        evaluation_set=dataset("validation"),
        collate=collate_captioned,
    )


def assemble_visual_tokenizer(
    config: RunConfig, settings: VisualTokenizerTask, shares: Shares
) -> Assembly[ImageBatch]:
    """VQ-KD on pictures alone."""
    encoder = settings.tokenizer.encoder
    whole = BlockMasking(grid_size=encoder.grid_size, num_masked=0)

    def dataset(split: str) -> ImageStream:
        source = sources.pictures(config.data, split)
        return ImageStream(source=source, transform=ImageTransform(size=encoder.image_size), draw_mask=whole)

    source = Source(
        dataset=dataset("train"), per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
    )
    teacher = find_teacher(settings.teacher, encoder.grid_size)
    if teacher.dim != settings.tokenizer.teacher_dim:
        raise ConfigError(
            f"task.tokenizer.teacher_dim is {settings.tokenizer.teacher_dim}, but the teacher "
            f"{settings.teacher} has {teacher.dim} features; set it to that"
        )
    return Assembly(
        task=TokenizerTask(Vqkd(settings.tokenizer), teacher, beta=settings.beta),
        plan=SinglePlan(
            source=source, collate=collate_images, rank=shares.rank, world_size=shares.world_size
        ),
        evaluation_set=dataset("validation"),
        collate=collate_images,
    )


def assemble_masked_data_modeling(
    config: RunConfig, settings: MaskedDataModelingTask, text: TextTokenizer, shares: Shares
) -> Assembly[MaskedBatch]:
    """Three streams with fixed quotas."""
    tokenizer = load_visual_tokenizer(settings.visual_tokenizer)
    if tokenizer.config.encoder.grid_size != settings.model.grid_size:
        raise ConfigError(
            f"the visual tokenizer {settings.visual_tokenizer} has a grid of "
            f"{tokenizer.config.encoder.grid_size} tokens, the model one of "
            f"{settings.model.grid_size} patches; they must agree"
        )
    streams = _Streams(config, settings, text)
    quotas = {"images": settings.num_images, "texts": settings.num_texts, "pairs": settings.num_pairs}
    train = {
        name: Source(
            dataset=streams.dataset(name, "train"),
            per_rank=shares.per_rank(quota),
            seed=config.train.seed,
            stream=number,
        )
        for number, (name, quota) in enumerate(quotas.items())
    }
    validation = {
        name: Source(dataset=streams.dataset(name, "validation"), per_rank=32, seed=1, stream=number)
        for number, name in enumerate(quotas)
    }
    model = Beit3ForMaskedDataModeling(settings.model, codebook_size=tokenizer.config.codebook_size)
    return Assembly(
        task=MaskedTask(model, tokenizer),
        plan=MixturePlan(
            sources=train, collate=collate_masked, rank=shares.rank, world_size=shares.world_size
        ),
        evaluation_plan=MixturePlan(
            sources=validation, collate=collate_masked, rank=shares.rank, world_size=shares.world_size
        ),
        num_evaluation_batches=max(1, config.data.num_validation // 32 // shares.world_size),
    )


class _Streams:
    """The data sets of the three streams."""

    def __init__(self, config: RunConfig, settings: MaskedDataModelingTask, text: TextTokenizer) -> None:
        self._data, self._settings, self._text = config.data, settings, text
        rows, columns = settings.model.grid_size
        self._mask = BlockMasking(
            grid_size=(rows, columns),
            num_masked=round(settings.image_share * rows * columns),
            min_block=settings.min_block,
        )

    def dataset(self, name: str, split: str) -> ImageStream | TextStream | PairStream:
        """One stream of one split."""
        settings, size = self._settings, self._settings.model.image_size
        if name == "texts":
            texts: TextSource = sources.texts(self._data, split)
            return TextStream(source=texts, masking=self._masking(settings.text_share))
        pictures: PictureSource = sources.pictures(self._data, split)
        if name == "images":
            crop = ImageTransform(size=size, crop_scale=settings.crop_scale, flip=0.5)
            return ImageStream(source=pictures, transform=crop, draw_mask=self._mask)
        return PairStream(
            source=pictures,
            transform=ImageTransform(size=size),
            draw_mask=self._mask,
            masking=replace(self._masking(settings.pair_text_share), answers=settings.hide_answers),
            clean_share=settings.clean_share,
        )

    def _masking(self, share: float) -> WordMasking:
        return WordMasking(tokenizer=self._text, share=share, max_tokens=self._settings.max_text_tokens)


class DualEncoderTeacher:
    """The vision side of an imglish dual encoder as a feature teacher, frozen."""

    def __init__(self, model: Beit3ForRetrieval) -> None:
        self._model = model.eval().requires_grad_(False)
        self.dim = model.encoder.config.width

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to patch features (B, N, dim)."""
        features: Tensor = self._model.to(images.device).encoder(images).vision[:, 1:]
        return features


def find_teacher(name: str, grid_size: tuple[int, int]) -> FeatureTeacher:
    """A feature teacher by name: ``run:FOLDER`` or ``timm:MODEL``.

    Raises:
        ConfigError: The name is neither, or the run is no contrastive one.
    """
    kind, _, rest = name.partition(":")
    if kind == "timm" and rest:
        try:
            model = timm.create_model(rest, pretrained=True)
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                f"task.teacher {name}: timm can not give it ({str(error).splitlines()[0]}); check the name, "
                "and the network where its weights must be fetched"
            ) from error
        return TimmTeacher(model, grid_size, projected="clip" in rest)
    if kind != "run" or not rest:
        raise ConfigError(
            f"task.teacher is {name!r}; expected run:FOLDER of a contrastive run, or timm:MODEL"
        )
    folder = RunFolder(Path(rest))
    task = folder.config().task
    if not isinstance(task, ContrastiveTask):
        raise ConfigError(f"task.teacher {name} is a run of {task.kind}; expected one of contrastive")
    model = Beit3ForRetrieval(task.model)
    load_strictly(model, folder.weights(), where=str(folder.weights_path))
    return DualEncoderTeacher(model)


def load_visual_tokenizer(name: str) -> Vqkd:
    """A trained visual tokenizer: the folder of its run, or ``world``.

    Raises:
        ConfigError: The run is no visual tokenizer's.
    """
    folder = find_run(name, "visual_tokenizer")
    task = folder.config().task
    if not isinstance(task, VisualTokenizerTask):
        raise ConfigError(
            f"task.visual_tokenizer {name} is a run of {task.kind}; expected one of visual_tokenizer"
        )
    model = Vqkd(task.tokenizer)
    load_strictly(model, folder.weights(), where=str(folder.weights_path))
    return model.eval()
