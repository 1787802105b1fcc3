"""What one batch of a pretraining run is and costs, by formula, without reading any data or weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imglish.errors import ConfigError
from imglish.hub.load import EMBEDDED
from imglish.hub.manifest import find
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.cost import encoder_cost, num_tokens
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, Beit3ForRetrieval
from imglish.models.vit.cost import masked_image_cost
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.cost import tokenizing_bytes, tokenizing_flops, training_cost
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.teachers import TimmTeacher
from imglish.nn.cost import Cost, Precision, product_size, trained_linear
from imglish.recipes.beit_config import MaskedImageModelingTask
from imglish.recipes.config import (
    ContrastiveTask,
    MaskedDataModelingTask,
    RetrievalTask,
    TaskConfig,
    VisualTokenizerTask,
)
from imglish.recipes.run_folder import RunFolder, find_run

StreamName = Literal["images", "texts", "pairs"]
PlannedTask = (
    MaskedDataModelingTask | ContrastiveTask | RetrievalTask | MaskedImageModelingTask | VisualTokenizerTask
)
PLANNED = "masked_data_modeling, contrastive, retrieval, masked_image_modeling and visual_tokenizer"
# Assumed: captions of the paper's pairs have 5 (Visual Genome) to 20 words (CC12M), and buckets pad little.
PAIR_TOKENS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Samples of one kind in a batch.

    Args:
        name: Which.
        samples: How many.
        patches: Vision tokens of a sample, class token included; 0 without pictures.
        words: Text tokens of a sample, padding included; 0 without texts.
        hidden_patches: Patches of a sample that are predicted.
        hidden_words: Words of a sample that are predicted.
    """

    name: StreamName
    samples: int
    patches: int = 0
    words: int = 0
    hidden_patches: float = 0.0
    hidden_words: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of a sample."""
        return self.patches + self.words


@dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    """The model beside the trained one: a visual tokenizer or a teacher.

    Args:
        name: What the recipe calls it.
        parameters: Of the model that is loaded.
        flops: Forward, of one picture.
        working_bytes: Of one picture, before the trained model runs.
        vocabulary: Visual tokens it tells apart; 0 of a teacher.
        config: Of a tokenizer.
    """

    name: str
    parameters: int
    flops: int
    working_bytes: int
    vocabulary: int = 0
    config: VqkdConfig | None = None


NO_MODEL = Frozen(name="", parameters=0, flops=0, working_bytes=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one batch costs.

    Args:
        model: The trained model, heads included.
        frozen: FLOPs of the frozen model.
        encoded_twice: FLOPs of what chunks of a contrastive batch compute a second time.
        held: The cost of what is in memory at once, chunks considered.
        logits: Bytes of predictions, their softmax and its gradient.
        batch: Bytes of the pictures.
        aside: Bytes the frozen model works in, before the trained one runs.
    """

    model: Cost
    frozen: int = 0
    encoded_twice: int = 0
    held: Cost
    logits: int
    batch: int
    aside: int = 0


def planned(task: TaskConfig) -> PlannedTask:
    """The task, if it can be planned.

    Raises:
        ConfigError: It can not.
    """
    if isinstance(task, PlannedTask):
        return task
    raise ConfigError(f"a run of {task.kind} has no plan; imglish plan knows {PLANNED}")


def streams_of(task: PlannedTask, *, text_tokens: int = 0, pair_tokens: int = 0) -> list[Stream]:
    """The streams of a batch over all ranks; those without samples are left out.

    Args:
        task: The task.
        text_tokens: Tokens of a text of the stream of texts, padding included; 0: as long as may be.
        pair_tokens: The same of a pair's text; 0: as long as may be, or in buckets `PAIR_TOKENS`.

    Raises:
        ConfigError: A length is beyond the model's or the task's.
    """
    if isinstance(task, MaskedImageModelingTask):
        patches = 1 + task.model.grid_size[0] * task.model.grid_size[1]
        return [
            Stream(name="images", samples=task.batch_size, patches=patches, hidden_patches=task.num_masked)
        ]
    if isinstance(task, VisualTokenizerTask):
        rows, columns = task.tokenizer.encoder.grid_size
        return [Stream(name="images", samples=task.batch_size, patches=1 + rows * columns)]
    longest = min(task.max_text_tokens, task.model.max_text_tokens)
    for option, length in (("text", text_tokens), ("pair", pair_tokens)):
        if length > longest:
            raise ConfigError(f"--{option}-tokens is {length}, but texts are cut to {longest} tokens")
    patches, words = 1 + task.model.num_patches, pair_tokens or longest
    if not isinstance(task, MaskedDataModelingTask):
        return [Stream(name="pairs", samples=task.batch_size, patches=patches, words=words)]
    words = pair_tokens or min(longest, PAIR_TOKENS)
    hidden, length = round(task.image_share * task.model.num_patches), text_tokens or longest
    streams = [
        Stream(name="images", samples=task.num_images, patches=patches, hidden_patches=hidden),
        Stream(
            name="texts", samples=task.num_texts, words=length, hidden_words=task.text_share * (length - 2)
        ),
        Stream(
            name="pairs",
            samples=task.num_pairs,
            patches=patches,
            words=words,
            hidden_patches=hidden * (1 - task.clean_share),
            hidden_words=task.pair_text_share * (words - 2),
        ),
    ]
    return [stream for stream in streams if stream.samples]


def frozen_of(task: PlannedTask) -> Frozen:
    """The frozen model of a task, by its known sizes.

    Raises:
        ConfigError: It is named by a folder of a run that is not there, or by a file of weights.
    """
    if isinstance(task, VisualTokenizerTask):
        return _teacher(task)
    if isinstance(task, ContrastiveTask | RetrievalTask):
        return NO_MODEL
    name, grid = task.visual_tokenizer, task.model.grid_size
    config = tokenizer_config(name)
    stored = isinstance(task, MaskedDataModelingTask) and bool(task.stored_tokens)
    return Frozen(
        name=name,
        parameters=_count_parameters(_on_meta(config)),
        flops=0 if stored else tokenizing_flops(config, 1, grid),
        working_bytes=0 if stored else tokenizing_bytes(config, 1, grid),
        vocabulary=config.codebook_size,
        config=config,
    )


def tokenizer_config(name: str) -> VqkdConfig:
    """Sizes of a visual tokenizer: official, of the package, or of a run that is there.

    Raises:
        ConfigError: They can not be known.
    """
    official = find(name)
    if official is not None and isinstance(official.config, VqkdConfig):
        return official.config
    if name != EMBEDDED and not Path(name).is_dir():
        raise ConfigError(
            f"task.visual_tokenizer is {name!r}, whose sizes are not known: expected an official tokenizer "
            f"by name, the folder of a run that is there, or {EMBEDDED}; name one of equal sizes for the plan"
        )
    task = find_run(name, "visual_tokenizer").config().task
    if not isinstance(task, VisualTokenizerTask):
        raise ConfigError(
            f"task.visual_tokenizer {name} is a run of {task.kind}; expected one of visual_tokenizer"
        )
    return task.tokenizer


def model_of(task: PlannedTask, frozen: Frozen) -> nn.Module:
    """The model that is trained, on the meta device."""
    with torch.device("meta"):
        match task:
            case MaskedDataModelingTask():
                return Beit3ForMaskedDataModeling(task.model, codebook_size=frozen.vocabulary)
            case ContrastiveTask() | RetrievalTask():
                return Beit3ForRetrieval(task.model)
            case MaskedImageModelingTask():
                return ViTForMaskedImageModeling(
                    task.model, codebook_size=frozen.vocabulary, aggregation=task.aggregation
                )
            case VisualTokenizerTask():
                return Vqkd(task.tokenizer)


def work_of(
    task: PlannedTask, streams: list[Stream], frozen: Frozen, *, precision: Precision, competing: int = 0
) -> Work:
    """What a batch costs.

    Args:
        task: The task.
        streams: The batch, or a rank's share of it in one micro step.
        frozen: Tokenizer or teacher.
        precision: What the model computes in; see `imglish.nn.cost`.
        competing: Pairs of all ranks that a contrastive loss compares; 0: those of the streams.
    """
    pictures = sum(stream.samples for stream in streams if stream.patches)
    size = image_size_of(task)
    batch = 4 * 3 * size[0] * size[1] * pictures
    aside, flops = frozen.working_bytes * pictures, frozen.flops * pictures
    match task:
        case MaskedDataModelingTask():
            model, logits = _masked_data(task.model, streams, frozen.vocabulary, precision=precision)
        case ContrastiveTask() | RetrievalTask():
            return _contrastive(task, streams[0], batch, competing, precision=precision)
        case MaskedImageModelingTask():
            model = masked_image_cost(task.model, task.aggregation, pictures, precision=precision)
            rows = round(pictures * streams[0].hidden_patches)
            ways = 1 if task.aggregation is None else 2
            heads = [_head(rows, task.model.width, frozen.vocabulary, precision=precision)] * ways
            model, logits = (
                sum(heads, model),
                _logits_bytes([rows * frozen.vocabulary] * ways, precision=precision),
            )
        case VisualTokenizerTask():
            config = task.tokenizer
            model = training_cost(config, pictures, precision=precision)
            logits = 2 * 4 * pictures * (streams[0].patches - 1) * config.codebook_size  # distances to codes
    return Work(model=model, frozen=flops, held=model, logits=logits, batch=batch, aside=aside)


def _masked_data(
    config: Beit3Config, streams: list[Stream], codes: int, *, precision: Precision
) -> tuple[Cost, int]:
    """The model with its heads, which predict at hidden places only, and bytes of logits."""
    model, logits = Cost(), []
    for stream in streams:
        model += encoder_cost(
            config, stream.samples, pictures=stream.patches > 0, num_text=stream.words, precision=precision
        )
        hidden = ((stream.hidden_patches, codes), (stream.hidden_words, config.vocab_size))
        for places, vocabulary in hidden:
            rows = round(stream.samples * places)
            model += _head(rows, config.width, vocabulary, precision=precision)
            logits.append(rows * vocabulary)
    return model, _logits_bytes(logits, precision=precision)


def _head(rows: int, width: int, vocabulary: int, *, precision: Precision) -> Cost:
    """A linear at hidden places, and the tokens that it keeps."""
    return replace(trained_linear(rows, width, vocabulary), kept=rows * width * product_size(precision))


def _logits_bytes(numbers: list[int], *, precision: Precision) -> int:
    """Predictions and softmax of all streams, and float32 copy or gradient of the largest.

    Args:
        numbers: Predictions of each stream times their vocabulary.
        precision: Under autocast predictions are bf16, else float32; their softmax always is.
    """
    return (6 if precision == "bf16" else 8) * sum(numbers) + 4 * max(numbers, default=0)


def _contrastive(
    task: ContrastiveTask | RetrievalTask, pairs: Stream, batch: int, competing: int, *, precision: Precision
) -> Work:
    samples, width = pairs.samples, task.model.width
    chunk = min(task.chunk_size or samples, samples)

    def encoded(count: int) -> Cost:
        sides = ((True, 0), (False, pairs.words))
        towers = [
            encoder_cost(task.model, count, pictures=pictures, num_text=words, precision=precision)
            for pictures, words in sides
        ]
        return sum((*towers, trained_linear(2 * count, width, width)), Cost())

    model, others = encoded(samples), competing or samples
    compared = trained_linear(2 * samples, width, others)
    return Work(
        model=model + compared,
        encoded_twice=model.forward if chunk < samples else 0,
        held=encoded(chunk),
        # Both ways: cosines, scaled cosines, softmax and gradient, float32 or less.
        logits=2 * 4 * 4 * samples * others,
        batch=batch,
    )


def _teacher(task: VisualTokenizerTask) -> Frozen:
    """The teacher of a visual tokenizer; that of a run must be there."""
    name, encoder = task.teacher, task.tokenizer.encoder
    kind, _, rest = name.partition(":")
    if name == "pixels":
        return replace(NO_MODEL, name=name)
    if kind == "timm" and rest:
        return _timm_teacher(name, rest, encoder.grid_size)
    if name != EMBEDDED and not (kind == "run" and Path(rest).is_dir()):
        raise ConfigError(
            f"task.teacher is {name!r}, whose sizes are not known: expected timm:MODEL, pixels, {EMBEDDED}, "
            "or run:FOLDER of a run that is there; name one of equal sizes for the plan"
        )
    folder = find_run(name, "encoder") if name == EMBEDDED else RunFolder(Path(rest))
    found = folder.config().task
    if not isinstance(found, ContrastiveTask | MaskedDataModelingTask):
        raise ConfigError(f"task.teacher {name} is a run of {found.kind}; expected one of contrastive")
    config = found.model
    cost = encoder_cost(config, 1, pictures=True, num_text=0, precision="fp32", trained=False)
    tokens = num_tokens(config, pictures=True, num_text=0)
    with torch.device("meta"):
        parameters = _count_parameters(Beit3ForRetrieval(config))
    return Frozen(
        name=name, parameters=parameters, flops=cost.forward, working_bytes=_block_work(tokens, config.width)
    )


def _timm_teacher(name: str, rest: str, grid_size: tuple[int, int]) -> Frozen:
    """A timm model, its operations counted on the meta device: no weights are fetched."""
    try:
        with torch.device("meta"):
            # What it has is said by attributes that its base classes do not declare.
            model: Any = timm.create_model(rest, pretrained=False)
    except Exception as error:  # an unknown name has errors of several kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"task.teacher {name}: timm does not have it ({reason}); check the name") from error
    teacher = TimmTeacher(model, grid_size, projected="clip" in rest)
    tokens = 1 + grid_size[0] * grid_size[1]
    side = model.patch_embed.patch_size
    picture = torch.empty(1, 3, grid_size[0] * side[0], grid_size[1] * side[1], device="meta")
    with FlopCounterMode(display=False) as counter:
        teacher(picture)
    return Frozen(
        name=name,
        parameters=_count_parameters(model),
        flops=int(counter.get_total_flops()),
        working_bytes=_block_work(tokens, int(model.embed_dim)),
    )


def _block_work(tokens: int, width: int) -> int:
    """Bytes that a block without gradients works in, at most: stream, norm, and twice four widths."""
    return 4 * tokens * width * (3 + 2 * 4)


def image_size_of(task: PlannedTask) -> tuple[int, int]:
    """(height, width) of the pictures."""
    if isinstance(task, VisualTokenizerTask):
        return task.tokenizer.encoder.image_size
    return task.model.image_size


def _on_meta(config: VqkdConfig) -> Vqkd:
    with torch.device("meta"):
        return Vqkd(config)


def _count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
