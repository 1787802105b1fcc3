"""Loading weights for use: by name, from a file of any known layout, or from a run folder.

A loaded model comes with its text tokenizer and its labels, and without anything of training.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from imglish.errors import CheckpointError
from imglish.hub.convert import to_imglish
from imglish.hub.download import cached_path, fetch
from imglish.hub.manifest import OFFICIAL_FILES, find
from imglish.hub.manifest_beit3 import TEXT_TOKENIZER
from imglish.hub.official_file import Config, OfficialFile
from imglish.hub.sizes import hints_of
from imglish.hub.state_file import read_state
from imglish.hub.weights import Weights, fill, resize
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.models.beit3.weights import resize_positions
from imglish.models.segmenters.semantic import beit3_segmenter
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.weight_map import check_state
from imglish.text.tokenizer import TextTokenizer

EMBEDDED = "world"

# How the released models are used (parity FACTS, sections 5, 7 and 8); a run folder says it itself.
_TEXT_TOKENS = {"max_text_tokens": 64}
_SETTINGS: dict[str, dict[str, Any]] = {
    "masked_data_modeling": _TEXT_TOKENS,
    "retrieval": _TEXT_TOKENS,
    "vqa": _TEXT_TOKENS,
    "nlvr2": _TEXT_TOKENS,
    "captioning": {"max_text_tokens": 32, "num_beams": 3, "length_penalty": 0.6},
    "image_classification": {"pictures": "imagenet"},  # ImageNet's mean and deviation, not [-1, 1]
}
_POSITIONS = "encoder.vision_embedding.positions.weight"

# What training sets, or what a model's own head says; no matter of a file's identity.
_FREE_SETTINGS = {"output_norm", "drop_path", "layer_scale", "init", "decay", "revive_after"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedRun:
    """A model ready to use.

    Args:
        kind: What it does: masked_data_modeling, vqa, nlvr2, image_classification, class_names, retrieval,
            captioning, semantic_segmentation, backbone or visual_tokenizer.
        model: In evaluation mode.
        config: Settings of its BEiT-3, or of its ViT (a visual tokenizer's encoder).
        text: Text tokenizer, where the task reads text and one was found.
        labels: Answers of a vqa model, classes of a segmenter or classifier; ``#0`` and on where nobody says.
        settings: The task's other settings by name.
    """

    kind: str
    model: nn.Module
    config: Beit3Config | ViTConfig
    text: TextTokenizer | None
    labels: tuple[str, ...]
    settings: Mapping[str, Any]


def list_models() -> tuple[str, ...]:
    """Names that `load_model` knows: official weights, and ``world``, which ships in the package."""
    return (EMBEDDED, *(file.name for file in OFFICIAL_FILES if file.kind != "text_tokenizer"))


def load_model(
    name: str | Path,
    image_size: int | tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
    *,
    num_heads: int | None = None,
) -> LoadedRun:
    """Load weights by name, from a file, or from a run folder.

    An official name is downloaded once and then read from the cache. A file may have the official names, ours
    or timm's of BEiT-3's vision side; what it holds is seen in its names and shapes. Used from beside it are
    ``text.spm`` or ``beit3.spm``, ``answers.txt`` or the official ``answer2label.txt``, and ``classes.txt``.

    Args:
        name: One of `list_models`, or the path of a ``.pth`` or ``.safetensors`` file or of a run folder.
        image_size: Side, or (height, width), of the pictures in pixels, where it shall differ from the
            file's; position tables are resampled.
        device: Where the model is put.
        num_heads: Attention heads, for a bare file of a width that no released model has.

    Raises:
        CheckpointError: There is no such model, or its files cannot be had, are damaged, or are of another
            model.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if name == EMBEDDED:
        return load_run(Path(str(resources.files("imglish.hub") / "world" / "encoder")), device, size)
    file, path = find(str(name)), Path(name)
    if file is not None:
        return _load_official(file, size, device)
    if path.is_dir():
        return load_run(path, device, size)
    if not path.is_file():
        raise CheckpointError(f"{name}: neither a model's name nor a file or run folder{_advice(str(name))}")
    if path.name == "model.safetensors" and (path.parent / "config.yaml").is_file():
        return load_run(path.parent, device, size)
    weights = read_weights(path, size, num_heads=num_heads)
    return _ready(weights, device, text=_text_beside(path, weights), labels=_labels_beside(path, weights))


def _advice(name: str) -> str:
    close = difflib.get_close_matches(name.removesuffix(".pth"), list_models(), n=1)
    return f"; did you mean {close[0]!r}?" if close else "; imglish.list_models() names the models"


def read_weights(
    source: str | Path, image_size: tuple[int, int] | None = None, *, num_heads: int | None = None
) -> Weights:
    """The weights of an official name (downloaded where needed) or of a file, checked and under our names.

    Args:
        source: A name of the manifest, or a path.
        image_size: (height, width) to resample position tables for; None leaves them.
        num_heads: Attention heads, where neither the file nor its width tells.

    Raises:
        CheckpointError: As of `load_model`.
    """
    file = find(str(source))
    if file is None:
        path = Path(source)
        if not path.exists():
            raise CheckpointError(f"{source}: neither a model's name nor a file{_advice(str(source))}")
        if num_heads is not None and num_heads < 1:
            raise CheckpointError(f"{source}: num_heads must be at least 1; got {num_heads}")
        read = read_state(path)
        hints = read.hints if num_heads is None else read.hints._replace(num_heads=num_heads)
        return to_imglish(read.tensors, where=str(path), hints=hints, image_size=image_size)
    if file.config is None:
        raise CheckpointError(
            f"{file.name}: a text tokenizer, no model; read it with imglish.text.tokenizer.TextTokenizer"
        )
    path = fetch(file)
    weights = to_imglish(read_state(path).tensors, where=str(path), hints=hints_of(file.config))
    _check_identity(file, file.config, weights)
    return weights if image_size is None else resize(weights, image_size)


def _check_identity(file: OfficialFile, config: Config, weights: Weights) -> None:
    """Refuse a file that holds another model than its name says."""
    expected, found = _plain(config) | {"kind": file.kind}, _plain(weights.config) | {"kind": weights.kind}
    if file.num_labels is not None:
        expected["labels"], found["labels"] = file.num_labels, weights.num_labels
    wrong = [
        f"{key} {found.get(key)} instead of {expected[key]}"
        for key in expected
        if found.get(key) != expected[key]
    ]
    if wrong:
        raise CheckpointError(
            f"{weights.where}: not {file.name}: {', '.join(wrong[:3])}; delete it to download it again"
        )


def _plain(config: Config) -> dict[str, Any]:
    return {key: value for key, value in _flat(asdict(config)) if key not in _FREE_SETTINGS}


def _flat(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    inner = settings.get("encoder", {})
    return [*((key, value) for key, value in settings.items() if key != "encoder"), *inner.items()]


def _load_official(file: OfficialFile, size: tuple[int, int] | None, device: torch.device | str) -> LoadedRun:
    weights = read_weights(file.name, size)
    text = _open_text(fetch(TEXT_TOKENIZER), weights) if _reads_text(weights) else None
    return _ready(
        weights, device, text=text, labels=_labels_beside(Path(weights.where), weights, alone=False)
    )


def _ready(
    weights: Weights, device: torch.device | str, *, text: TextTokenizer | None, labels: tuple[str, ...]
) -> LoadedRun:
    """The model of some weights, with what belongs to it."""
    config = weights.config
    settings: dict[str, Any] = {}
    if isinstance(config, Beit3Config):
        settings = dict(_SETTINGS.get(weights.kind, {}))
        if "max_text_tokens" in settings:
            settings["max_text_tokens"] = min(settings["max_text_tokens"], config.max_text_tokens)
    return LoadedRun(
        kind=weights.kind,
        model=fill(weights, device),
        config=config.encoder if isinstance(config, VqkdConfig) else config,
        text=text,
        labels=labels,
        settings=settings,
    )


def _reads_text(weights: Weights) -> bool:
    return isinstance(weights.config, Beit3Config) and not (
        weights.vision_only or weights.kind == "image_classification"
    )


def _text_beside(path: Path, weights: Weights) -> TextTokenizer | None:
    """The text tokenizer beside a file, or the official one of the cache where the vocabulary is official."""
    if not _reads_text(weights):
        return None
    for found in (path.parent / "text.spm", path.parent / TEXT_TOKENIZER.name):
        if found.is_file():
            return _open_text(found, weights)
    cached, config = cached_path(TEXT_TOKENIZER), weights.config
    is_official = isinstance(config, Beit3Config) and config.vocab_size == Beit3Config().vocab_size
    return _open_text(fetch(TEXT_TOKENIZER), weights) if is_official and cached.is_file() else None


def _open_text(path: Path, weights: Weights) -> TextTokenizer:
    text = TextTokenizer(path)
    assert isinstance(weights.config, Beit3Config)
    if text.vocab_size > weights.config.vocab_size:
        raise CheckpointError(
            f"{path}: has {text.vocab_size} ids, {weights.where} embeds {weights.config.vocab_size}; "
            "put the model's own text tokenizer beside it"
        )
    return text


def _labels_beside(path: Path, weights: Weights, *, alone: bool = True) -> tuple[str, ...]:
    """Names of answers or classes from a file beside the weights, else their numbers.

    Args:
        path: The weights.
        weights: As read from there.
        alone: False where weights of several models share the folder: a list of another length is not theirs.

    Raises:
        CheckpointError: The list is damaged, or of another length and no other model's.
    """
    num_labels = weights.num_labels
    if weights.kind == "nlvr2":
        return ("false", "true")
    readers = {"vqa": ("answers.txt", "answer2label.txt"), "image_classification": ("classes.txt",)}
    for name in readers.get(weights.kind, ()):
        if (path.parent / name).is_file():
            labels = _read_labels(path.parent / name)
            if len(labels) != num_labels and not alone:
                continue
            if len(labels) != num_labels:
                raise CheckpointError(
                    f"{path.parent / name}: names {len(labels)} labels, {weights.where} tells {num_labels}; "
                    "put the list of that model there, or none"
                )
            return labels
    return tuple(f"#{number}" for number in range(num_labels)) if weights.kind in readers else ()


def _read_labels(path: Path) -> tuple[str, ...]:
    """Answers (one JSON object a line) or classes (one a line) in the order of their numbers."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.name == "classes.txt":
            return tuple(lines)
        return tuple(str(json.loads(line)["answer"]) for line in lines)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file; expected the labels of the model; train it anew"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: damaged list of labels ({type(error).__name__}); expected one answer a line as JSON"
        ) from error


def load_run(
    folder: Path, device: torch.device | str = "cpu", image_size: tuple[int, int] | None = None
) -> LoadedRun:
    """Load the final weights of a run.

    Args:
        folder: A run folder.
        device: Where the model is put.
        image_size: (height, width) of the pictures, where it shall differ from training's.

    Raises:
        CheckpointError: The folder is no finished run, a file is damaged, the task is not one to use, or its
            positions cannot be resampled.
    """
    path = folder / "config.yaml"
    if not path.is_file() or not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{folder} holds no finished run (config.yaml, model.safetensors); train it first"
        )
    task = _read_task(path)
    kind, config = str(task["kind"]), _model_config(task.pop("model", {}), path)
    labels = _run_labels(folder, kind)
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} is damaged ({error}); train the run anew"
        ) from error
    weights = {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}
    if image_size is not None:
        config = _resize_run(weights, config, image_size, folder)
    if kind == "masked_data_modeling":
        model: nn.Module = Beit3ForMaskedDataModeling(config, codebook_size=len(weights["image_head.bias"]))
    else:
        model = _build(kind, config, task, len(labels), folder)
    check_state(weights, model.state_dict(), where=str(folder))
    model.load_state_dict(weights)
    text = folder / "text.spm"
    return LoadedRun(
        kind=kind,
        model=model.to(device).eval(),
        config=config,
        text=TextTokenizer(text) if text.is_file() else None,
        labels=labels,
        settings=task,
    )


def _read_task(path: Path) -> dict[str, Any]:
    """Settings of a run's task."""
    try:
        task = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["task"])
        return {"kind": task.pop("kind"), **task}
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{path}: damaged ({type(error).__name__}); expected the settings of a run and its task; "
            "train the run anew"
        ) from error


def _resize_run(
    weights: dict[str, Tensor], config: Beit3Config, image_size: tuple[int, int], folder: Path
) -> Beit3Config:
    """Resample the position table in ``weights``; returns the new config."""
    if _POSITIONS not in weights:
        raise CheckpointError(f"{folder}: this model takes pictures of one size; leave image_size out")
    if min(image_size) < 1:
        raise CheckpointError(f"{folder}: image_size {image_size}; expected (height, width) in pixels")
    try:
        bigger = replace(config, image_size=image_size)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}; give another image_size") from error
    weights[_POSITIONS] = resize_positions(weights[_POSITIONS], config.grid_size, bigger.grid_size)
    return bigger


def _build(
    kind: str, config: Beit3Config, task: Mapping[str, Any], num_labels: int, folder: Path
) -> nn.Module:
    if kind == "vqa":
        return Beit3ForVqa(replace(config, output_norm=False), num_answers=num_labels)
    if kind == "nlvr2":
        return Beit3ForNlvr2(config)
    if kind == "image_classification":
        return Beit3ForImageClassification(replace(config, output_norm=False), num_classes=num_labels)
    if kind in ("retrieval", "contrastive", "class_names"):
        return Beit3ForRetrieval(config)
    if kind == "captioning":
        return Beit3ForCaptioning(config)
    if kind == "semantic_segmentation":
        adapter = ViTAdapterConfig(
            num_interactions=task["num_interactions"],
            stem_width=task["stem_width"],
            num_heads=task["num_heads"],
            value_ratio=task["value_ratio"],
        )
        return beit3_segmenter(
            config,
            adapter,
            num_classes=num_labels,
            neck_width=task["neck_width"],
            head_width=task["head_width"],
        )
    raise CheckpointError(
        f"{folder} is a run of {kind}, which answers nothing by itself; "
        "give one of vqa, nlvr2, image_classification, class_names, retrieval, captioning or "
        "semantic_segmentation"
    )


def _model_config(settings: Mapping[str, Any], path: Path) -> Beit3Config:
    known = {field.name for field in fields(Beit3Config)}
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise CheckpointError(f"{path}: task.model has unknown settings {', '.join(unknown)}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return Beit3Config(**values)


def _run_labels(folder: Path, kind: str) -> tuple[str, ...]:
    if kind == "vqa":
        return _read_labels(folder / "answers.txt")
    if kind in ("semantic_segmentation", "image_classification", "class_names"):
        return _read_labels(folder / "classes.txt")
    return ("false", "true") if kind == "nlvr2" else ()
