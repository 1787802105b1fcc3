"""Scoring the weights of a finished run, and official ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from imglish.errors import CheckpointError
from imglish.evaluation.evaluate import evaluate
from imglish.hub.load import read_weights
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Assembly, Shares
from imglish.recipes.config import (
    ImageClassificationTask,
    RunConfig,
    SegmentationTask,
    VisualTokenizerTask,
    VqaTask,
)
from imglish.recipes.initial import initial_text
from imglish.recipes.run_folder import RunFolder
from imglish.train.checkpoint import load_strictly
from imglish.train.distributed import Ranks, join_ranks

WORDLESS = (VisualTokenizerTask, ImageClassificationTask, SegmentationTask)


def evaluate_recipe(config: RunConfig, run: Path) -> dict[str, float]:
    """Score the finished weights of a run.

    Raises:
        CheckpointError: The run is not finished, or a file of it is missing or damaged.
    """
    folder = RunFolder(run)
    weights = folder.weights()
    needed = [] if isinstance(config.task, WORDLESS) else [folder.text_path]
    needed += [folder.answers_path] if isinstance(config.task, VqaTask) else []
    for path in needed:  # made anew, they might not be those that the weights know
        if not path.is_file():
            raise CheckpointError(f"{path}: missing from a finished run; copy it there, or train anew")
    with join_ranks(config.train.device) as ranks:
        shares = Shares(ranks.rank, ranks.world_size)
        assembly = assemble(config, folder, shares)
        load_strictly(assembly.task.model, weights, where=str(folder.weights_path))
        return _score(assembly, shares, ranks)


def evaluate_weights(config: RunConfig, name: str) -> dict[str, float]:
    """Score official weights, or a file of them, on the data of a recipe.

    Args:
        config: The task, with the data to score and the size of the pictures.
        name: The name of official weights, or a ``.pth`` or ``.safetensors`` file.

    Raises:
        CheckpointError: There are no such weights, or they are of another model.
    """
    with tempfile.TemporaryDirectory() as scratch, join_ranks(config.train.device) as ranks:
        folder, shares = RunFolder(Path(scratch)), Shares(ranks.rank, ranks.world_size)
        if not isinstance(config.task, WORDLESS) and not config.text_tokenizer:
            folder.text_path.write_bytes(initial_text(name).serialized)
        assembly = assemble(config, folder, shares)
        size = getattr(getattr(config.task, "model", None), "image_size", None)
        weights = read_weights(name, size)
        state = {key: tensor.float() for key, tensor in weights.state.items()}
        load_strictly(assembly.task.model, state, where=name)
        return _score(assembly, shares, ranks)


def _score(assembly: Assembly[Any], shares: Shares, ranks: Ranks) -> dict[str, float]:
    task = assembly.task.to(ranks.device)
    scores = evaluate(task, assembly.evaluation(shares), ranks.device)
    return scores | (assembly.finish() if assembly.finish is not None else {})
