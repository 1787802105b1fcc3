"""The weights a run starts from: of another run, of the package, or official ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from imglish.errors import CheckpointError
from imglish.hub.download import fetch
from imglish.hub.huggingface import fetch_repository, repository_of
from imglish.hub.load import read_weights
from imglish.hub.manifest import find
from imglish.hub.manifest_beit3 import TEXT_TOKENIZER
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.weights import resize_positions
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT, ViTForClassification
from imglish.models.vit.weights import share_out_table
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.run_folder import EMBEDDED, RunFolder, find_run
from imglish.text.tokenizer import TextTokenizer

_POSITIONS = "encoder.vision_embedding.positions.weight"


def load_initial(model: nn.Module, name: str) -> list[str]:
    """Let a model start from weights, by `load_vit` or `load_encoder`; arguments and errors as of these."""
    return load_encoder(model, name) if find_vit(model) is None else load_vit(model, name)


def load_vit(model: nn.Module, name: str) -> list[str]:
    """Take over a plain ViT, and heads of the same name and shape.

    Position tables are resampled where the pictures have another size. Where the weights have one table of
    relative positions for all blocks and the model one for each, as BEiT's pretraining and its fine-tuning,
    each block starts from a copy. A classifier that normalises the mean of the patches does so anew after
    pretraining, which had no such mean (parity FACTS, section 10).

    Args:
        model: A model that holds a `ViT`.
        name: The folder of a run, official weights by name, a file of them, or the id of a repository of the
            Hugging Face Hub.

    Returns:
        Names of the parameters that start anew, such as a new head.

    Raises:
        CheckpointError: There are no such weights, or they are of another architecture.
    """
    found = find_vit(model)
    if found is None:
        raise CheckpointError(f"a {type(model).__name__} has no plain ViT that weights could be loaded into")
    prefix, vit = found
    weights = read_weights(_weights_path(name), vit.config.image_size)
    if not isinstance(weights.config, ViTConfig):
        raise CheckpointError(f"{name}: no plain ViT, but {weights.kind} of another model; name a BEiT")
    inside = "" if weights.kind == "backbone" else "vit."
    given = {k.removeprefix(inside): v for k, v in weights.state.items() if k.startswith(inside)}
    if weights.config.relative_positions == "shared" and vit.config.relative_positions == "per_block":
        given = share_out_table(given, weights.config.depth)
    _check_vit(given, vit, name)
    if weights.kind != "image_classification" and _normalises_the_mean(model):
        given = {key: tensor for key, tensor in given.items() if not key.startswith("norm.")}
    state = {prefix + key: tensor for key, tensor in given.items()}
    if inside:
        state |= {key: tensor for key, tensor in weights.state.items() if not key.startswith(inside)}
    own = model.state_dict()
    fitting = {k: v.float() for k, v in state.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def find_vit(model: nn.Module) -> tuple[str, ViT] | None:
    """The plain ViT inside a model with the prefix of its names; None where there is none.

    A visual tokenizer has two of them and is no model of either.
    """
    if isinstance(model, Vqkd):
        return None
    for name, module in model.named_modules():
        if isinstance(module, ViT):
            return (f"{name}." if name else ""), module
    return None


def load_encoder(model: nn.Module, name: str) -> list[str]:
    """Take over every weight of the encoder, and of heads of the same name and shape.

    Position tables are resampled where the pictures have another size.

    Args:
        model: A BEiT-3 with any head.
        name: ``world``, the folder of a run, the name of official weights, a file of them, or the id of a
            repository of the Hugging Face Hub.

    Returns:
        Names of the parameters that start anew, such as a new head.

    Raises:
        CheckpointError: There are no such weights, or the encoder has another architecture.
    """
    prefix, encoder = find_encoder(model)
    weights = {
        prefix + key.removeprefix("encoder.") if key.startswith("encoder.") else key: tensor
        for key, tensor in _read(name, encoder.config).items()
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


def _weights_path(name: str) -> str | Path:
    """The file of weights in the folder of a finished run; anything else is returned as it is."""
    if name == EMBEDDED:
        raise CheckpointError(f"{name}: no plain ViT, but a BEiT-3; name a BEiT")
    folder = RunFolder(Path(name))
    if find(name) is not None or not folder.path.is_dir():
        return name
    if not folder.weights_path.is_file():
        raise CheckpointError(f"{name}: no finished run, it has no model.safetensors; train it to its end")
    return folder.weights_path


def _check_vit(given: Mapping[str, Tensor], vit: ViT, name: str) -> None:
    """Refuse weights that are not exactly those of the ViT."""
    expected = vit.state_dict()
    for key in sorted(expected.keys() | given.keys()):
        shapes = [tuple(state[key].shape) if key in state else "missing" for state in (given, expected)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{name} belongs to another architecture: {key} is {shapes[0]}, in the model {shapes[1]}; "
                "use the model settings that the weights were trained with"
            )


def _normalises_the_mean(model: nn.Module) -> bool:
    return isinstance(model, ViTForClassification) and model.pooling == "mean"


def _read(name: str, config: Beit3Config) -> Mapping[str, Tensor]:
    """Weights under our names for pictures of the size of ``config``."""
    if find(name) is not None or Path(name).is_file() or repository_of(name) is not None:
        return read_weights(name, config.image_size).state
    folder = find_run(name, "encoder")
    weights, trained = folder.weights(), getattr(folder.config().task, "model", None)
    if isinstance(trained, Beit3Config) and trained.grid_size != config.grid_size and _POSITIONS in weights:
        weights[_POSITIONS] = resize_positions(weights[_POSITIONS], trained.grid_size, config.grid_size)
    return weights
