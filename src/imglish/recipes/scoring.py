"""Scoring the weights of a finished run, and official ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from imglish.errors import CheckpointError, ConfigError
from imglish.evaluation.evaluate import evaluate
from imglish.hub.load import list_models, read_weights
from imglish.hub.manifest import find
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Assembly, Scored, Shares, Splits
from imglish.recipes.beit_config import MaskedImageModelingTask
from imglish.recipes.config import (
    ImageClassificationTask,
    RunConfig,
    SegmentationTask,
    VisualTokenizerTask,
    ViTClassificationTask,
    VqaTask,
)
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.initial import initial_text
from imglish.recipes.run_folder import RunFolder
from imglish.train.checkpoint import load_strictly
from imglish.train.distributed import Ranks, join_ranks

WORDLESS = (
    VisualTokenizerTask,
    MaskedImageModelingTask,
    ImageClassificationTask,
    ViTClassificationTask,
    SegmentationTask,
    DetectionTask,
)


@dataclass(frozen=True, slots=True)
class Ready:
    """Weights in their model, with the data to ask them about.

    Args:
        folder: Where the text tokenizer and the answers lie.
        assembly: The task, its model on the device.
        shares: This rank's share of the data.
        ranks: All of them.
    """

    folder: RunFolder
    assembly: Assembly[Any]
    shares: Shares
    ranks: Ranks


def evaluate_recipe(config: RunConfig, run: Path, split: Scored = "validation") -> dict[str, float]:
    """Score the finished weights of a run.

    Args:
        config: The run's settings.
        run: Its folder.
        split: "validation" or "test".

    Raises:
        CheckpointError: The run is not finished, or a file of it is missing or damaged.
        ConfigError: Its task has no such split.
        DataFormatError: The data is missing or damaged, or nobody has told what is right.
    """
    with finished_run(config, run, split) as ready:
        return _score(ready)


def evaluate_weights(config: RunConfig, name: str, split: Scored = "validation") -> dict[str, float]:
    """Score official weights, or a file of them, on the data of a recipe.

    Args:
        config: The task, with the data to score and the size of the pictures.
        name: The name of official weights, or a ``.pth`` or ``.safetensors`` file.
        split: "validation" or "test".

    Raises:
        CheckpointError: There are no such weights, or they are of another model.
        ConfigError: The task has no such split.
        DataFormatError: The data is missing or damaged, or nobody has told what is right.
    """
    with official_weights(config, name, split) as ready:
        return _score(ready)


@contextmanager
def scored_alone(config: RunConfig, weights: Path | str, split: Scored) -> Iterator[Ready]:
    """What a report is made of: one process with weights and a split of the data.

    Args:
        config: The settings of the run, or of the recipe on whose data official weights are scored.
        weights: The folder of a run as a path; official weights by name, or a file of them, as a text.
        split: "validation" or "test".

    Raises:
        CheckpointError: The run is not finished, or there are no such weights.
        ConfigError: There is no such split, or there are several ranks.
        DataFormatError: A file or folder of the data is missing, or nobody has told what is right.
    """
    if isinstance(weights, Path):
        source = finished_run(config, weights, split)
    else:
        source = official_weights(config, weights, split)
    with source as ready:
        if ready.ranks.world_size > 1:
            raise ConfigError("a report is written by one process; leave torchrun out")
        ready.assembly.check_scored()
        yield ready


@contextmanager
def finished_run(config: RunConfig, run: Path, split: Scored) -> Iterator[Ready]:
    """The weights of a run with a split of its data; arguments and errors as in `evaluate_recipe`."""
    folder = RunFolder(run)
    weights = folder.weights()
    needed = [] if isinstance(config.task, WORDLESS) else [folder.text_path]
    needed += [folder.answers_path] if isinstance(config.task, VqaTask) else []
    for path in needed:  # made anew, they might not be those that the weights know
        if not path.is_file():
            raise CheckpointError(f"{path}: missing from a finished run; copy it there, or train anew")
    with join_ranks(config.train.device) as ranks:
        ready = _assembled(config, folder, split, ranks)
        load_strictly(ready.assembly.task.model, weights, where=str(folder.weights_path))
        yield ready


@contextmanager
def official_weights(config: RunConfig, name: str, split: Scored) -> Iterator[Ready]:
    """Official weights with a split of a recipe's data; arguments and errors as in `evaluate_weights`."""
    if find(name) is None and not Path(name).is_file():
        raise CheckpointError(
            f"{name!r}: neither the name of official weights nor a file of weights; {_advice(name)}"
        )
    with tempfile.TemporaryDirectory() as scratch, join_ranks(config.train.device) as ranks:
        folder = RunFolder(Path(scratch))
        if not isinstance(config.task, WORDLESS) and not config.text_tokenizer:
            folder.text_path.write_bytes(initial_text(name).serialized)
        ready = _assembled(config, folder, split, ranks)
        size = getattr(getattr(config.task, "model", None), "image_size", None)
        weights = read_weights(name, size)
        state = {key: tensor.float() for key, tensor in weights.state.items()}
        load_strictly(ready.assembly.task.model, state, where=name)
        yield ready


def _advice(name: str) -> str:
    if RunFolder(Path(name)).weights_path.is_file():
        return f"the weights of that run are {RunFolder(Path(name)).weights_path}"
    close = get_close_matches(name, list_models(), n=1)
    if close == [name]:
        return f"that ships in the package as a run; imglish convert {name} FOLDER --to pretrained writes it"
    return f"did you mean {close[0]!r}?" if close else "imglish.list_models() names the official ones"


def _assembled(config: RunConfig, folder: RunFolder, split: Scored, ranks: Ranks) -> Ready:
    shares = Shares(ranks.rank, ranks.world_size)
    assembly = assemble(config, folder, shares, Splits(train=False, scored=split))
    assembly.task.to(ranks.device)
    return Ready(folder, assembly, shares, ranks)


def _score(ready: Ready) -> dict[str, float]:
    assembly = ready.assembly
    assembly.check_scored()
    scores = evaluate(assembly.task, assembly.evaluation(ready.shares), ready.ranks.device)
    return scores | (assembly.finish() if assembly.finish is not None else {})
