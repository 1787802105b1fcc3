"""The official segmenters: a plain ViT, with an adapter or without, under a neck and a head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from imglish.errors import CheckpointError
from imglish.models.segmenters.build import Segmenter, build_segmenter
from imglish.models.segmenters.config import SegmenterConfig
from imglish.models.segmenters.weights import head_map
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.official import (
    Family,
    adapter_map,
    baseline_map,
    to_official as backbone_to_official,
    to_ours as backbone_to_ours,
)
from imglish.models.weight_map import StateDict, WeightMap

_BACKBONE = "backbone."  # the prefix in the official files and in ours


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTSegmenterConfig:
    """Settings of a whole segmenter.

    Args:
        family: Which official backbone, whose names the official weights have.
        vit: Its ViT.
        adapter: The adapter; None is a plain baseline, which has maps of four of the ViT's blocks.
        segmenter: Neck and head.
        num_classes: Classes, without "no object".

    Raises:
        ValueError: There is no plain baseline of that family, or the blocks do not divide into four.
    """

    family: Family
    vit: ViTConfig
    adapter: ViTAdapterConfig | None
    segmenter: SegmenterConfig
    num_classes: int

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1; got {self.num_classes}")
        if self.adapter is not None:
            self.adapter.groups(self.vit.depth)
        elif self.family == "uniperceiver":
            raise ValueError("there is no plain baseline of Uni-Perceiver; give an adapter")
        elif self.vit.depth % 4:
            raise ValueError(f"depth {self.vit.depth} does not divide into the baseline's four groups")


def vit_segmenter(config: ViTSegmenterConfig, *, norm: type[nn.Module] = nn.BatchNorm2d) -> Segmenter:
    """Build the segmenter.

    Args:
        config: Settings.
        norm: Batch norm of adapter and head; synchronised over ranks where there are several.
    """
    vit = ViT(config.vit)
    backbone: nn.Module
    if config.adapter is not None:
        backbone = ViTAdapter(vit, config.adapter, norm=norm)
    else:
        step = vit.depth // 4
        plain = config.family == "vit"
        backbone = PlainViT(
            vit,
            out_blocks=tuple(range(step - 1, vit.depth, step)),
            layer_norm=plain,
            norm="group" if plain else "batch",
            batch_norm=norm,
        )
    return build_segmenter(backbone, vit.width, config.segmenter, num_classes=config.num_classes, norm=norm)


def to_ours(
    state: StateDict, family: Family, segmenter: SegmenterConfig, *, has_adapter: bool
) -> dict[str, Tensor]:
    """Official weights under our names and in our shapes.

    Args:
        state: Of an official segmenter, whole.
        family: Of its backbone.
        segmenter: Its neck and head; sizes do not matter.
        has_adapter: False is a plain baseline.

    Raises:
        CheckpointError: A name has no rule.
    """
    below, beside = _split(state)
    backbone = backbone_to_ours(below, _backbone_map(family, has_adapter=has_adapter))
    return _joined(backbone, head_map(segmenter).to_ours(beside))


def to_official(state: StateDict, config: ViTSegmenterConfig) -> dict[str, Tensor]:
    """Our weights under the official names, with the indices of relative positions that official files hold.

    Raises:
        CheckpointError: A name has no rule.
    """
    below, beside = _split(state)
    names = _backbone_map(config.family, has_adapter=config.adapter is not None)
    backbone = backbone_to_official(below, names, config.vit)
    return _joined(backbone, head_map(config.segmenter).to_official(beside))


def _backbone_map(family: Family, *, has_adapter: bool) -> WeightMap:
    if has_adapter:
        return adapter_map(family)
    if family == "uniperceiver":
        raise CheckpointError("a Uni-Perceiver without adapter, of which there is no official segmenter")
    return baseline_map(family)


def _split(state: StateDict) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The backbone's weights without their prefix, and the others."""
    below = {name.removeprefix(_BACKBONE): w for name, w in state.items() if name.startswith(_BACKBONE)}
    return below, {name: w for name, w in state.items() if not name.startswith(_BACKBONE)}


def _joined(backbone: StateDict, others: StateDict) -> dict[str, Tensor]:
    return {f"{_BACKBONE}{name}": w for name, w in backbone.items()} | dict(others)
