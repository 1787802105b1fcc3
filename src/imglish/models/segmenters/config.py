"""Settings of what stands on a backbone: neck and head of each kind of segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticFpnConfig:
    """Top-down pyramid and the head of Semantic FPN.

    Args:
        neck_width: Features of the top-down pyramid.
        head_width: Features of the head.
        dropout: Share of channels dropped before the classifier.
    """

    kind: Literal["semantic_fpn"] = "semantic_fpn"
    neck_width: int = 256
    head_width: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "neck_width", "head_width")


@dataclass(frozen=True, kw_only=True, slots=True)
class UPerNetConfig:
    """UPerNet with its auxiliary classifier.

    Args:
        head_width: Features of the head: 512, and 1024 in the official BEiT configs.
        auxiliary_width: Features of the auxiliary head, which reads stride 16; 0 leaves it out.
        dropout: Share of channels dropped before the classifiers.
    """

    kind: Literal["upernet"] = "upernet"
    head_width: int = 512
    auxiliary_width: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "head_width")
        if self.auxiliary_width < 0:
            raise ValueError(f"auxiliary_width must be at least 0; got {self.auxiliary_width}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SetrPupConfig:
    """SETR's progressive upsampling of stride 16, and an auxiliary classifier.

    Args:
        head_width: Features of the convolutions.
        auxiliary_width: Features of the auxiliary head, which reads stride 16 too; 0 leaves it out.
        num_doublings: Convolutions with a doubling each; 4 end at the picture's own size.
        dropout: Share of channels dropped before the classifiers.
    """

    kind: Literal["setr_pup"] = "setr_pup"
    head_width: int = 256
    auxiliary_width: int = 0
    num_doublings: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "head_width", "num_doublings")
        if self.auxiliary_width < 0:
            raise ValueError(f"auxiliary_width must be at least 0; got {self.auxiliary_width}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask2FormerConfig:
    """Mask2Former: pixel decoder and mask decoder.

    Args:
        width: Features of both decoders: 256 or 1024 in the official configs.
        num_queries: Masks that compete: 100 or 200.
        num_pixel_layers: Layers of the pixel decoder.
        num_layers: Layers of the mask decoder.
        num_heads: Heads of both: 8 at width 256, 32 at 1024.
        pixel_feed_forward_width: Features within the pixel decoder's feed-forward networks.
        feed_forward_width: The same of the mask decoder.
        num_groups: Groups of the pixel decoder's group norms.
    """

    kind: Literal["mask2former"] = "mask2former"
    width: int = 256
    num_queries: int = 100
    num_pixel_layers: int = 6
    num_layers: int = 9
    num_heads: int = 8
    pixel_feed_forward_width: int = 1024
    feed_forward_width: int = 2048
    num_groups: int = 32

    def __post_init__(self) -> None:
        _positive(self, "num_queries", "pixel_feed_forward_width", "feed_forward_width", "num_pixel_layers")
        _positive(self, "num_layers", "num_groups", "num_heads")
        for divisor in (4, self.num_heads, self.num_groups):
            if self.width < 1 or self.width % divisor:
                raise ValueError(f"width {self.width} must be a multiple of {divisor}")


SegmenterConfig = SemanticFpnConfig | UPerNetConfig | SetrPupConfig | Mask2FormerConfig
_KINDS: dict[str, type[SegmenterConfig]] = {
    "semantic_fpn": SemanticFpnConfig,
    "upernet": UPerNetConfig,
    "setr_pup": SetrPupConfig,
    "mask2former": Mask2FormerConfig,
}


def segmenter_config(values: Mapping[str, Any]) -> SegmenterConfig:
    """Settings from plain values, such as those of a run's YAML.

    Raises:
        ValueError: There is no such kind, or a setting is unknown or illegal.
    """
    kind = _KINDS.get(str(values.get("kind")))
    if kind is None:
        raise ValueError(f"no segmenter of kind {values.get('kind')!r}; there are {', '.join(_KINDS)}")
    if unknown := sorted(values.keys() - {field.name for field in fields(kind)}):
        raise ValueError(f"unknown settings of a segmenter: {', '.join(unknown)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"settings of no segmenter ({error})") from error


def _positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1; got {getattr(config, name)}")
