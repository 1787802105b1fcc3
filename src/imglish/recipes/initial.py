"""The weights a run starts from: of another run, of the package, or official ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

from imglish.config.core import from_yaml
from imglish.errors import CheckpointError
from imglish.hub.download import fetch
from imglish.hub.huggingface import fetch_repository, repository_of
from imglish.hub.load import read_weights
from imglish.hub.manifest import find
from imglish.hub.manifest_beit3 import TEXT_TOKENIZER
from imglish.hub.run import read_task
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.weights import resize_positions
from imglish.recipes.initial_vit import find_timm, find_vit, load_timm, load_vit
from imglish.recipes.run_folder import RunFolder, find_run
from imglish.text.tokenizer import TextTokenizer

_HELD = "backbone.backbone."
_POSITIONS = "encoder.vision_embedding.positions.weight"
# Tasks that have the head of another one.
_SAME_HEAD = {"contrastive": "retrieval", "class_names": "retrieval"}


def load_initial(model: nn.Module, name: str, kind: str = "") -> list[str]:
    """Let a model start from weights; returns the names of the parameters that start anew.

    What holds our ViT does so by `load_vit`, what holds one of timm by `load_timm`, and what holds a BEiT-3
    by `load_encoder`; arguments and errors as of these.
    """
    if find_vit(model) is not None:
        return load_vit(model, name)
    return load_encoder(model, name, kind) if find_timm(model) is None else load_timm(model, name)


def load_encoder(model: nn.Module, name: str, kind: str = "") -> list[str]:
    """Take over every weight of the encoder, and of all else of the same name and shape.

    Position tables are resampled where the pictures have another size. From a segmenter's run its adapter,
    neck and heads come along, from a joint run its adapter and the head of the same task.

    Args:
        model: A BEiT-3 with any head.
        name: ``world`` or ``world_encoder`` (the encoder in the package, without its heads), the folder of a
            run, the name of official weights, a file of them, or the id of a repository of the Hugging Face
            Hub.
        kind: Of the task that the model is for; empty takes no head from a joint run.

    Returns:
        Names of the parameters that start anew, such as a new head.

    Raises:
        CheckpointError: There are no such weights, or the encoder has another architecture.
    """
    prefix, encoder = find_encoder(model)
    weights = {
        prefix + key.removeprefix("encoder.") if key.startswith("encoder.") else key: tensor
        for key, tensor in _read(name, encoder.config, kind).items()
    }
    own = model.state_dict()
    for key, tensor in encoder.state_dict().items():
        if key.startswith("norm."):  # the head of some tasks normalises in place of the encoder
            continue
        found = weights.get(prefix + key)
        if found is None or found.shape != tensor.shape:
            shape = "missing" if found is None else str(tuple(found.shape))
            raise CheckpointError(
                f"{name} belongs to another architecture: {key} is {shape}, the model expects "
                f"{tuple(tensor.shape)}; use the model settings that the weights were trained with"
            )
    fitting = {k: v.float() for k, v in weights.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def initial_text(name: str) -> TextTokenizer:
    """The text tokenizer that belongs to initial weights.

    Raises:
        CheckpointError: They come without one.
    """
    if find(name) is not None:
        return TextTokenizer(fetch(TEXT_TOKENIZER))
    if Path(name).is_file():
        raise CheckpointError(
            f"{name}: a file of weights comes without a text tokenizer; name one as text_tokenizer"
        )
    if (repository := repository_of(name)) is not None:
        return RunFolder(fetch_repository(repository).parent).text_tokenizer()
    return find_run(name, "encoder").text_tokenizer()


def find_encoder(model: nn.Module) -> tuple[str, Beit3Encoder]:
    """The Multiway Transformer inside a model, and the prefix of its names.

    Raises:
        CheckpointError: The model has none.
    """
    for name, module in model.named_modules():
        if isinstance(module, Beit3Encoder):
            return f"{name}.", module
    raise CheckpointError(f"a {type(model).__name__} has no BEiT-3 encoder that weights could be loaded into")


def _read(name: str, config: Beit3Config, kind: str) -> Mapping[str, Tensor]:
    """Weights under our names for pictures of the size of ``config``."""
    if find(name) is not None or Path(name).is_file() or repository_of(name) is not None:
        return read_weights(name, config.image_size).state
    folder = find_run(name, "encoder")
    # A segmenter holds the encoder two levels down.
    weights = {
        key.removeprefix(_HELD) if key.startswith(f"{_HELD}encoder.") else key: tensor
        for key, tensor in folder.weights().items()
    }
    task = read_task(folder.config_path)
    if isinstance(task.get("model"), Mapping) and _POSITIONS in weights:
        trained = from_yaml(Beit3Config, yaml.safe_dump(dict(task["model"])), str(folder.config_path))
        if trained.grid_size != config.grid_size:
            weights[_POSITIONS] = resize_positions(weights[_POSITIONS], trained.grid_size, config.grid_size)
    return weights if kind in ("", "joint") or task["kind"] != "joint" else _alone(weights, task, kind)


def _alone(weights: Mapping[str, Tensor], task: Mapping[str, Any], kind: str) -> dict[str, Tensor]:
    """Weights of a joint run under the names that they have in a model of one task: the heads of that one."""
    wanted = _SAME_HEAD.get(kind, kind)
    names = {"encoder.": "encoder.", "adapter.": "backbone."} | {
        f"parts.{part}.": ""
        for part, settings in task.items()
        if isinstance(settings, Mapping) and settings.get("kind") == wanted
    }
    return {
        ours + key.removeprefix(theirs): tensor
        for key, tensor in weights.items()
        for theirs, ours in names.items()
        if key.startswith(theirs)
    }
