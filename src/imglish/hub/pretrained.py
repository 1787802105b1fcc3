"""Saving a model as a folder that `load_model`, transformers and the Hugging Face Hub read.

The folder has the form of a finished run, so that there is one way to load: ``config.yaml`` (the settings of
the task), ``model.safetensors``, and ``text.spm``, ``answers.txt``, ``classes.txt`` and ``things.txt`` where
there are such. Beside them lie the card, ``README.md``, and of a BEiT-3 ``config.json``, which `imglish.hf`
reads.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from imglish.errors import CheckpointError
from imglish.hub.card import CardFacts, write_card
from imglish.hub.run import LoadedRun, load_run, part_alone
from imglish.hub.sizes import hints_of
from imglish.hub.state_file import write_state
from imglish.hub.transformers_config import KINDS, MODEL_TYPE, TransformersConfig, config_of, plain
from imglish.models.beit3.config import Beit3Config
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.timm_backbone import TimmBackbone

_DENSE = {"semantic_segmentation": "segmenter", "detection": "detector", "panoptic": "detector"}
_CONVERT = "write its weights with imglish convert --to imglish, or copy its run folder"


def save_pretrained(
    run: LoadedRun, folder: str | Path, *, facts: CardFacts | None = None, overwrite: bool = False
) -> Path:
    """Save a model so that ``load_model(folder)`` gives it back with the same weights, bit for bit.

    What was written is loaded and compared before it is put there. Weights keep their precision in the file;
    loading makes float32 of them, as ever.

    Args:
        run: A BEiT-3 with a head or with several (a joint run), or a segmenter or detector of a run. A part
            of a joint run is saved as the run of one task, with an encoder of its own.
        folder: Is made, with its parents.
        facts: What the card shall say besides; `facts_of` finds what is known.
        overwrite: Replace files of these names in a folder that is not empty.

    Returns:
        The folder.

    Raises:
        CheckpointError: Models of that kind are no runs, the folder is not empty, it cannot be written, or
            what was written does not load to the same.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file; expected a folder: choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise CheckpointError(f"{folder}: is not empty; choose another folder, or say overwrite")
    if run.is_part:
        run = part_alone(run)
    texts = _texts(run, facts or CardFacts())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving_") as name:
            partial = Path(name)
            write_state(run.model.state_dict(), hints_of(run.config), partial / "model.safetensors")
            for file, text in texts.items():
                (partial / file).parent.mkdir(exist_ok=True)
                (partial / file).write_text(text, encoding="utf-8")
            if run.text is not None:
                (partial / "text.spm").write_bytes(run.text.serialized)
            _compare(run, partial, folder)
            for path in sorted(path for path in partial.rglob("*") if path.is_file()):
                target = folder / path.relative_to(partial)
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); choose another") from error
    return folder


def write_settings(settings: TransformersConfig) -> dict[str, str]:
    """Texts of ``config.yaml``, ``config.json`` and the labels of a BEiT-3 with a head, by file name.

    Args:
        settings: What ``config.json`` says.
    """
    task = {"kind": settings.kind, **settings.settings, "model": dict(settings.sizes)}
    told = {"model_type": MODEL_TYPE, "imglish_version": version("imglish")}
    texts = {
        "config.yaml": _yaml(task),
        "config.json": json.dumps(told | plain(asdict(settings)), indent=1, ensure_ascii=False) + "\n",
    }
    return texts | _label_files(settings.kind, settings.labels)


def _texts(run: LoadedRun, facts: CardFacts) -> dict[str, str]:
    """All files but the weights and the text tokenizer."""
    card = {"README.md": write_card(run, facts)}
    if run.kind in KINDS and isinstance(run.config, Beit3Config):
        return write_settings(config_of(run)) | card
    if run.kind != "joint":
        return {"config.yaml": _yaml(_dense_task(run))} | _lists(run) | card
    task: dict[str, Any] = {"kind": "joint", "model": plain(asdict(run.config))}
    lists: dict[str, str] = {}
    for name, part in run.parts.items():
        settings = {"kind": part.kind, "model": task["model"], **plain(part.settings)}
        task[name] = _dense_task(part) if part.kind in _DENSE else settings
        lists |= {f"{name}/{file}": text for file, text in _lists(part).items()}
    return {"config.yaml": _yaml(task)} | lists | card


def _dense_task(run: LoadedRun) -> dict[str, Any]:
    """The task of a segmenter or detector."""
    part = _DENSE.get(run.kind)
    if part is None or (part not in run.settings and not isinstance(run.config, Beit3Config)):
        raise CheckpointError(
            f"a {run.kind} model ({type(run.model).__name__}), which no run has; expected a BEiT-3 with a "
            f"head, or a segmenter or detector of a run: {_CONVERT}"
        )
    settings = {name: plain(value) for name, value in run.settings.items() if name not in ("kind", "things")}
    kind = "detection" if run.kind == "panoptic" else run.kind
    return {"kind": kind, "model": _backbone(run), **settings}


def _yaml(task: Mapping[str, Any]) -> str:
    return yaml.safe_dump({"task": dict(task)}, sort_keys=False, allow_unicode=True)


def _backbone(run: LoadedRun) -> dict[str, Any]:
    """Settings of the ViT under a segmenter or detector, as a run has them."""
    if isinstance(run.config, Beit3Config):
        return dict(plain(asdict(run.config)))
    if any(isinstance(module, TimmBackbone) for module in run.model.modules()):
        raise CheckpointError(
            f"a {run.kind} model over a ViT of timm, whose name it does not know: {_CONVERT}"
        )
    return {"kind": _vit_kind(run.config), **plain(asdict(run.config))}


def _vit_kind(config: ViTConfig) -> str:
    """Whose ViT it is, as `backbone_config` calls it; all settings are told besides."""
    if config.embedding_norm:
        return "uniperceiver"
    return "vit" if config.attention_bias == "all" else "beit"


def _lists(run: LoadedRun) -> dict[str, str]:
    """Labels, and which of them are things."""
    lists = _label_files(run.kind, run.labels)
    if run.kind == "panoptic":
        things = zip(run.labels, run.settings["things"], strict=True)
        lists["things.txt"] = "\n".join(name for name, is_thing in things if is_thing)
    return lists


def _label_files(kind: str, labels: tuple[str, ...]) -> dict[str, str]:
    if kind == "vqa":
        return {"answers.txt": "".join(json.dumps({"answer": label}) + "\n" for label in labels)}
    if kind in ("image_classification", "class_names", *_DENSE):
        return {"classes.txt": "\n".join(labels)}
    return {}


def _compare(run: LoadedRun, partial: Path, folder: Path) -> None:
    """See that what was written loads to the same model."""
    try:
        back = load_run(partial)
    except CheckpointError as error:
        reason = str(error).replace(str(partial), str(folder))
        raise CheckpointError(
            f"{folder}: would not load again, so nothing was saved ({reason}); {_CONVERT}"
        ) from error
    differing = [
        what
        for what, same in (
            ("kind", back.kind == run.kind),
            ("config", back.config == run.config),
            ("labels", _labels(back) == _labels(run)),
            ("weights", _same(back.model, run.model)),
        )
        if not same
    ]
    if differing:
        raise CheckpointError(
            f"{folder}: would load with other {', '.join(differing)}, so nothing was saved; {_CONVERT}"
        )


def _labels(run: LoadedRun) -> dict[str, tuple[str, ...]]:
    return {"": run.labels} | {name: part.labels for name, part in run.parts.items()}


def _same(loaded: nn.Module, given: nn.Module) -> bool:
    ours: Mapping[str, torch.Tensor] = given.state_dict()
    theirs = loaded.state_dict()
    return theirs.keys() == ours.keys() and all(
        torch.equal(weight, ours[name].cpu().to(weight.dtype)) for name, weight in theirs.items()
    )
