"""The official segmenters: a plain ViT, with an adapter or without, under a neck and a head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from imglish.models.segmenters.build import Segmenter, build_segmenter
from imglish.models.segmenters.config import SegmenterConfig
from imglish.models.segmenters.weights import DECODE_HEAD, head_map
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.join import dense_backbone
from imglish.models.vit_adapter.official import Family, model_to_official, model_to_ours
from imglish.models.weight_map import StateDict


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
    backbone = dense_backbone(
        ViT(config.vit), config.adapter, beit_pyramid=config.family == "beit", norm=norm
    )
    return build_segmenter(
        backbone, backbone.width, config.segmenter, num_classes=config.num_classes, norm=norm
    )


def to_ours(
    state: StateDict,
    family: Family,
    segmenter: SegmenterConfig,
    *,
    has_adapter: bool,
    head: str = DECODE_HEAD,
) -> dict[str, Tensor]:
    """Official weights under our names and in our shapes.

    Args:
        state: Of an official segmenter, whole.
        family: Of its backbone.
        segmenter: Its neck and head; sizes do not matter.
        has_adapter: False is a plain baseline.
        head: Official prefix of the head; ``panoptic_head.`` in the detection tree.

    Raises:
        CheckpointError: A name has no rule.
    """
    return model_to_ours(state, family, head_map(segmenter, head=head), has_adapter=has_adapter)


def to_official(
    state: StateDict, config: ViTSegmenterConfig, *, head: str = DECODE_HEAD
) -> dict[str, Tensor]:
    """Our weights under the official names, with the indices of relative positions that official files hold.

    Args:
        state: Of a `vit_segmenter`.
        config: Its settings.
        head: Official prefix of the head; ``panoptic_head.`` in the detection tree.

    Raises:
        CheckpointError: A name has no rule.
    """
    has_adapter = config.adapter is not None
    return model_to_official(
        state, config.family, head_map(config.segmenter, head=head), config.vit, has_adapter=has_adapter
    )
