"""A backbone with the neck and head of each kind of segmenter."""

from __future__ import annotations

from torch import nn

from imglish.models.dense_heads.fcn import FcnHead
from imglish.models.dense_heads.mask_decoder import MaskDecoder
from imglish.models.dense_heads.semantic_fpn import SemanticFpnHead
from imglish.models.dense_heads.setr_pup import SetrPupHead
from imglish.models.dense_heads.upernet import UPerNetHead
from imglish.models.necks.fpn import Fpn
from imglish.models.necks.pixel_decoder import PixelDecoder
from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    SetrPupConfig,
    UPerNetConfig,
)
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.segmenters.semantic import SemanticSegmenter
from imglish.nn.conv_norm import Norm

Segmenter = SemanticSegmenter | Mask2Former
_NUM_LEVELS = 4  # strides 4, 8, 16, 32


def build_segmenter(
    backbone: nn.Module,
    width: int,
    config: SegmenterConfig,
    *,
    num_classes: int,
    norm: Norm = nn.BatchNorm2d,
) -> Segmenter:
    """Put neck and head on a backbone.

    Args:
        backbone: Maps pictures to a `FeaturePyramid` of strides 4, 8, 16, 32.
        width: Channels of its maps.
        config: Which segmenter.
        num_classes: Classes, without "no object".
        norm: Batch norm of the heads; synchronised over ranks where there are several. Mask2Former has
            group norms instead.
    """
    widths = (width,) * _NUM_LEVELS
    match config:
        case Mask2FormerConfig():
            neck = PixelDecoder(
                widths,
                width=config.width,
                num_layers=config.num_pixel_layers,
                num_heads=config.num_heads,
                feed_forward_width=config.pixel_feed_forward_width,
                num_groups=config.num_groups,
            )
            masks = MaskDecoder(
                width=config.width,
                num_classes=num_classes,
                num_queries=config.num_queries,
                num_layers=config.num_layers,
                num_levels=_NUM_LEVELS - 1,
                num_heads=config.num_heads,
                feed_forward_width=config.feed_forward_width,
            )
            return Mask2Former(backbone, neck, masks)
        case SemanticFpnConfig():
            fpn_head = SemanticFpnHead(
                in_width=config.neck_width,
                num_classes=num_classes,
                width=config.head_width,
                dropout=config.dropout,
                norm=norm,
            )
            return SemanticSegmenter(backbone, fpn_head, neck=Fpn(widths, config.neck_width))
        case UPerNetConfig():
            head: nn.Module = UPerNetHead(
                in_widths=widths,
                num_classes=num_classes,
                width=config.head_width,
                dropout=config.dropout,
                norm=norm,
            )
        case SetrPupConfig():
            head = SetrPupHead(
                in_width=width,
                num_classes=num_classes,
                width=config.head_width,
                num_doublings=config.num_doublings,
                dropout=config.dropout,
                norm=norm,
            )
    auxiliary = None
    if config.auxiliary_width:
        auxiliary = FcnHead(
            in_width=width,
            num_classes=num_classes,
            width=config.auxiliary_width,
            dropout=config.dropout,
            norm=norm,
        )
    return SemanticSegmenter(backbone, head, auxiliary=auxiliary)
