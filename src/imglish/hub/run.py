"""A finished run, read for use: the model of its final weights with its text tokenizer and its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from imglish.errors import CheckpointError, ConfigError
from imglish.hub.detector_run import build_detector, read_detector
from imglish.hub.packed_weights import unpack_weights
from imglish.hub.segmenter_run import adapter_config, read_segmenter
from imglish.hub.vit_run import VIT_RUNS, read_vit_run
from imglish.hub.weights import fill
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.models.beit3.weights import resize_positions
from imglish.models.joint import JointModel, whole
from imglish.models.segmenters.config import segmenter_config
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit.config import ViTConfig
from imglish.models.weight_map import check_state
from imglish.text.tokenizer import TextTokenizer

_POSITIONS = "encoder.vision_embedding.positions.weight"
_BLOCK = re.compile(r"(?:.*\.)?encoder\.blocks\.(\d+)\.")

# What can be used, and what use needs of the task's settings besides the model's.
_TEXT = ("max_text_tokens",)
_NEEDED: dict[str, tuple[str, ...]] = {
    "vqa": _TEXT,
    "nlvr2": _TEXT,
    "image_classification": (),
    "class_names": _TEXT,
    "contrastive": _TEXT,
    "retrieval": _TEXT,
    "captioning": (*_TEXT, "num_beams", "length_penalty"),
    "semantic_segmentation": (),
    "detection": (),
    "panoptic": (),
    "masked_data_modeling": (),
}  # fmt: skip
_OWN_NORM = ("vqa", "image_classification")  # their heads normalise in place of the encoder
_ON_MAPS = ("semantic_segmentation", "detection", "panoptic")  # they read tokens as they are
# The tensor that is as long as there are labels, and the file that names them.
_HEADS = {
    "masked_data_modeling": ("image_head.bias", ""),
    "vqa": ("head.output.bias", "answers.txt"),
    "image_classification": ("head.bias", "classes.txt"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedRun:
    """A model ready to use.

    Args:
        kind: What it does: masked_data_modeling, vqa, nlvr2, image_classification, class_names, retrieval,
            captioning, semantic_segmentation, detection, panoptic, masked_image_modeling, backbone,
            visual_tokenizer or joint.
        model: In evaluation mode.
        config: Settings of its BEiT-3, or of its ViT (a visual tokenizer's encoder).
        text: Text tokenizer, where the task reads text and one was found.
        labels: Answers of a vqa model, classes of a segmenter, detector or classifier; ``#0`` and on where
            nobody says.
        settings: The task's other settings by name. ``pictures`` says which range a classifier or a BEiT
            takes: ``imagenet`` (ImageNet's mean and deviation) or ``model`` ([-1, 1]); ``crop_share`` how
            much of the shorter side a classifier sees, the rest being cut off around the middle. A
            segmenter's or detector's ``pictures`` are all settings of how they are shown, as in its run.
            ``selection`` says which boxes of ATSS and GFL are kept, ``things`` which classes of a panoptic
            model are things, a bool for each.
        parts: Of a joint run, by the names of its tasks; ``model`` is then a `JointModel`.
        is_part: True of such a part: it shares the encoder, and what that has seen of a picture, with others.
    """

    kind: str
    model: nn.Module
    config: Beit3Config | ViTConfig
    text: TextTokenizer | None
    labels: tuple[str, ...]
    settings: Mapping[str, Any]
    parts: Mapping[str, LoadedRun] = field(default_factory=dict)
    is_part: bool = False


def part_alone(part: LoadedRun) -> LoadedRun:
    """A part of a joint run as the run of one task that it would be by itself, with an encoder of its own.

    What it says stays the same. In a joint run answers and classes are read after the encoder's output norm,
    where a run of one of them has none: the setting ``encoder_norm`` then says so.

    Args:
        part: One of ``LoadedRun.parts``; it stays as it is.
    """
    settings = dict(part.settings)
    if part.kind in _OWN_NORM and isinstance(part.config, Beit3Config) and part.config.output_norm:
        settings["encoder_norm"] = True
    model = whole(part.model)
    if part.kind in _ON_MAPS:
        for module in model.modules():
            if isinstance(module, Beit3Encoder):
                module.norm, module.config = None, replace(module.config, output_norm=False)
    return replace(part, model=model, settings=settings, is_part=False)


def head_config(config: Beit3Config, settings: Mapping[str, Any]) -> Beit3Config:
    """Sizes of the encoder below a head that normalises: without output norm unless ``encoder_norm`` is set.

    Args:
        config: Of the model.
        settings: Of its task.
    """
    return replace(config, output_norm=config.output_norm and bool(settings.get("encoder_norm")))


def read_labels(path: Path) -> tuple[str, ...]:
    """Answers (one JSON object a line) or classes (one a line) in the order of their numbers."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.name in ("classes.txt", "things.txt"):
            return tuple(lines)
        return tuple(str(json.loads(line)["answer"]) for line in lines)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file; expected the labels of the model; train it anew"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        form = "class a line" if path.name in ("classes.txt", "things.txt") else "answer a line as JSON"
        raise CheckpointError(
            f"{path}: damaged list of labels ({type(error).__name__}); expected one {form}"
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
        CheckpointError: The folder is no finished run, a file is damaged or of another model, the task is not
            one to use, or its positions cannot be resampled.
        DataFormatError: The text tokenizer is damaged.
    """
    path = folder / "config.yaml"
    if not path.is_file() or not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{folder} holds no finished run (config.yaml, model.safetensors); train it first"
        )
    task = read_task(path)
    if task["kind"] in VIT_RUNS:
        return _load_vit_run(folder, task, device, image_size)
    if task["kind"] == "joint":
        return _joint_run(folder, task, device, image_size)
    kind = _check_task(task, path)
    labels = _run_labels(folder, kind)
    weights = _read_weights(folder / "model.safetensors")
    if kind in ("detection", "panoptic"):
        return _detector_run(folder, kind, task, weights, labels, device, image_size)
    if kind == "semantic_segmentation" and isinstance(task["model"], Mapping) and "kind" in task["model"]:
        model, vit = read_segmenter(task, weights, len(labels), path, image_size)
        del task["model"]
        return LoadedRun(
            kind=kind, model=model.to(device).eval(), config=vit, text=None, labels=labels, settings=task
        )
    config = _model_config(task.pop("model"), weights, path)
    if image_size is not None:
        config = _resize_run(weights, config, image_size, folder)
    num_labels = _num_labels(kind, labels, weights, folder)
    try:
        with torch.device("meta"):  # names and shapes are compared before anything is allocated
            expected = _build(kind, config, task, num_labels).state_dict()
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise _no_model(path, error) from error
    check_state(weights, expected, where=str(folder))
    built = _build(kind, config, task, num_labels)
    built.load_state_dict(weights)
    if "max_text_tokens" in task:  # training cuts to what it is told, and fails where the model has no place
        task["max_text_tokens"] = min(int(task["max_text_tokens"]), config.max_text_tokens)
    return LoadedRun(
        kind=kind,
        model=built.to(device).eval(),
        config=config,
        text=_open_text(folder / "text.spm", config),
        labels=labels,
        settings=task,
    )


def _joint_run(
    folder: Path, task: Mapping[str, Any], device: torch.device | str, image_size: tuple[int, int] | None
) -> LoadedRun:
    """Load a run of several tasks on one encoder; errors as of `load_run`."""
    path = folder / "config.yaml"
    if image_size is not None:
        raise CheckpointError(f"{folder}: a joint run has pictures of one size; leave image_size out")
    weights = _read_weights(folder / "model.safetensors")
    config = _model_config(task.get("model"), weights, path)
    told: dict[str, dict[str, Any]] = {
        name: dict(part) for name, part in task.items() if name != "model" and isinstance(part, Mapping)
    }
    told.pop("turns", None)
    kinds = {name: _check_task(part, path) for name, part in told.items()}
    labels = {name: _run_labels(folder / name, kinds[name]) for name in told}
    for part in told.values():
        del part["model"]

    def build() -> JointModel:
        parts: dict[str, nn.Module] = {}
        for name, part in told.items():
            if kinds[name] == "detection":
                parts[name] = build_detector(config, part, len(labels[name]))
            else:
                parts[name] = _build(kinds[name], config, part, max(1, len(labels[name])))
        return JointModel(Beit3Encoder(config), parts)

    try:
        with torch.device("meta"):  # names and shapes are compared before anything is allocated
            model = build()
    except (ConfigError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise _no_model(path, error) from error
    check_state(weights, model.state_dict(), where=str(folder))
    model.load_state_dict(weights, assign=True)  # every part would draw an encoder that is thrown away
    model.to(device).eval()
    text = _open_text(folder / "text.spm", config)
    parts = {
        name: LoadedRun(
            kind=kinds[name],
            model=model.parts[name],
            config=config,
            text=text,
            labels=labels[name],
            settings=told[name],
            is_part=True,
        )
        for name in told
    }
    return LoadedRun(kind="joint", model=model, config=config, text=text, labels=(), settings={}, parts=parts)


def _detector_run(
    folder: Path,
    kind: str,
    task: dict[str, Any],
    weights: Mapping[str, Tensor],
    labels: tuple[str, ...],
    device: torch.device | str,
    image_size: tuple[int, int] | None,
) -> LoadedRun:
    """Load a run of a detector; errors as of `load_run`."""
    path = folder / "config.yaml"
    if image_size is not None:
        raise CheckpointError(f"{folder}: a detector takes pictures of any size; leave image_size out")
    settings = task["model"]
    plain = isinstance(settings, Mapping) and "kind" in settings
    beit3 = None if plain else _model_config(settings, weights, path)
    model, vit = read_detector(task, weights, len(labels), path, beit3)
    del task["model"]
    if kind == "panoptic":
        things = read_labels(folder / "things.txt")
        task["things"] = tuple(name in things for name in labels)
    return LoadedRun(
        kind=kind, model=model.to(device).eval(), config=vit, text=None, labels=labels, settings=task
    )


def _load_vit_run(
    folder: Path,
    task: Mapping[str, Any],
    device: torch.device | str,
    image_size: tuple[int, int] | None,
) -> LoadedRun:
    """Load a run of a plain ViT; arguments and errors as of `load_run`."""
    weights = read_vit_run(folder, task, image_size)
    assert isinstance(weights.config, ViTConfig)  # a kind of another model is refused by its names
    labels: tuple[str, ...] = ()
    if weights.kind == "image_classification":
        labels = read_labels(folder / "classes.txt")
        _num_labels(weights.kind, labels, weights.state, folder)
    return LoadedRun(
        kind=weights.kind,
        model=fill(weights, device),
        config=weights.config,
        text=None,
        labels=labels,
        settings={"pictures": weights.pictures},
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in float32."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); train the run anew") from error
    return {name: w.float() if w.is_floating_point() else w for name, w in unpack_weights(weights).items()}


def read_task(path: Path) -> dict[str, Any]:
    """Settings of a run's task.

    Raises:
        CheckpointError: The file is missing, damaged, or of something else.
    """
    try:
        task = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["task"])
        return {"kind": task.pop("kind"), **task}
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent} is no run folder: it has no {path.name}; train the recipe first"
        ) from error
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{path}: damaged ({type(error).__name__}); expected the settings of a run and its task; "
            "train the run anew"
        ) from error


def used_kind(task: Mapping[str, Any]) -> str:
    """The kind of `LoadedRun` that a run of a task becomes."""
    return "panoptic" if task["kind"] == "detection" and task.get("panoptic") else str(task["kind"])


def used_kinds(task: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of what a run of a task can do: several where it is a joint one."""
    if task["kind"] != "joint":
        return (used_kind(task),)
    return tuple(used_kind(part) for part in task.values() if isinstance(part, Mapping) and "kind" in part)


def _check_task(task: Mapping[str, Any], path: Path) -> str:
    """The kind of a task that can be used and has all that use needs."""
    kind = used_kind(task)
    if kind not in _NEEDED:
        raise CheckpointError(
            f"{path.parent} is a run of {kind}, which answers nothing by itself; give one of "
            f"{', '.join((*_NEEDED, *sorted(VIT_RUNS)))}"
        )
    missing = [name for name in ("model", *_NEEDED[kind]) if task.get(name) is None]
    strange = [
        name for name in _NEEDED[kind] if name not in missing and not isinstance(task[name], (int, float))
    ]
    for what, names in (("has no", missing), ("tells no number as", strange)):
        if names:
            raise CheckpointError(f"{path}: task {what} {', '.join(names)}; train the run anew")
    return kind


def _open_text(path: Path, config: Beit3Config) -> TextTokenizer | None:
    """The text tokenizer where there is one, if the model has a vector for each of its ids."""
    if not path.is_file():
        return None
    text = TextTokenizer(path)
    if text.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path}: has {text.vocab_size} ids, the model embeds {config.vocab_size}; put the text "
            "tokenizer of its training there"
        )
    return text


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


def _build(kind: str, config: Beit3Config, task: Mapping[str, Any], num_labels: int) -> nn.Module:
    match kind:
        case "masked_data_modeling":
            return Beit3ForMaskedDataModeling(config, codebook_size=num_labels)
        case "vqa":
            alone = bool(task.get("picture_alone"))
            return Beit3ForVqa(head_config(config, task), num_answers=num_labels, picture_alone=alone)
        case "nlvr2":
            return Beit3ForNlvr2(config)
        case "image_classification":
            return Beit3ForImageClassification(head_config(config, task), num_classes=num_labels)
        case "captioning":
            return Beit3ForCaptioning(config, picture_alone=bool(task.get("picture_alone")))
        case "semantic_segmentation":
            plain = task.get("backbone") == "plain_vit"
            adapter = None if plain else adapter_config(task.get("adapter") or {})
            segmenter = segmenter_config(dict(task.get("segmenter") or {}))
            out_blocks = tuple(task.get("out_blocks") or ()) if plain else ()
            return segmenter_on(config, adapter, segmenter, num_classes=num_labels, out_blocks=out_blocks)
        case _:
            return Beit3ForRetrieval(config)


def _model_config(settings: Any, weights: Mapping[str, Tensor], path: Path) -> Beit3Config:
    """The model's sizes, as many blocks as there are weights of."""
    known = {field.name for field in fields(Beit3Config)}
    if not isinstance(settings, Mapping) or (unknown := sorted(settings.keys() - known)):
        told = f"unknown settings {', '.join(unknown)}" if isinstance(settings, Mapping) else repr(settings)
        raise CheckpointError(f"{path}: task.model has {told}; expected the settings of a BEiT-3")
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        config = Beit3Config(**values)
    except (ValueError, TypeError, IndexError) as error:
        raise _no_model(path, error) from error
    blocks = {match[1] for match in map(_BLOCK.match, weights) if match}
    if config.depth != len(blocks):  # many blocks would take long to build before names are compared
        raise CheckpointError(
            f"{path}: task.model.depth is {config.depth}, model.safetensors holds {len(blocks)} blocks; "
            "expected the settings that the weights were trained with"
        )
    return config


def _no_model(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return CheckpointError(f"{path}: settings of no model ({reason}); expected those of its training")


def _num_labels(kind: str, labels: tuple[str, ...], weights: Mapping[str, Tensor], folder: Path) -> int:
    """How many visual tokens, answers or classes the head tells apart; 1 where it has none.

    Raises:
        CheckpointError: The list of labels is of another length.
    """
    name, listed = _HEADS.get(kind, ("", ""))
    if name not in weights:  # of another model, if it should be there: the names will be compared
        return max(1, len(labels))
    number = len(weights[name])
    if listed and number != len(labels):
        raise CheckpointError(
            f"{folder / listed}: names {len(labels)} labels, model.safetensors tells {number} apart; put the "
            "list of its training there"
        )
    return number


def _run_labels(folder: Path, kind: str) -> tuple[str, ...]:
    if kind == "vqa":
        return read_labels(folder / "answers.txt")
    if kind in ("semantic_segmentation", "detection", "panoptic", "image_classification", "class_names"):
        return read_labels(folder / "classes.txt")
    return ("false", "true") if kind == "nlvr2" else ()
