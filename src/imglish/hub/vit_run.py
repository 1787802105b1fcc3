"""A finished run of a plain ViT: BEiT's pretraining, or fine-tuning to tell classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from imglish.errors import CheckpointError
from imglish.hub.convert import to_imglish
from imglish.hub.official_file import PictureRange
from imglish.hub.sizes import Hints
from imglish.hub.state_file import read_state
from imglish.hub.weights import Weights

VIT_RUNS = frozenset({"masked_image_modeling", "vit_classification"})  # kinds of tasks


def read_vit_run(folder: Path, task: Mapping[str, Any], image_size: tuple[int, int] | None = None) -> Weights:
    """The final weights of a run, checked.

    Args:
        folder: A run folder with its weights.
        task: The settings of its task, of a kind of `VIT_RUNS`.
        image_size: (height, width) to resample position tables for; None leaves them.

    Raises:
        CheckpointError: The weights are damaged or do not go with the settings, or the size does not divide
            into patches.
    """
    hints = vit_hints(task, folder / "config.yaml")
    tensors = read_state(folder / "model.safetensors").tensors
    return to_imglish(tensors, where=str(folder), hints=hints, image_size=image_size)


def vit_hints(task: Mapping[str, Any], where: Path) -> Hints:
    """What the settings of a run tell of its model that shapes do not.

    Args:
        task: The settings of its task, of a kind of `VIT_RUNS`.
        where: Their file, for messages.

    Raises:
        CheckpointError: A setting is missing or is none of its kind.
    """
    try:
        height, width = task["model"]["image_size"]
        hints = Hints(
            num_heads=int(task["model"]["num_heads"]),
            image_size=(int(height), int(width)),
            pooling="mean",
            early_layers=int(task.get("early_layers", 0)) or None,
            pictures=task["pictures"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: damaged task ({type(error).__name__}: {error}); expected the settings of its "
            "training: train the run anew"
        ) from error
    if hints.pictures not in get_args(PictureRange):
        raise CheckpointError(
            f"{where}: task.pictures is {hints.pictures!r}; expected one of "
            f"{', '.join(get_args(PictureRange))}"
        )
    return hints
