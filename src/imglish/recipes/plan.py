"""What a pretraining run will take before it is started: tokens, operations, memory, hours, storage.

Nothing is read but configs: no data, no weights. Where a number is assumed and not derived, `Plan` says so.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import reduce

from torch import nn

from imglish.errors import ConfigError
from imglish.models.beit3.cost import parameter_counts
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, Beit3ForRetrieval
from imglish.nn.cost import Precision
from imglish.recipes.assembly.base import Shares
from imglish.recipes.config import ContrastiveTask, MaskedDataModelingTask, RetrievalTask, RunConfig
from imglish.recipes.plan_count import CountedFlops, count_step
from imglish.recipes.plan_work import (
    Frozen,
    PlannedTask,
    Stream,
    Work,
    frozen_of,
    image_size_of,
    model_of,
    planned,
    streams_of,
    work_of,
)
from imglish.train.memory import (
    ModelSizes,
    StateBytes,
    Wrapping,
    checkpoint_bytes,
    model_sizes,
    resolve_strategy,
    state_bytes,
)

BUSY = 0.4  # share of the peak that is assumed where none is given; nothing here was measured on an H200
H200_BF16, H200_FP32 = 989.0, 67.0  # dense TFLOP/s, NVIDIA's data sheet of the H200 SXM
H200_BYTES = 139 * 2**30  # of its 141 GB, what a process can have
_TOKEN_BYTES = 2  # of a stored visual token
_CLOSE = 0.9  # share of the memory beyond which fragments and buffers of NCCL may not fit


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """What a recipe does not say.

    Args:
        gpus: Ranks.
        mfu: Share of the peak that useful operations reach; 0 assumes `BUSY` for all operations together.
        peak: Dense TFLOP/s of a GPU; 0 is the H200's.
        images: Pictures in your data; 0 is unknown.
        texts: Texts in your data.
        pairs: Pairs in your data.
        text_tokens: Tokens of a text; 0: as long as may be.
        pair_tokens: Tokens of a pair's text, padding included; 0: 32, as captions have.
    """

    gpus: int = 1
    mfu: float = 0.0
    peak: float = 0.0
    images: int = 0
    texts: int = 0
    pairs: int = 0
    text_tokens: int = 0
    pair_tokens: int = 0

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ValueError(f"gpus must be at least 1; got {self.gpus}")
        if not 0 <= self.mfu <= 1:
            raise ValueError(f"mfu is a share of the peak and must lie in [0, 1]; got {self.mfu}")
        for name in ("peak", "images", "texts", "pairs", "text_tokens", "pair_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPlan:
    """One stream: samples and tokens of a step and of the run (None: its length is not known).

    ``hidden`` are the tokens that are predicted in a step, ``passes`` over the data where its size is given.
    """

    name: str
    samples: int
    tokens_per_sample: int
    tokens: int
    hidden: int
    samples_of_run: int | None
    tokens_of_run: int | None
    passes: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FlopsPlan:
    """FLOPs of a step over all ranks; a multiplication with its addition is two.

    Args:
        forward: Of the trained model, by formula.
        backward: The same.
        frozen: Forward pass of the visual tokenizer or teacher, where it runs.
        recomputed: What activation checkpointing or chunks compute again: work, but of no use.
        counted: Forward and backward, counted on the meta device.
    """

    forward: int
    backward: int
    frozen: int
    recomputed: int
    counted: CountedFlops

    @property
    def model(self) -> int:
        """Forward and backward of the trained model."""
        return self.forward + self.backward

    @property
    def useful(self) -> int:
        """What MFU counts: the model, and the frozen one beside it."""
        return self.model + self.frozen

    @property
    def difference(self) -> float:
        """Of formula and count, relative to the count."""
        counted = self.counted.forward + self.counted.backward
        return self.model / counted - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Bytes on one rank, at the peak.

    Args:
        state: Weights, gradients, optimiser.
        activations: What autograd keeps.
        logits: Predictions, softmax and its gradient.
        pictures: Of the batch.
        frozen: Weights of the tokenizer or teacher.
        working: What those work in, before the trained model runs.
        peak: The most at one time: all that stays, and the largest of tokenizing, the passes and the update.
    """

    state: StateBytes
    activations: int
    logits: int
    pictures: int
    frozen: int
    working: int
    peak: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """Another way to spread a run, and its peak of memory on one rank."""

    strategy: Wrapping
    activation_checkpointing: bool
    peak: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TimePlan:
    """How long it takes; hours are None where the length is not known.

    ``assumed`` is True where nobody gave an MFU.
    """

    mfu: float
    assumed: bool
    peak_tflops: float
    seconds_per_step: float
    hours: float | None
    gpu_hours: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoragePlan:
    """Bytes on disk.

    ``checkpoints`` are those that are kept and one being written. ``stored_tokens`` are of all pictures where
    their number is given, else of a million; None where the run has no visual tokens.
    """

    checkpoint: int
    checkpoints: int
    weights: int
    stored_tokens: int | None
    stored_pictures: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will take.

    ``ways`` are all strategies that go with the ranks and the precision, ``fits`` tells whether this one's
    peak leaves a tenth of an H200's memory free, ``remedy`` which option would help where it does not.
    """

    recipe: str
    kind: str
    gpus: int
    strategy: Wrapping
    activation_checkpointing: bool
    precision: Precision
    samples_per_rank: int
    grad_accumulation: int
    steps: int | None
    epochs: float
    streams: tuple[StreamPlan, ...]
    parameters: dict[str, int]
    frozen_model: str
    frozen_parameters: int
    flops: FlopsPlan
    memory: MemoryPlan
    ways: tuple[Way, ...]
    fits: bool
    remedy: str
    time: TimePlan
    storage: StoragePlan


@dataclass(frozen=True, slots=True)
class _Setting:
    """What the parts of a plan have in common."""

    config: RunConfig
    task: PlannedTask
    options: PlanOptions
    streams: list[Stream]
    frozen: Frozen
    sizes: ModelSizes

    @property
    def precision(self) -> Precision:
        asked = self.config.train.precision
        return "bf16" if asked == "auto" else asked

    def share(self, accumulation: int) -> Work:
        """What a rank has in one micro step."""
        shares = Shares(world_size=self.options.gpus, grad_accumulation=accumulation)
        streams = [replace(stream, samples=shares.per_rank(stream.samples)) for stream in self.streams]
        competing = self.streams[0].samples // accumulation
        return work_of(self.task, streams, self.frozen, precision=self.precision, competing=competing)


def make_plan(config: RunConfig, options: PlanOptions) -> Plan:
    """Plan a run.

    Raises:
        ConfigError: Its task has no plan, its batch does not divide by the ranks, its visual tokenizer is a
            run that is not there, or its strategy does not go with the number of ranks.
    """
    task = planned(config.task)
    strategy = resolve_strategy(
        config.train.strategy, options.gpus, alone=config.train.precision == "bf16_params"
    )
    streams = streams_of(task, text_tokens=options.text_tokens, pair_tokens=options.pair_tokens)
    frozen = frozen_of(task)
    model = model_of(task, frozen)
    setting = _Setting(config, task, options, streams, frozen, model_sizes(model))
    train, checkpointing = config.train, config.train.activation_checkpointing
    steps, whole = _steps(setting), work_of(task, streams, frozen, precision=setting.precision)
    flops = FlopsPlan(
        forward=whole.model.forward,
        backward=whole.model.backward,
        frozen=whole.frozen,
        recomputed=whole.encoded_twice + (whole.model.in_blocks if checkpointing else 0),
        counted=count_step(model, streams, image_size_of(task)),
    )
    memory = _memory(setting, strategy, checkpointing, train.grad_accumulation)
    fits = memory.peak <= _CLOSE * H200_BYTES
    return Plan(
        recipe=config.name,
        kind=task.kind,
        gpus=options.gpus,
        strategy=strategy,
        activation_checkpointing=checkpointing,
        precision=setting.precision,
        samples_per_rank=task.batch_size // options.gpus // train.grad_accumulation,
        grad_accumulation=train.grad_accumulation,
        steps=steps,
        epochs=train.num_epochs,
        streams=tuple(_stream(stream, steps, options) for stream in streams),
        parameters=_parameters(model),
        frozen_model=frozen.name,
        frozen_parameters=frozen.parameters,
        flops=flops,
        memory=memory,
        ways=_ways(setting),
        fits=fits,
        remedy="" if fits else _remedy(setting, strategy, checkpointing),
        time=_time(flops, options, steps, precision=setting.precision),
        storage=_storage(setting),
    )


def to_json(plan: Plan) -> dict[str, object]:
    """The plan as plain values, with the sums that its parts can tell."""
    found = asdict(plan)
    flops, state = plan.flops, plan.memory.state
    found["flops"] |= {"model": flops.model, "useful": flops.useful, "difference": flops.difference}
    found["memory"]["state"] |= {"resident": state.resident, "in_passes": state.in_passes}
    return found


def _steps(setting: _Setting) -> int | None:
    """Updates of the run; None where it counts epochs of data of unknown size."""
    train, task = setting.config.train, setting.task
    if not train.num_epochs:
        return train.num_steps
    if isinstance(task, MaskedDataModelingTask):
        raise ConfigError("train.num_epochs: several streams have no common epoch; give train.num_steps")
    samples = _in_data(setting.streams[0], setting.options)
    if not samples:
        return None
    if samples < task.batch_size:
        raise ConfigError(
            f"task.batch_size is {task.batch_size}, but there are only {samples} training samples; make it "
            "smaller, or give train.num_steps"
        )
    return max(1, round(train.num_epochs * (samples // task.batch_size)))


def _in_data(stream: Stream, options: PlanOptions) -> int:
    """Samples of a stream in the data; 0 where unknown."""
    return {"images": options.images, "texts": options.texts, "pairs": options.pairs}[stream.name]


def _stream(stream: Stream, steps: int | None, options: PlanOptions) -> StreamPlan:
    tokens, available = stream.samples * stream.tokens, _in_data(stream, options)
    samples = None if steps is None else steps * stream.samples
    return StreamPlan(
        name=stream.name,
        samples=stream.samples,
        tokens_per_sample=stream.tokens,
        tokens=tokens,
        hidden=round(stream.samples * (stream.hidden_patches + stream.hidden_words)),
        samples_of_run=samples,
        tokens_of_run=None if steps is None else steps * tokens,
        passes=samples / available if samples is not None and available else None,
    )


def _parameters(model: nn.Module) -> dict[str, int]:
    """By kind for BEiT-3, else by part of the model."""
    if isinstance(model, Beit3ForMaskedDataModeling | Beit3ForRetrieval):
        return asdict(parameter_counts(model))
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel()
    return {"total": sum(parts.values()), **parts}


def _memory(setting: _Setting, strategy: Wrapping, checkpointing: bool, accumulation: int) -> MemoryPlan:
    work = setting.share(accumulation)
    state = state_bytes(
        setting.sizes,
        strategy,
        world_size=setting.options.gpus,
        precision=setting.precision,
        averaged=setting.config.train.ema_decay > 0,
        accumulates=accumulation > 1,
    )
    activations = work.held.kept_checkpointed if checkpointing else work.held.kept
    frozen = 4 * setting.frozen.parameters
    passes = state.in_passes + activations + work.logits
    return MemoryPlan(
        state=state,
        activations=activations,
        logits=work.logits,
        pictures=work.batch,
        frozen=frozen,
        working=work.aside,
        peak=state.resident + frozen + work.batch + max(work.aside, passes, state.update),
    )


def _ways(setting: _Setting) -> tuple[Way, ...]:
    """Every strategy that goes with the number of ranks, with and without checkpointing."""
    strategies: tuple[Wrapping, ...] = ("single",) if setting.options.gpus == 1 else ("ddp", "fsdp2")
    if setting.precision == "bf16_params":
        strategies = ("fsdp2",)
    accumulation = setting.config.train.grad_accumulation
    return tuple(
        Way(
            strategy=strategy,
            activation_checkpointing=checkpointing,
            peak=_memory(setting, strategy, checkpointing, accumulation).peak,
        )
        for strategy in strategies
        for checkpointing in (False, True)
    )


def _remedy(setting: _Setting, strategy: Wrapping, checkpointing: bool) -> str:
    """Options with which the run fits as it is spread; empty where there are none."""
    gpus, config = setting.options.gpus, setting.config

    def fits(changed: _Setting, accumulation: int) -> bool:
        return _memory(changed, strategy, checkpointing, accumulation).peak <= _CLOSE * H200_BYTES

    if isinstance(setting.task, ContrastiveTask | RetrievalTask):
        if config.train.grad_accumulation > 1:
            return ""
        chunk = setting.task.batch_size // gpus
        while chunk > 1:  # micro steps would leave fewer pairs to compare
            chunk //= 2
            if fits(replace(setting, task=replace(setting.task, chunk_size=chunk)), 1):
                return f"--task.chunk-size {chunk}"
        return ""
    common = reduce(math.gcd, (stream.samples for stream in setting.streams)) // gpus
    for accumulation in range(config.train.grad_accumulation + 1, common + 1):
        if common % accumulation == 0 and fits(setting, accumulation):
            return f"--train.grad-accumulation {accumulation}"
    return ""


def _time(flops: FlopsPlan, options: PlanOptions, steps: int | None, *, precision: Precision) -> TimePlan:
    peak = options.peak or (H200_FP32 if precision == "fp32" else H200_BF16)
    mfu = options.mfu or BUSY * flops.useful / (flops.useful + flops.recomputed)
    seconds = flops.useful / (mfu * peak * 1e12 * options.gpus)
    hours = None if steps is None else steps * seconds / 3600
    return TimePlan(
        mfu=mfu,
        assumed=not options.mfu,
        peak_tflops=peak,
        seconds_per_step=seconds,
        hours=hours,
        gpu_hours=None if hours is None else hours * options.gpus,
    )


def _storage(setting: _Setting) -> StoragePlan:
    train, total = setting.config.train, setting.sizes.total
    checkpoint = checkpoint_bytes(total, averaged=train.ema_decay > 0)
    tokens = None
    options = setting.options
    pictures = options.images + options.pairs
    if isinstance(setting.task, MaskedDataModelingTask):
        tokens = (pictures or 1_000_000) * setting.task.model.num_patches * _TOKEN_BYTES
    return StoragePlan(
        checkpoint=checkpoint,
        checkpoints=checkpoint * (train.keep_checkpoints + 1),
        weights=4 * total,
        stored_tokens=tokens,
        stored_pictures=pictures or 1_000_000,
    )
