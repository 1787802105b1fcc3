"""The detector of a finished run, over whichever ViT."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Discriminator, TypeAdapter
from torch import Tensor

from imglish.errors import CheckpointError, ConfigError
from imglish.hub.segmenter_run import adapter_config, sizes_of_timm
from imglish.models.beit3.config import Beit3Config
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.on_backbone import Detector, detector_on
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.backbone_config import (
    BackboneConfig,
    TimmBackboneConfig,
    backbone_config,
    vit_settings,
)
from imglish.models.weight_map import check_state

DetectorConfig = TwoStageConfig | OneStageConfig | SparseRcnnConfig | Mask2FormerConfig
_BLOCK = re.compile(r"backbone\.backbone\.blocks\.(\d+)\.")


class DetectorRun(NamedTuple):
    """A detector with the sizes of its ViT."""

    model: Detector | Mask2Former
    vit: Beit3Config | ViTConfig


def read_detector(
    task: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    num_classes: int,
    where: Path,
    beit3: Beit3Config | None = None,
) -> DetectorRun:
    """Build the detector of a run and fill it.

    Args:
        task: The settings of its task from YAML.
        weights: Of the run.
        num_classes: Classes, without background.
        where: The file of the settings, for messages.
        beit3: Settings of the BEiT-3 under it; None where ``model`` of the task has a ``kind``.

    Raises:
        CheckpointError: The settings are those of no detector, or the weights of another.
    """
    try:
        vit = beit3 or backbone_config(task["model"])
        blocks = {match[1] for match in map(_BLOCK.match, weights) if match}
        if not isinstance(vit, TimmBackboneConfig | Beit3Config) and vit.depth != len(blocks):
            # Many blocks would take long to build before names are compared.
            raise ValueError(f"task.model.depth is {vit.depth}, the weights have {len(blocks)} blocks")
        with torch.device("meta"):  # names and shapes are compared before anything is allocated
            empty = build_detector(vit, task, num_classes)
    except (ConfigError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{where}: settings of no detector ({reason}); expected those of its training"
        ) from error
    check_state(weights, empty.state_dict(), where=str(where.parent))
    model = build_detector(vit, task, num_classes)
    model.load_state_dict(weights)
    if isinstance(vit, Beit3Config):
        return DetectorRun(model, vit)
    if isinstance(vit, TimmBackboneConfig):
        return DetectorRun(model, sizes_of_timm(model))
    return DetectorRun(model, ViTConfig(**vit_settings(vit)))


def build_detector(vit: BackboneConfig, task: Mapping[str, Any], num_classes: int) -> Detector | Mask2Former:
    """The detector of a task's settings.

    Args:
        vit: Settings of the ViT.
        task: The settings of the task from YAML.
        num_classes: Classes, without background.

    Raises:
        ConfigError: The parts do not go together.
        KeyError: A setting is missing; as ValueError, TypeError or IndexError where one is none.
    """
    detector, backbone = detector_config(task["detector"]), task["backbone"]
    adapter, out_blocks = adapter_config(task.get("adapter") or {}), tuple(task.get("out_blocks") or ())
    if not isinstance(detector, Mask2FormerConfig):
        return detector_on(
            vit,
            backbone,
            adapter,
            detector,
            num_classes=num_classes,
            out_blocks=out_blocks,
            windows=tuple(task.get("windows") or ()),
        )
    own = adapter if backbone == "vit_adapter" else None
    model = segmenter_on(vit, own, detector, num_classes=num_classes, out_blocks=out_blocks)
    assert isinstance(model, Mask2Former)
    return model


def detector_config(values: Mapping[str, Any]) -> DetectorConfig:
    """Settings of neck and heads from plain values, such as those of a run's YAML.

    Raises:
        ValueError: There is no such kind, or a setting is unknown or illegal.
    """
    kinds: TypeAdapter[DetectorConfig] = TypeAdapter(Annotated[DetectorConfig, Discriminator("kind")])
    config = kinds.validate_python(values)
    if unknown := sorted(_unknown(values, asdict(config))):
        raise ValueError(f"unknown settings of a detector: {', '.join(unknown)}")
    return config


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names that settings have not."""
    for name, value in given.items():
        if name not in known:
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping) and isinstance(known[name], Mapping):
            yield from _unknown(value, known[name], f"{prefix}{name}.")
