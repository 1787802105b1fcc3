"""Settings of the ViT under a segmenter: BEiT-3's vision side, an official plain ViT, or one of timm.

Of BEiT-3 they are `Beit3Config`, which has no ``kind``; the others tell themselves apart by theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from imglish.models.beit3.config import Beit3Config
from imglish.models.vit.config import (
    AttentionBias,
    PositionResampling,
    RelativePositions,
    ViTConfig,
    WindowPadding,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTBackboneConfig(ViTConfig):
    """The plain ViT of DeiT, AugReg, MAE and DINOv2; the defaults are DeiT-B's (`presets.vit`).

    Args:
        kind: Says which settings these are.
    """

    kind: Literal["vit"] = "vit"
    layer_scale: float = 1.0
    class_token: bool = False
    attention_bias: AttentionBias = "all"
    output_norm: bool = False
    rescale_outputs: bool = False
    window_padding: WindowPadding = "projected"
    position_resampling: PositionResampling = "size"

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class BeitBackboneConfig(ViTConfig):
    """BEiT and BEiT v2; the defaults are the base's (`presets.beit`).

    Args:
        kind: Says which settings these are.
    """

    kind: Literal["beit"] = "beit"
    absolute_positions: bool = False
    relative_positions: RelativePositions = "per_block"
    resample_relative: bool = True
    layer_scale: float = 1e-6
    output_norm: bool = False

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class UniPerceiverBackboneConfig(ViTConfig):
    """Uni-Perceiver's vision side; the defaults are the base's (`presets.uniperceiver`).

    Args:
        kind: Says which settings these are.
    """

    kind: Literal["uniperceiver"] = "uniperceiver"
    class_token: bool = False
    class_position: bool = False
    attention_bias: AttentionBias = "all"
    norm_eps: float = 1e-5
    output_norm: bool = False
    rescale_outputs: bool = False
    position_resampling: PositionResampling = "size"
    embedding_norm: bool = True
    time_positions: int = 8
    layer_scale_from_zero: bool = True

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimmBackboneConfig:
    """A Vision Transformer of timm.

    Args:
        kind: Says which settings these are.
        name: Of timm's model, a ``VisionTransformer``, ``Eva`` or ``Beit``. Its pretrained weights are no
            part of it: a run starts from them with ``init`` ``timm:NAME``.
        patch_size: Side of the patches in pixels; kernels of another side are resized (DINOv2's 14 to 16).
        drop_path: Stochastic depth of the last block.
    """

    kind: Literal["timm"] = "timm"
    name: str = "vit_base_patch16_224"
    patch_size: int = 16
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.patch_size < 1:
            raise ValueError(f"patch_size must be at least 1; got {self.patch_size}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in [0, 1); got {self.drop_path}")


PlainViTConfig = ViTBackboneConfig | BeitBackboneConfig | UniPerceiverBackboneConfig
BackboneConfig = Beit3Config | PlainViTConfig | TimmBackboneConfig
_KINDS: dict[str, type[PlainViTConfig | TimmBackboneConfig]] = {
    "vit": ViTBackboneConfig,
    "beit": BeitBackboneConfig,
    "uniperceiver": UniPerceiverBackboneConfig,
    "timm": TimmBackboneConfig,
}


def vit_settings(config: ViTConfig) -> dict[str, Any]:
    """The settings of the ViT alone by name, of a preset or of a backbone, to make the other of."""
    return {field.name: getattr(config, field.name) for field in fields(ViTConfig)}


def backbone_config(values: Mapping[str, Any]) -> PlainViTConfig | TimmBackboneConfig:
    """Settings from plain values that have a ``kind``, such as those of a run's YAML.

    Raises:
        ValueError: There is no such kind, or a setting is unknown or illegal.
    """
    kind = _KINDS.get(str(values.get("kind")))
    if kind is None:
        raise ValueError(f"no backbone of kind {values.get('kind')!r}; there are {', '.join(_KINDS)}")
    if unknown := sorted(values.keys() - {field.name for field in fields(kind)}):
        raise ValueError(f"unknown settings of a backbone: {', '.join(unknown)}")
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"settings of no backbone ({error})") from error


def _check(config: ViTConfig) -> None:
    ViTConfig.__post_init__(config)
    if config.output_norm:
        raise ValueError("output_norm: maps are taken before the last norm, so there is none; set it False")
