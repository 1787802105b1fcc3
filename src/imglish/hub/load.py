"""Loading weights for use: by name, from a file of any known layout, a run folder, or a Hub repository.

A loaded model comes with its text tokenizer and its labels, and without anything of training.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from timm.data.imagenet_info import ImageNetInfo

from imglish.errors import CheckpointError
from imglish.hub.coco_names import STUFF, THINGS
from imglish.hub.convert import to_imglish
from imglish.hub.detector_pictures import detector_settings
from imglish.hub.download import cached_path, fetch
from imglish.hub.huggingface import fetch_repository, repository_of
from imglish.hub.manifest import OFFICIAL_FILES, find
from imglish.hub.manifest_beit3 import TEXT_TOKENIZER
from imglish.hub.official_file import Config, OfficialFile
from imglish.hub.run import LoadedRun, load_run, read_labels, read_task
from imglish.hub.segmenter_pictures import CROP, file_of, segmenter_pictures
from imglish.hub.sizes import Hints, hints_of
from imglish.hub.state_file import StateFile, read_state
from imglish.hub.vit_run import VIT_RUNS, vit_hints
from imglish.hub.weights import Weights, backbone_of, fill, resize
from imglish.models.beit3.config import Beit3Config
from imglish.models.detectors.vit_detector import ViTDetectorConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.text.class_names import class_names
from imglish.text.tokenizer import TextTokenizer

EMBEDDED, EMBEDDED_ENCODER = "world", "world_encoder"

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
# How the codes of BEiT and BEiT v2 prepare a picture for scoring (datasets.py): below this side the middle of
# a larger picture is cut out, from it on the whole shorter side is kept.
_KEPT_WHOLE_FROM, _CROP_SHARE = 384, 224 / 256
_IMAGENET_1K = 1000
_COCO = {len(THINGS): THINGS, len(THINGS + STUFF): THINGS + STUFF}  # of the official detectors

_DETECTORS = ("detection", "panoptic")

# What training sets, or what a model's own head says; no matter of a file's identity.
_FREE_SETTINGS = {"output_norm", "drop_path", "layer_scale", "init", "decay", "revive_after", "dropout"}


def list_models() -> tuple[str, ...]:
    """Names that `load_model` knows: official weights, and what ships in the package.

    ``world`` has every head; ``world_encoder`` is what these were fine-tuned from.
    """
    official = (file.name for file in OFFICIAL_FILES if file.kind != "text_tokenizer")
    return (EMBEDDED, EMBEDDED_ENCODER, *official)


def load_model(
    name: str | Path,
    image_size: int | tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
    *,
    num_heads: int | None = None,
) -> LoadedRun:
    """Load weights by name, from a file, from a run folder, or from the Hugging Face Hub.

    An official name is downloaded once and then read from the cache. A file may have the official names, ours
    or timm's of BEiT-3's vision side; what it holds is seen in its names and shapes. Used from beside it are
    ``text.spm`` or ``beit3.spm``, ``answers.txt`` or the official ``answer2label.txt``, and ``classes.txt``.

    A repository of the Hub holds the same as a run folder, or a single ``.safetensors`` file; nothing is ever
    unpickled from there. A name of `list_models` is meant first, then a path, then the Hub.

    BEiTs that were only pretrained are loaded whole, as ``masked_image_modeling``, where the head over visual
    tokens is there (in the released files it is); the ViT alone is then ``model.vit``.

    Args:
        name: One of `list_models`, the path of a file (``.pth``, ``.pth.tar``, a ``.zip`` of one of them,
            ``.npz``, or ``.safetensors``) or of a run folder, or the id of a Hub repository, ``org/name`` or
            ``org/name@revision``.
        image_size: Side, or (height, width), of the pictures in pixels, where it shall differ from the
            file's; position tables are resampled.
        device: Where the model is put.
        num_heads: Attention heads, for a bare file of a width that no released model has.

    Raises:
        CheckpointError: There is no such model, or its files cannot be had, are damaged, or are of another
            model.
        DataFormatError: The text tokenizer is damaged.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if name in (EMBEDDED, EMBEDDED_ENCODER):
        return _embedded(str(name), device, size)
    file = find(str(name))
    if file is not None:
        return _load_official(file, size, device)
    path = _found(name)
    if path.is_dir():
        return load_run(path, device, size)
    if _is_of_run(path):
        return load_run(path.parent, device, size)
    weights = read_weights(path, size, num_heads=num_heads)
    text, labels = _text_beside(path, weights), _labels_beside(path, weights)
    return _ready(weights, device, text=text, labels=labels, asked=size)


def embedded_folder(part: str = "") -> Path:
    """What ships in the package: the folder of the World model, or that of one of its runs.

    Args:
        part: ``heads``, ``encoder`` or ``visual_tokenizer``.
    """
    return Path(str(resources.files("imglish.hub") / "world" / part))


def _embedded(name: str, device: torch.device | str, size: tuple[int, int] | None) -> LoadedRun:
    """The World model; its heads read with the encoder's text tokenizer, which lies there once."""
    if name == EMBEDDED_ENCODER:
        return load_run(embedded_folder("encoder"), device, size)
    run = load_run(embedded_folder("heads"), device, size)
    text = TextTokenizer(embedded_folder("encoder") / "text.spm")
    parts = {name: replace(part, text=text) for name, part in run.parts.items()}
    return replace(run, text=text, parts=parts)


def _found(name: str | Path) -> Path:
    """What a path, or the id of a Hub repository, means here: a file or a folder."""
    repository = repository_of(name)
    if repository is None and os.path.exists(name):  # of a path that is too long, too, this says no
        return Path(name)
    close = difflib.get_close_matches(str(name).removesuffix(".pth"), list_models(), n=1)
    nearest = f"; did you mean {close[0]!r}?" if close else ""
    if repository is None:
        advice = nearest or "; imglish.list_models() names the models"
        raise CheckpointError(f"{name}: neither a model's name nor a file or run folder{advice}")
    try:
        return fetch_repository(repository)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{nearest}") from error.__cause__


def _is_of_run(path: Path) -> bool:
    """Whether a file is what a run folder calls its weights, with the run's settings beside it."""
    return path.name == "model.safetensors" and (path.parent / "config.yaml").is_file()


def read_weights(
    source: str | Path,
    image_size: tuple[int, int] | None = None,
    *,
    num_heads: int | None = None,
    backbone: bool = False,
) -> Weights:
    """The weights of an official name (downloaded where needed) or of a file, checked and under our names.

    Args:
        source: A name of the manifest, a path, or the id of a Hub repository.
        image_size: (height, width) to resample position tables for; None leaves them.
        num_heads: Attention heads, where neither the file nor its width tells.
        backbone: True leaves out heads: a BEiT-3's encoder alone, or a BEiT's ViT.

    Raises:
        CheckpointError: As of `load_model`, or what shall be a backbone is a visual tokenizer.
    """
    file = find(str(source))
    if source in (EMBEDDED, EMBEDDED_ENCODER):
        raise CheckpointError(
            f"{source}: ships in the package as a run, not as a file; imglish convert {source} FOLDER --to "
            "pretrained writes its folder"
        )
    weights = _read_file(source, image_size, num_heads) if file is None else _read_official(file, image_size)
    return backbone_of(weights) if backbone else weights


def read_raw(source: str | Path) -> StateFile:
    """What a file holds under its own names; source and errors as of `read_weights`."""
    file = find(str(source))
    return read_state(_found(source) if file is None else fetch(file))


def _read_file(source: str | Path, image_size: tuple[int, int] | None, num_heads: int | None) -> Weights:
    """The weights of a file here or on the Hub."""
    path = _found(source)
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; the weights of a run are {path / 'model.safetensors'}")
    if _is_of_run(path) and read_task(path.parent / "config.yaml")["kind"] == "joint":
        raise CheckpointError(
            f"{path}: weights of several heads on one encoder; imglish convert {path.parent} FOLDER --to "
            "pretrained --part NAME writes one of them by itself"
        )
    if num_heads is not None and num_heads < 1:
        raise CheckpointError(f"{source}: num_heads must be at least 1; got {num_heads}")
    read = read_state(path)
    hints = _completed(read.hints, path)
    hints = hints if num_heads is None else hints._replace(num_heads=num_heads)
    return to_imglish(read.tensors, where=str(path), hints=hints, image_size=image_size)


def _completed(hints: Hints, path: Path) -> Hints:
    """Hints of a file, and what its run or its name tells besides."""
    named = file_of(path)
    if hints.pictures is None and named is not None:  # an official file that somebody has downloaded by hand
        hints = hints._replace(pictures=named.pictures)
    if hints.official is None and named is not None and named.kind in _DETECTORS:
        hints = hints._replace(official=named.name)
    if hints.num_heads is None and _is_of_run(path):
        task = read_task(path.parent / "config.yaml")
        if task["kind"] in VIT_RUNS:
            return vit_hints(task, path.parent / "config.yaml")
        model = task.get("model") or {}
        size = model.get("image_size")
        hints = hints._replace(num_heads=model.get("num_heads"), image_size=size and tuple(size))
    return hints


def _read_official(file: OfficialFile, image_size: tuple[int, int] | None) -> Weights:
    """The weights of a file of the manifest."""
    if file.kind == "text_tokenizer":
        raise CheckpointError(
            f"{file.name}: a text tokenizer, no model; read it with imglish.text.tokenizer.TextTokenizer"
        )
    path, hints = fetch(file), Hints() if file.config is None else hints_of(file.config)
    hints = hints._replace(pictures=file.pictures, official=file.name if file.kind in _DETECTORS else None)
    read = read_state(path)
    weights = to_imglish(read.tensors, where=str(path), hints=hints._replace(labels=read.hints.labels))
    if file.kind == "backbone" and isinstance(weights.config, ViTConfig):  # listed without its head
        weights = backbone_of(weights)
    if file.config is not None:
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
    return dict(_flat(asdict(config)))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names, but for the free ones."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif key not in _FREE_SETTINGS:
            yield f"{prefix}{key}", value


def _load_official(file: OfficialFile, size: tuple[int, int] | None, device: torch.device | str) -> LoadedRun:
    weights = read_weights(file.name, size)
    text = _open_text(fetch(TEXT_TOKENIZER), weights) if _reads_text(weights) else None
    labels = _labels_beside(Path(weights.where), weights, alone=False)
    return _ready(weights, device, text=text, labels=labels, asked=size)


def _ready(
    weights: Weights,
    device: torch.device | str,
    *,
    text: TextTokenizer | None,
    labels: tuple[str, ...],
    asked: tuple[int, int] | None,
) -> LoadedRun:
    """The model of some weights, with what belongs to it."""
    config = weights.config
    settings: dict[str, Any] = {}
    if isinstance(config, ViTConfig) and weights.pictures is not None:
        settings["pictures"] = weights.pictures
        if weights.kind == "image_classification":
            settings["crop_share"] = 1.0 if config.image_size[0] >= _KEPT_WHOLE_FROM else _CROP_SHARE
    if weights.kind in _DETECTORS:
        settings = detector_settings(weights, labels)
    elif isinstance(config, ViTSegmenterConfig):
        settings = {"pictures": segmenter_pictures(weights, config, asked)}
    if isinstance(config, Beit3Config):
        settings = dict(_SETTINGS.get(weights.kind, {}))
        if "max_text_tokens" in settings:
            settings["max_text_tokens"] = min(settings["max_text_tokens"], config.max_text_tokens)
    return LoadedRun(
        kind=weights.kind,
        model=fill(weights, device),
        config=_encoder_config(config, asked),
        text=text,
        labels=labels,
        settings=settings,
    )


def _encoder_config(config: Config, asked: tuple[int, int] | None) -> Beit3Config | ViTConfig:
    """The sizes of what reads the pictures, with the size that they shall have."""
    match config:
        case VqkdConfig(encoder=encoder):
            return encoder
        case ViTDetectorConfig(vit=vit):
            return vit
        case ViTSegmenterConfig(family="beit", vit=vit):  # its tables are those of the crop
            return vit
        case ViTSegmenterConfig(vit=vit):
            return replace(vit, image_size=asked or (CROP, CROP))
        case _:
            return config


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

    Released classifiers of 1000 classes tell those of ImageNet-1k, in the order of their synsets.

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
    readers = {
        "vqa": ("answers.txt", "answer2label.txt"),
        "image_classification": ("classes.txt",),
        "semantic_segmentation": ("classes.txt",),
        "detection": ("classes.txt",),
        "panoptic": ("classes.txt",),
    }
    for name in readers.get(weights.kind, ()):
        if (path.parent / name).is_file():
            labels = read_labels(path.parent / name)
            if len(labels) != num_labels and not alone:
                continue
            if len(labels) != num_labels:
                raise CheckpointError(
                    f"{path.parent / name}: names {len(labels)} labels, {weights.where} tells {num_labels}; "
                    "put the list of that model there, or none"
                )
            return labels
    if weights.kind not in readers:
        return ()
    if weights.labels is not None:
        return weights.labels
    if weights.official is not None and num_labels in _COCO:
        return _COCO[num_labels]
    if weights.kind == "image_classification" and num_labels == _IMAGENET_1K and find(path.stem) is not None:
        return class_names(ImageNetInfo("imagenet-1k").label_names())
    return tuple(f"#{number}" for number in range(num_labels))
