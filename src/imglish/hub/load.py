"""Loading a finished run for use: model, text tokenizer and vocabularies, without anything of training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from imglish.errors import CheckpointError
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.models.segmenters.semantic import beit3_segmenter
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.weight_map import check_state
from imglish.text.tokenizer import TextTokenizer

EMBEDDED = "world"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedRun:
    """A model ready to use.

    Args:
        kind: Its task: masked_data_modeling, vqa, retrieval, captioning or semantic_segmentation.
        model: In evaluation mode.
        config: Settings of its BEiT-3.
        text: Text tokenizer, where the task reads text.
        labels: Answers of a vqa model, classes of a segmenter.
        settings: The task's other settings by name.
    """

    kind: str
    model: nn.Module
    config: Beit3Config
    text: TextTokenizer | None
    labels: tuple[str, ...]
    settings: Mapping[str, Any]


def list_models() -> tuple[str, ...]:
    """Names that `load_model` knows: the weights that ship in the package."""
    return (EMBEDDED,)


def load_model(name: str | Path, device: torch.device | str = "cpu") -> LoadedRun:
    """Load weights by name or from a run folder.

    Args:
        name: ``world`` for the World model in the package, or the path of a run folder.
        device: Where the model is put.

    Raises:
        CheckpointError: There is no such model, or its files are damaged.
    """
    if name == EMBEDDED:
        return load_run(Path(str(resources.files("imglish.hub") / "world" / "encoder")), device)
    if not Path(name).is_dir():
        raise CheckpointError(
            f"{name}: neither a model's name ({', '.join(list_models())}) nor the folder of a run"
        )
    return load_run(Path(name), device)


def load_run(folder: Path, device: torch.device | str = "cpu") -> LoadedRun:
    """Load the final weights of a run.

    Args:
        folder: A run folder.
        device: Where the model is put.

    Raises:
        CheckpointError: The folder is no finished run, a file is damaged, or the task is not one to use.
    """
    path = folder / "config.yaml"
    if not path.is_file() or not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{folder} holds no finished run (config.yaml, model.safetensors); train it first"
        )
    task = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["task"])
    kind, config = str(task["kind"]), _model_config(task.pop("model", {}), path)
    labels = _labels(folder, kind)
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} is damaged ({error}); train the run anew"
        ) from error
    weights = {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}
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


def _build(
    kind: str, config: Beit3Config, task: Mapping[str, Any], num_labels: int, folder: Path
) -> nn.Module:
    if kind == "vqa":
        return Beit3ForVqa(replace(config, output_norm=False), num_answers=num_labels)
    if kind in ("retrieval", "contrastive"):
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
        "give one of vqa, retrieval, captioning or semantic_segmentation"
    )


def _model_config(settings: Mapping[str, Any], path: Path) -> Beit3Config:
    known = {field.name for field in fields(Beit3Config)}
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise CheckpointError(f"{path}: task.model has unknown settings {', '.join(unknown)}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return Beit3Config(**values)


def _labels(folder: Path, kind: str) -> tuple[str, ...]:
    if kind == "vqa":
        lines = (folder / "answers.txt").read_text(encoding="utf-8").splitlines()
        return tuple(str(json.loads(line)["answer"]) for line in lines)
    if kind == "semantic_segmentation":
        return tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
    return ()
