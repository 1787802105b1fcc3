"""From a run's settings to a trained model; the only module that knows every package."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from imglish.config.core import differences
from imglish.data.loader import SinglePlan, prefetch
from imglish.errors import ConfigError
from imglish.evaluation.evaluate import evaluate
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.layers import is_task_head, layer_of
from imglish.models.joint import JointModel
from imglish.models.vit.layers import NOT_DECAYED, layer_of as vit_layer_of
from imglish.models.vit_adapter.presets import Tree
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.assembly import (
    captioning,
    classification,
    detection,
    joint,
    masked_image_modeling,
    nlvr2,
    pretraining,
    retrieval,
    segmentation,
    vqa,
)
from imglish.recipes.assembly.base import Assembly, Shares, Splits
from imglish.recipes.beit_config import MaskedImageModelingTask
from imglish.recipes.config import (
    CaptioningTask,
    ClassNamesTask,
    ContrastiveTask,
    ImageClassificationTask,
    JointTask,
    MaskedDataModelingTask,
    Nlvr2Task,
    RetrievalTask,
    RunConfig,
    SegmentationTask,
    TaskConfig,
    VisualTokenizerTask,
    ViTClassificationTask,
    VqaTask,
)
from imglish.recipes.data_config import WorldStreamData
from imglish.recipes.dense_rates import decayed_by_name, dense_rates, stands_on_maps
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.initial import find_encoder, initial_text, load_initial
from imglish.recipes.initial_vit import find_vit
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.sources import world_corpus
from imglish.text.tokenizer import TextTokenizer
from imglish.text.training import train_tokenizer
from imglish.train.checkpoint import Checkpoints, load_strictly
from imglish.train.config import OptimizerConfig
from imglish.train.distributed import Ranks, copy_buffers_of_main, join_ranks
from imglish.train.ema import Ema
from imglish.train.logging import RunLog, SkippedLog
from imglish.train.loop import LoopConfig, train
from imglish.train.optimizer import build_optimizer, layer_scale
from imglish.train.parallelize import gathered, parallelize, whole_weights
from imglish.train.precision import resolve_precision
from imglish.train.state import TrainState

log = logging.getLogger(__name__)
_ALL_SPLITS = Splits()
_WITHOUT_TEST = (
    ContrastiveTask,
    VisualTokenizerTask,
    MaskedDataModelingTask,
    MaskedImageModelingTask,
    SegmentationTask,
)
_MOST_NAMES = 8  # that are told one by one
WORLD_VOCABULARY = 400  # sentencepiece pieces asked for on the World's corpus


def train_recipe(config: RunConfig, out: Path, *, resume: bool = False, title: str = "") -> dict[str, float]:
    """Train a run to its end and score it.

    Args:
        config: The run.
        out: Its folder.
        resume: True goes on from the last checkpoint in the folder; a finished run returns its scores.
        title: Stands before the progress bar.

    Returns:
        The final scores, also in ``scores.json``.

    Raises:
        ConfigError: The folder holds a run already and ``resume`` is False, or one of other settings.
    """
    folder = RunFolder(out)
    _check_folder(folder, config, resume)
    if folder.weights_path.is_file() and (scores := folder.scores()) is not None:
        if folder.config_path.is_file() and folder.config().train.num_steps < config.train.num_steps:
            log.warning(
                "%s is finished, and more steps train it no further: begin a new run with --init %s", out, out
            )
        return scores
    with join_ranks(config.train.device) as ranks:
        torch.manual_seed(config.train.seed)
        shares = Shares(ranks.rank, ranks.world_size, config.train.grad_accumulation)
        folder.create()
        assembly = assemble(config, folder, shares)
        assembly.check_scored()  # or hours of training would end in nothing
        timed = in_steps(config, assembly)
        # Only now is the folder this run's: data that can not be read must not keep a mended command out.
        folder.write_config(config)
        return _train(assembly, timed, folder, ranks, shares, title or config.name)


def in_steps(config: RunConfig, assembly: Assembly[Any]) -> RunConfig:
    """The run with its length and warmup in steps; an epoch has whole batches only, as in the released code.

    Raises:
        ConfigError: Epochs are asked for where several streams are mixed, or an epoch has no whole batch.
    """
    train, schedule = config.train, config.schedule
    if not train.num_epochs and not schedule.warmup_epochs:
        return config
    if not isinstance(assembly.plan, SinglePlan):
        raise ConfigError("train.num_epochs: several streams have no common epoch; give train.num_steps")
    samples = len(assembly.plan.source.dataset)
    steps = samples // config.task.batch_size
    if steps == 0:
        raise ConfigError(
            f"task.batch_size is {config.task.batch_size}, but there are only {samples} training samples; "
            "make it smaller, or give train.num_steps"
        )
    if train.num_epochs:
        train = replace(train, num_steps=max(1, round(train.num_epochs * steps)))
    if schedule.warmup_epochs:
        schedule = replace(schedule, warmup_steps=round(schedule.warmup_epochs * steps))
    return replace(config, train=train, schedule=schedule)


def _train(
    assembly: Assembly[Any], config: RunConfig, folder: RunFolder, ranks: Ranks, shares: Shares, title: str
) -> dict[str, float]:
    task, settings = assembly.task.to(ranks.device), config.train
    model = task.model
    if config.init:
        fresh = load_initial(model, config.init, config.task.kind)
        log.info("weights from %s; starting anew: %s", config.init, in_short(fresh))
    tree: Tree = "detection" if isinstance(config.task, DetectionTask) else "segmentation"
    exceptions, rates = _not_decayed(model), _rates(model, config.optimizer, tree)
    decayed = decayed_by_name(model, config.optimizer, tree)
    checkpoints = Checkpoints(
        folder.checkpoints_path, settings.keep_checkpoints, background=settings.save_in_background
    )
    # Trained to its end and its checkpoints thrown away: all that is left to do is to score it.
    trained = folder.weights_path.is_file() and not checkpoints.complete()
    if trained:
        load_strictly(model, folder.weights(), where=str(folder.weights_path))
    task.model = parallelize(
        model,
        settings.strategy,
        ranks,
        activation_checkpointing=settings.activation_checkpointing,
        compiled=settings.compile,
        precision=resolve_precision(settings.precision, ranks.device),
    )
    state = TrainState(
        model=model,
        optimizer=build_optimizer(
            model, config.optimizer, exceptions=exceptions, scale=rates, decayed=decayed
        ),
        ema=Ema(model, settings.ema_decay) if settings.ema_decay else None,
    )
    # Dropout and the like must differ between ranks, initial weights must not.
    torch.manual_seed(settings.seed + 1000 * ranks.rank)
    if trained:
        state.ema, state.step = None, settings.num_steps
    else:
        checkpoints.load_latest(state, ranks)
    wrapped = task.model

    def score() -> dict[str, float]:
        with gathered(wrapped):
            scores = evaluate(task, assembly.evaluation(shares), ranks.device)
            return scores | (assembly.finish() if assembly.finish is not None else {})

    micro_steps = settings.grad_accumulation
    assert assembly.plan is not None
    batches = prefetch(
        assembly.plan, state.step * micro_steps, settings.num_steps * micro_steps, settings.num_workers
    )
    loop = LoopConfig(
        train=settings,
        optimizer=config.optimizer,
        schedule=config.schedule,
        global_batch_size=config.task.batch_size,
    )
    run_log = None
    if ranks.is_main:
        run_log = RunLog(
            folder.path,
            title=title,
            num_steps=settings.num_steps,
            start=state.step,
            tensorboard=settings.tensorboard,
        )
    skipped = SkippedLog(folder.path, ranks, start=state.step)
    with run_log or nullcontext():
        finished = train(
            task,
            state,
            batches,
            loop,
            ranks=ranks,
            checkpoints=checkpoints,
            log=run_log,
            skipped=skipped,
            evaluate=score,
        )
    if not finished:
        raise KeyboardInterrupt
    task.model = model
    if state.ema is not None:
        model.load_state_dict(state.ema.weights)
    copy_buffers_of_main(model, ranks)
    weights = whole_weights(wrapped)
    if ranks.is_main:  # first, so that a fault in scoring costs nothing
        folder.save_weights(weights)
    del weights
    scores = score()
    if ranks.is_main:
        folder.save_scores(scores)
    return scores


def in_short(names: Sequence[str]) -> str:
    """Names of parameters in a line: all where they are few, else the parts that they are of."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names) or "nothing"
    parts = Counter(".".join(name.split(".")[:2]) for name in names)
    if len(parts) > _MOST_NAMES:
        parts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{part} ({count})" for part, count in parts.items())


def assemble(
    config: RunConfig, folder: RunFolder, shares: Shares, splits: Splits = _ALL_SPLITS
) -> Assembly[Any]:
    """Join model, loss, metric and data of a run.

    Raises:
        ConfigError: Settings do not go together, or the task has no test split.
        DataFormatError: A file is missing or damaged.
    """
    task = config.task
    if splits.scored == "test" and isinstance(task, _WITHOUT_TEST):
        raise ConfigError(f"a run of {task.kind} has no test split; give --split validation")
    _check_lengths(task)
    match task:
        case ContrastiveTask():
            text = text_tokenizer(config, folder, task.model.vocab_size)
            return pretraining.assemble_contrastive(config, task, text, shares)
        case VisualTokenizerTask():
            return pretraining.assemble_visual_tokenizer(config, task, shares)
        case MaskedDataModelingTask():
            text = text_tokenizer(config, folder, task.model.vocab_size)
            return pretraining.assemble_masked_data_modeling(config, task, text, shares)
        case MaskedImageModelingTask():
            return masked_image_modeling.assemble_masked_image_modeling(config, task, shares)
        case VqaTask():
            text = text_tokenizer(config, folder, task.model.vocab_size)
            return vqa.assemble_vqa(config, task, text, folder, shares, splits)
        case RetrievalTask():
            text = text_tokenizer(config, folder, task.model.vocab_size)
            return retrieval.assemble_retrieval(config, task, text, shares, splits)
        case CaptioningTask():
            text = text_tokenizer(config, folder, task.model.vocab_size)
            return captioning.assemble_captioning(config, task, text, shares, splits)
        case Nlvr2Task():
            text = text_tokenizer(config, folder, task.model.vocab_size)
            return nlvr2.assemble_nlvr2(config, task, text, shares, splits)
        case ImageClassificationTask() | ViTClassificationTask():
            return classification.assemble_classification(config, task, folder, shares, splits)
        case ClassNamesTask():
            text = text_tokenizer(config, folder, task.model.vocab_size)
            return classification.assemble_class_names(config, task, text, folder, shares, splits)
        case SegmentationTask():
            return segmentation.assemble_segmentation(config, task, folder, shares, splits)
        case DetectionTask():
            return detection.assemble_detection(config, task, folder, shares, splits)
        case JointTask():
            text_tokenizer(config, folder, task.model.vocab_size)

            def part(config: RunConfig, folder: RunFolder) -> Assembly[Any]:
                return assemble(config, folder, shares, splits)

            return joint.assemble_joint(config, task, folder, shares, part)


def _check_lengths(task: TaskConfig) -> None:
    """Refuse texts longer than the table of positions, before one comes along in the midst of training."""
    wordless = (
        VisualTokenizerTask,
        MaskedImageModelingTask,
        ImageClassificationTask,
        ViTClassificationTask,
        SegmentationTask,
        DetectionTask,
    )
    if isinstance(task, wordless):
        return
    if isinstance(task, JointTask):
        for part in task.parts.values():
            _check_lengths(part)
        return
    if task.max_text_tokens > task.model.max_text_tokens:
        raise ConfigError(
            f"task.max_text_tokens is {task.max_text_tokens}, but the model has positions for "
            f"{task.model.max_text_tokens} (task.model.max_text_tokens); cut texts to that, or raise it"
        )


def text_tokenizer(config: RunConfig, folder: RunFolder, vocab_size: int) -> TextTokenizer:
    """The text tokenizer of a run, copied into its folder.

    It is, in this order: the one the folder has, the one named by the config, that of the initial weights,
    or a new one trained on the World's texts.

    Raises:
        ConfigError: It has more ids than the model has embeddings.
    """
    if folder.text_path.is_file():
        tokenizer = folder.text_tokenizer()
    elif config.text_tokenizer:
        tokenizer = TextTokenizer(config.text_tokenizer)
    elif config.init:
        tokenizer = initial_text(config.init)
    elif isinstance(config.data, WorldStreamData):
        tokenizer = train_tokenizer(
            world_corpus(config.data.world), folder.text_path, vocab_size=WORLD_VOCABULARY
        )
    else:
        raise ConfigError("text_tokenizer: this run starts from scratch on files; name a .spm file")
    if tokenizer.vocab_size > vocab_size:
        raise ConfigError(
            f"the text tokenizer has {tokenizer.vocab_size} ids, task.model.vocab_size is {vocab_size}; "
            "make that at least as large"
        )
    if not folder.text_path.is_file():
        folder.text_path.write_bytes(tokenizer.serialized)
    return tokenizer


def _check_folder(folder: RunFolder, config: RunConfig, resume: bool) -> None:
    """Refuse a folder that holds another run."""
    if folder.config_path.is_file():
        if not resume:
            raise ConfigError(
                f"{folder.path} holds a run already; go on with --resume, or choose another folder with --out"
            )
        changed = differences(folder.config(), config)
        fixed = {name: values for name, values in changed.items() if not name.startswith("train.")}
        if fixed:
            name, (old, new) = next(iter(fixed.items()))
            raise ConfigError(
                f"{folder.path} was trained with {name} = {old}, not {new}; resume with the same settings, "
                "or choose another folder with --out"
            )


def _rates(
    model: torch.nn.Module, optimizer: OptimizerConfig, tree: Tree = "segmentation"
) -> Callable[[str], float]:
    """Learning-rate factor of a parameter by its name: of its layer, or of a new classification head.

    Raises:
        ConfigError: Layers are to decay in a visual tokenizer.
    """
    if isinstance(model, Vqkd):
        if optimizer.layer_decay < 1:
            raise ConfigError(
                f"optimizer.layer_decay is {optimizer.layer_decay}, but a visual tokenizer is trained whole; "
                "set it to 1"
            )
        return lambda name: 1.0
    if stands_on_maps(model):
        return dense_rates(model, optimizer, tree)
    if (found := find_vit(model)) is not None:
        prefix, depth, number = found[0], found[1].depth, vit_layer_of
    else:
        prefix, encoder = find_encoder(model)
        depth, number = encoder.config.depth, layer_of

    joint = isinstance(model, JointModel)

    def rate(name: str) -> float:
        inside = name.startswith(prefix)
        layer = number(name.removeprefix(prefix), depth) if inside else depth + 1
        is_head = not inside if joint else is_task_head(name)
        head = optimizer.head_lr_scale if is_head else 1.0
        return head * layer_scale(layer, depth, optimizer.layer_decay)

    return rate


def _not_decayed(model: torch.nn.Module) -> set[str]:
    """What the models say is not decayed, by the names of the whole model."""
    if isinstance(model, Vqkd):
        return {f"{part}.{name}" for part in ("encoder", "decoder") for name in ("class_token", "positions")}
    found = find_vit(model)
    beit3 = any(isinstance(module, Beit3Encoder) for module in model.modules())
    if stands_on_maps(model) and not beit3:
        return set()  # the official exceptions match no backbone's names (adapter FACTS, section 6)
    if found is not None:
        return {found[0] + name for name in NOT_DECAYED}
    prefix, encoder = find_encoder(model)
    scales = {name for name, _ in model.named_parameters() if name.endswith("logit_scale")}
    return {prefix + name for name in encoder.no_weight_decay()} | scales
