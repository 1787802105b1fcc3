"""Joining the pretraining tasks: contrastive teacher, visual tokenizer, masked data modelling."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
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
    PictureTransform,
    TextSource,
    TextStream,
    TokenSource,
    WordMasking,
    collate_captioned,
    collate_images,
    collate_masked,
)
from imglish.data.stored_tokens import StoredTokens, TokenDescription
from imglish.data.transforms.color_jitter import ColorJitter, JitteredCrop
from imglish.data.transforms.image import ImageTransform
from imglish.errors import ConfigError
from imglish.hub.load import EMBEDDED, read_weights
from imglish.hub.manifest import find
from imglish.hub.weights import fill
from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, Beit3ForRetrieval
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.teachers import FeatureTeacher, PixelTeacher, TimmTeacher
from imglish.models.vqkd.weights import fingerprint
from imglish.ops.block_masking import BlockMasking
from imglish.recipes import sources
from imglish.recipes.assembly.base import Assembly, Shares, check_chunks
from imglish.recipes.config import (
    ContrastiveTask,
    MaskedDataModelingTask,
    RunConfig,
    VisualTokenizerTask,
)
from imglish.recipes.initial import load_encoder
from imglish.recipes.run_folder import RunFolder, find_run
from imglish.structures.batches import ImageBatch, ImageTextBatch, MaskedBatch
from imglish.tasks.masked_data_modeling import MaskedDataModelingTask as MaskedTask
from imglish.tasks.retrieval import RetrievalTask
from imglish.tasks.visual_tokenizer import VisualTokenizerTask as TokenizerTask
from imglish.text.tokenizer import TextTokenizer
from imglish.train.checkpoint import load_strictly

log = logging.getLogger(__name__)


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
        source = sources.pictures_alone(config.data, split)
        transform = ImageTransform(size=encoder.image_size)
        if split == "train":
            transform = replace(transform, crop_scale=settings.crop_scale, flip=settings.flip)
        return ImageStream(source=source, transform=transform, draw_mask=whole)

    source = Source(
        dataset=dataset("train"), per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
    )
    teacher = find_teacher(settings.teacher, encoder.grid_size, encoder.patch_size)
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
        log.info(
            "the visual tokenizer %s has a grid of %s tokens, the model one of %s patches: pictures are "
            "resized for the tokenizer",
            settings.visual_tokenizer,
            tokenizer.config.encoder.grid_size,
            settings.model.grid_size,
        )
    streams = _Streams(config, settings, text, stored_tokens(settings, tokenizer))
    wanted = {"images": settings.num_images, "texts": settings.num_texts, "pairs": settings.num_pairs}
    quotas = {name: quota for name, quota in wanted.items() if quota > 0}
    numbers = {name: number for number, name in enumerate(wanted)}
    train = {
        name: Source(
            dataset=streams.dataset(name, "train"),
            per_rank=shares.per_rank(quota, f"num_{name}"),
            seed=config.train.seed,
            stream=numbers[name],
        )
        for name, quota in quotas.items()
    }
    validation = {
        name: Source(dataset=streams.dataset(name, "validation"), per_rank=32, seed=1, stream=numbers[name])
        for name in quotas
    }
    model = Beit3ForMaskedDataModeling(settings.model, codebook_size=tokenizer.config.codebook_size)
    collate = partial(
        collate_masked,
        text_buckets=1 if settings.pack_texts else settings.length_buckets,
        pair_buckets=settings.length_buckets,
    )
    return Assembly(
        task=MaskedTask(model, tokenizer),
        plan=MixturePlan(sources=train, collate=collate, rank=shares.rank, world_size=shares.world_size),
        evaluation_plan=MixturePlan(
            sources=validation, collate=collate, rank=shares.rank, world_size=shares.world_size
        ),
        num_evaluation_batches=_num_evaluation_batches(validation, config.data.num_validation, shares),
    )


def _num_evaluation_batches(validation: Mapping[str, Source], wanted: int, shares: Shares) -> int:
    """Batches of a rank that score ``wanted`` samples of each stream; 0: the longest stream to its end."""
    per_batch = shares.world_size * next(iter(validation.values())).per_rank
    if wanted:
        return max(1, wanted // per_batch)
    return -(-max(len(source.dataset) for source in validation.values()) // per_batch)


class _Streams:
    """The data sets of the three streams."""

    def __init__(
        self,
        config: RunConfig,
        settings: MaskedDataModelingTask,
        text: TextTokenizer,
        stored: StoredTokens | None,
    ) -> None:
        self._stored = stored
        self._data, self._settings, self._text = config.data, settings, text
        rows, columns = settings.model.grid_size
        self._mask = BlockMasking(
            grid_size=(rows, columns),
            num_masked=round(settings.image_share * rows * columns),
            min_block=settings.min_block if settings.masking == "blocks" else 1,
            max_block=None if settings.masking == "blocks" else 1,
        )

    def dataset(self, name: str, split: str) -> ImageStream | TextStream | PairStream:
        """One stream of one split."""
        settings = self._settings
        if name == "texts":
            texts: TextSource = sources.texts(self._data, split)
            return TextStream(
                source=texts, masking=self._masking(settings.text_share), packed=settings.pack_texts
            )
        pictures: PictureSource
        if name == "images":
            pictures = sources.unpaired_pictures(self._data, split)
            return ImageStream(
                source=pictures,
                transform=self._transform(changed=split == "train"),
                draw_mask=self._mask,
                stored=self._tokens(pictures, split),
            )
        pictures = sources.pictures(self._data, split)
        return PairStream(
            source=pictures,
            transform=self._transform(changed=split == "train" and settings.augment_pairs),
            draw_mask=self._mask,
            masking=replace(self._masking(settings.pair_text_share), answers=settings.hide_answers),
            clean_share=settings.clean_share,
            stored=self._tokens(pictures, split),
        )

    def _transform(self, *, changed: bool) -> PictureTransform:
        """Of the pictures of a stream: to the model's size, and before that changed at random or not."""
        settings, size = self._settings, self._settings.model.image_size
        if not changed:
            return ImageTransform(size=size)
        crop = ImageTransform(size=size, crop_scale=settings.crop_scale, flip=settings.flip)
        return JitteredCrop(ColorJitter(settings.color_jitter), crop) if settings.color_jitter else crop

    def _tokens(self, pictures: PictureSource, split: str) -> TokenSource | None:
        """The stored tokens of a split; None where the tokenizer is to run, as it may to score."""
        if self._stored is None:
            return None
        found = sources.tokens_of(pictures, self._stored)
        if found is None and split == "train":
            self._stored.check_complete(sources.shard_sets(pictures))
        return found

    def _masking(self, share: float) -> WordMasking:
        return WordMasking(tokenizer=self._text, share=share, max_tokens=self._settings.max_text_tokens)


def stored_tokens(settings: MaskedDataModelingTask, tokenizer: Vqkd) -> StoredTokens | None:
    """The stored tokens of a run, held against its tokenizer and its model; None where it has none.

    Raises:
        ConfigError: Pictures would be changed at random, which stored tokens can not follow.
        DataFormatError: They are of another tokenizer, picture size or grid.
    """
    if not settings.stored_tokens:
        return None
    if settings.crop_scale < 1 or settings.flip > 0 or settings.color_jitter > 0:
        raise ConfigError(
            "task.stored_tokens: stored tokens are those of whole pictures, but task.crop_scale is "
            f"{settings.crop_scale:g}, task.flip {settings.flip:g} and task.color_jitter "
            f"{settings.color_jitter:g}; set them to 1, 0 and 0, or leave stored_tokens empty to tokenize on "
            "the fly"
        )
    stored = StoredTokens(Path(settings.stored_tokens))
    wanted = describe_tokens(
        settings.visual_tokenizer, tokenizer, settings.model.image_size, settings.model.grid_size
    )
    wanted.check_same(stored.description, stored.root)
    return stored


def describe_tokens(
    name: str, tokenizer: Vqkd, image_size: tuple[int, int], grid_size: tuple[int, int]
) -> TokenDescription:
    """What the tokens are that a tokenizer gives of whole pictures of a size (height, width) on a grid."""
    return TokenDescription(
        tokenizer=name,
        fingerprint=fingerprint(tokenizer),
        codebook_size=tokenizer.config.codebook_size,
        image_size=image_size,
        grid_size=grid_size,
    )


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


def find_teacher(name: str, grid_size: tuple[int, int], patch_size: int) -> FeatureTeacher:
    """A feature teacher by name: ``run:FOLDER``, ``timm:MODEL``, ``pixels``, or ``world``, of the package.

    Raises:
        ConfigError: The name is none of these, the run is no contrastive one, or timm's weights can not be
            had.
    """
    if name == EMBEDDED:
        task = find_run(name, "encoder").config().task
        assert isinstance(task, MaskedDataModelingTask)
        model = Beit3ForRetrieval(task.model)
        load_encoder(model, name)
        return DualEncoderTeacher(model)
    if name == "pixels":
        return PixelTeacher(grid_size, patch_size)
    kind, _, rest = name.partition(":")
    if kind == "timm" and rest:
        return TimmTeacher(_timm_model(name, rest), grid_size, projected="clip" in rest)
    if kind != "run" or not rest:
        raise ConfigError(
            f"task.teacher is {name!r}; expected run:FOLDER of a contrastive run, timm:MODEL, pixels or world"
        )
    folder = RunFolder(Path(rest))
    task = folder.config().task
    if not isinstance(task, ContrastiveTask):
        raise ConfigError(f"task.teacher {name} is a run of {task.kind}; expected one of contrastive")
    model = Beit3ForRetrieval(task.model)
    load_strictly(model, folder.weights(), where=str(folder.weights_path))
    return DualEncoderTeacher(model)


def _timm_model(name: str, rest: str) -> torch.nn.Module:
    """A timm model with its weights; raises ConfigError where they can not be had."""
    try:
        return timm.create_model(rest, pretrained=True)
    # Whatever timm and the client of the Hub raise: an unknown name, no network, a model without weights.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"task.teacher {name}: timm can not give it ({reason}); check the name, and the network where "
            "its weights must be fetched"
        ) from error


def load_visual_tokenizer(name: str) -> Vqkd:
    """A trained visual tokenizer: the folder of its run, ``world``, or official weights.

    Args:
        name: A folder, an official name such as vqkd_encoder_base_decoder_3x768x12_clip, or a file of such
            weights or of ours.

    Raises:
        ConfigError: The run, or the weights, are no visual tokenizer's.
        CheckpointError: The weights can not be had, or are damaged.
    """
    if find(name) is not None or Path(name).is_file():
        weights = read_weights(name)
        if not isinstance(weights.config, VqkdConfig):
            raise ConfigError(
                f"task.visual_tokenizer {name} holds weights of {weights.kind}; expected a visual tokenizer"
            )
        official = fill(weights, "cpu")
        assert isinstance(official, Vqkd)
        return official.float().eval()
    folder = find_run(name, "visual_tokenizer")
    task = folder.config().task
    if not isinstance(task, VisualTokenizerTask):
        raise ConfigError(
            f"task.visual_tokenizer {name} is a run of {task.kind}; expected one of visual_tokenizer"
        )
    model = Vqkd(task.tokenizer)
    load_strictly(model, folder.weights(), where=str(folder.weights_path))
    return model.eval()
