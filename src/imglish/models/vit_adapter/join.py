"""A plain ViT as the backbone of a segmenter or detector: with ViT-Adapter or without."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

from torch import nn

from imglish.errors import ConfigError
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone, plain_backbone
from imglish.models.vit_adapter.backbone_config import BackboneConfig, TimmBackboneConfig, vit_settings
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.last_map import LastMap
from imglish.models.vit_adapter.model import ViTAdapter

_NUM_LEVELS = 4  # strides 4, 8, 16, 32


def backbone_on(
    vit: BackboneConfig,
    adapter: ViTAdapterConfig | None,
    *,
    out_blocks: tuple[int, ...] = (),
    last_map: bool = False,
    windows: tuple[int, ...] = (),
    norm: type[nn.Module] = nn.BatchNorm2d,
) -> ViTAdapter | PlainViT | LastMap:
    """Build the maps of a ViT that a segmenter or detector stands on.

    Args:
        vit: Settings of the ViT.
        adapter: Settings of the adapter; None takes the maps of four of the ViT's blocks.
        out_blocks: Those four blocks, counted from 0; empty means the last of each quarter.
        last_map: True takes the map of the last block alone.
        windows: Of BEiT-3's vision side, as `Beit3VisionBackbone` has them; other ViTs have their own.
        norm: Batch norm of the adapter; synchronised over ranks where there are several.

    Raises:
        ConfigError: timm has no such model, or it is no plain ViT, or its patches will not do.
        ValueError: The parts do not go together.
    """
    if adapter is None and not isinstance(vit, Beit3Config) and vit.kind == "uniperceiver":
        raise ValueError("there is no plain baseline of Uni-Perceiver; give an adapter")
    if windows and not isinstance(vit, Beit3Config):
        raise ValueError(f"windows are a setting of BEiT-3; a ViT of kind {vit.kind} has its own in model")
    plain: nn.Module
    if isinstance(vit, Beit3Config):
        plain = Beit3VisionBackbone(Beit3Encoder(replace(vit, output_norm=False)), windows=windows)
    elif isinstance(vit, TimmBackboneConfig):
        plain = timm_vit(vit)
    else:
        plain = ViT(ViTConfig(**vit_settings(vit)))
    if last_map:
        return LastMap(plain)
    is_beit = not isinstance(vit, Beit3Config) and vit.kind == "beit"
    return dense_backbone(plain, adapter, out_blocks=out_blocks, beit_pyramid=is_beit, norm=norm)


def timm_vit(config: TimmBackboneConfig, *, pretrained: bool = False) -> nn.Module:
    """A model of timm as a backbone.

    Args:
        config: Which.
        pretrained: True downloads its weights.

    Raises:
        ConfigError: timm has no such model, or it is no plain ViT.
    """
    # Only here: they take a second to import, and few segmenters stand on them.
    import timm

    from imglish.models.vit_adapter.timm_backbone import timm_backbone

    if not timm.is_model(config.name):
        close = difflib.get_close_matches(config.name, timm.list_models(), n=1)
        nearest = f"did you mean {close[0]!r}?" if close else "timm.list_models() names them"
        raise ConfigError(f"{config.name!r} is no model of timm; {nearest}")
    settings: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    try:
        model: nn.Module = timm.create_model(config.name, pretrained=pretrained, num_classes=0, **settings)
    except RuntimeError as error:  # weights that the model has not
        raise ConfigError(f"timm can not make {config.name!r}: {error}") from error
    return timm_backbone(model, patch_size=config.patch_size)


def dense_backbone(
    vit: nn.Module,
    adapter: ViTAdapterConfig | None,
    *,
    out_blocks: tuple[int, ...] = (),
    beit_pyramid: bool = False,
    norm: type[nn.Module] = nn.BatchNorm2d,
) -> ViTAdapter | PlainViT:
    """A backbone with maps of strides 4, 8, 16, 32.

    Args:
        vit: A `PlainBackbone` that is a module.
        adapter: Settings of the adapter; None takes the maps of four blocks of the ViT (`PlainViT`).
        out_blocks: Those blocks, counted from 0, or one for all levels; empty means the last of each quarter.
        beit_pyramid: True enlarges and shrinks them as the official baseline of BEiT does: no layer norm,
            batch norm; False as that of the ViT.
        norm: Batch norm, synchronised over ranks where there are several.

    Raises:
        ConfigError: The ViT is no `PlainBackbone`, or has patches of a size that will not do.
        ValueError: The blocks do not divide into four levels, or into the adapter's interactions, or are not
            there.
    """
    if adapter is not None:
        if out_blocks:
            raise ValueError(f"out_blocks {out_blocks} are those of a plain ViT; an adapter has none")
        return ViTAdapter(vit, adapter, norm=norm)
    return PlainViT(
        vit,
        out_blocks=out_blocks or _quarters(plain_backbone(vit, patch_sizes=(16,)).depth),
        layer_norm=not beit_pyramid,
        norm="batch" if beit_pyramid else "group",
        batch_norm=norm,
    )


def _quarters(depth: int) -> tuple[int, ...]:
    """The last block of each quarter."""
    if depth % _NUM_LEVELS:
        raise ValueError(f"depth {depth} does not divide into {_NUM_LEVELS} levels; use an adapter")
    step = depth // _NUM_LEVELS
    return tuple(range(step - 1, depth, step))
