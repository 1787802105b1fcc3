"""A backbone with the neck and heads of a two-stage detector."""

from __future__ import annotations

from functools import partial

from torch import nn

from imglish.models.detectors.cascade import CascadeHeads
from imglish.models.detectors.config import NeckConfig, TwoStageConfig
from imglish.models.detectors.htc import HybridTaskCascadeHeads
from imglish.models.detectors.rpn import RegionProposals
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.necks.channel_mapper import ChannelMapper
from imglish.models.necks.extra_attention import ExtraAttention
from imglish.models.necks.fpn import Fpn
from imglish.models.necks.simple_pyramid import SimplePyramid
from imglish.nn.conv_norm import Norm
from imglish.structures.pyramid import FeaturePyramid

_NUM_LEVELS = 4  # strides 4, 8, 16, 32
_GROUPS = 32  # of group norm


class Neck(nn.Module):
    """Attention over the coarsest level where there is any, then levels of one width and one coarser.

    Args:
        width: Channels of the backbone's maps.
        config: Settings.
    """

    def __init__(self, width: int, config: NeckConfig) -> None:
        super().__init__()
        self.attention: ExtraAttention | None = None
        if config.attention_heads:
            self.attention = ExtraAttention(
                width, num_heads=config.attention_heads, drop_path=config.attention_drop_path
            )
        widths = (width,) * _NUM_LEVELS
        self.levels: nn.Module
        match config.kind:
            case "fpn":
                self.levels = Fpn(widths, config.width, num_extra=1, norm=_norm(config))
            case "mapper":
                self.levels = ChannelMapper(widths, config.width, num_extra=1)
            case "simple":
                self.levels = SimplePyramid(width, config.width, num_extra=1)

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """Map the backbone's pyramid to strides 4, 8, 16, 32, 64."""
        if self.attention is not None:
            pyramid = self.attention(pyramid)
        levels: FeaturePyramid = self.levels(pyramid)
        return levels


def build_two_stage(
    backbone: nn.Module, width: int, config: TwoStageConfig, *, num_classes: int
) -> TwoStageDetector:
    """Put neck and heads on a backbone.

    Args:
        backbone: Maps pictures to a `FeaturePyramid` of strides 4, 8, 16, 32; with a ``simple`` neck 16 will
            do.
        width: Channels of its maps.
        config: Settings.
        num_classes: Classes, without background.

    Raises:
        ValueError: There are no classes.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1; got {num_classes}")
    features = config.neck.width
    if config.interleaved:
        heads: CascadeHeads = HybridTaskCascadeHeads(features, config, num_classes, _NUM_LEVELS + 1)
    else:
        heads = CascadeHeads(features, config, num_classes)
    rpn = RegionProposals(features, config.rpn)
    return TwoStageDetector(backbone, Neck(width, config.neck), rpn, heads, config)


def _norm(config: NeckConfig) -> Norm | None:
    norms: dict[str, Norm | None] = {
        "none": None,
        "batch": nn.BatchNorm2d,
        "group": partial(nn.GroupNorm, _GROUPS),
    }
    return norms[config.norm]
