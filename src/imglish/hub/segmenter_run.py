"""The segmenter of a finished run over a plain ViT or one of timm; those over BEiT-3 are `hub.run`'s."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imglish.errors import CheckpointError, ConfigError
from imglish.models.segmenters.build import Segmenter
from imglish.models.segmenters.config import segmenter_config
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.backbone_config import TimmBackboneConfig, backbone_config, vit_settings
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.weight_map import check_state

_BLOCK = re.compile(r"backbone\.backbone\.blocks\.(\d+)\.")


def read_segmenter(
    task: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    num_classes: int,
    where: Path,
    image_size: tuple[int, int] | None = None,
) -> tuple[Segmenter, ViTConfig]:
    """Build the segmenter of a run and fill it.

    Args:
        task: The settings of its task from YAML; its ``model`` has a ``kind``.
        weights: Of the run.
        num_classes: Classes, without "no object".
        where: The file of the settings, for messages.
        image_size: (height, width) of the pictures, where it shall differ from training's.

    Returns:
        The segmenter, and the sizes of its ViT.

    Raises:
        CheckpointError: The settings are those of no segmenter, or the weights of another.
    """
    blocks = {match[1] for match in map(_BLOCK.match, weights) if match}
    try:
        backbone = backbone_config(task["model"])
        if not isinstance(backbone, TimmBackboneConfig) and backbone.depth != len(blocks):
            # Many blocks would take long to build before names are compared.
            raise ValueError(f"task.model.depth is {backbone.depth}, the weights have {len(blocks)} blocks")
        plain = task.get("backbone") == "plain_vit"
        adapter = None if plain else adapter_config(task.get("adapter") or {})
        head = segmenter_config(dict(task.get("segmenter") or {}))
        out_blocks = tuple(task.get("out_blocks") or ()) if plain else ()
        with torch.device("meta"):  # names and shapes are compared before anything is allocated
            empty = segmenter_on(backbone, adapter, head, num_classes=num_classes, out_blocks=out_blocks)
    except (ConfigError, ValueError, TypeError, IndexError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{where}: settings of no model ({reason}); expected those of its training"
        ) from error
    check_state(weights, empty.state_dict(), where=str(where.parent))
    model = segmenter_on(backbone, adapter, head, num_classes=num_classes, out_blocks=out_blocks)
    model.load_state_dict(weights)
    if isinstance(backbone, TimmBackboneConfig):
        vit = sizes_of_timm(model)
    else:
        vit = ViTConfig(**vit_settings(backbone))
    return model, vit if image_size is None else replace(vit, image_size=image_size)


def adapter_config(settings: Mapping[str, Any]) -> ViTAdapterConfig:
    """The adapter's settings from a run's YAML, which has lists where the config has tuples."""
    values: dict[str, Any] = {
        k: tuple(map(tuple, v)) if isinstance(v, list) else v for k, v in settings.items()
    }
    return ViTAdapterConfig(**values)


def sizes_of_timm(model: nn.Module) -> ViTConfig:
    """The sizes of timm's model under a segmenter or detector, for pictures of the size of its positions."""
    held: Any = model.get_submodule("backbone.backbone")
    if isinstance(held, ViT):  # a BEiT, which became ours
        return held.config
    rows, columns = held.own_grid
    return ViTConfig(
        image_size=(rows * held.patch_size, columns * held.patch_size),
        patch_size=held.patch_size,
        width=held.width,
        depth=held.depth,
        num_heads=held.blocks[0].attn.num_heads,
        class_token=held.num_prefix > 0,
        output_norm=False,
    )
