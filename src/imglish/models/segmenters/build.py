"""A backbone with the neck and head of each kind of segmenter."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
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
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.join import dense_backbone
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


def beit3_segmenter(
    model: Beit3Config,
    adapter: ViTAdapterConfig | None,
    config: SegmenterConfig,
    *,
    num_classes: int,
    out_blocks: tuple[int, ...] = (),
    norm: type[nn.Module] = nn.BatchNorm2d,
) -> Segmenter:
    """BEiT-3's vision side, with ViT-Adapter or without, and a neck and head, joined.

    Args:
        model: Settings of BEiT-3.
        adapter: Settings of the adapter; None takes the maps of four blocks of the ViT.
        config: Which segmenter.
        num_classes: Classes, without "no object".
        out_blocks: As of `join_segmenter`.
        norm: Norm of adapter and head; synchronised over ranks where there are several.

    Raises:
        ValueError: The blocks do not divide into four levels, or into the adapter's interactions.
    """
    vit = Beit3VisionBackbone(Beit3Encoder(replace(model, output_norm=False)))
    return join_segmenter(vit, adapter, config, num_classes=num_classes, out_blocks=out_blocks, norm=norm)


def join_segmenter(
    vit: nn.Module,
    adapter: ViTAdapterConfig | None,
    config: SegmenterConfig,
    *,
    num_classes: int,
    out_blocks: tuple[int, ...] = (),
    beit_pyramid: bool = False,
    norm: type[nn.Module] = nn.BatchNorm2d,
) -> Segmenter:
    """A plain ViT, with ViT-Adapter or without, and a neck and head, joined.

    Args:
        vit: A `PlainBackbone` that is a module.
        adapter: Settings of the adapter; None takes the maps of four blocks of the ViT (`PlainViT`).
        config: Which segmenter.
        num_classes: Classes, without "no object".
        out_blocks: Those four blocks, counted from 0; empty means the last of each quarter.
        beit_pyramid: True enlarges and shrinks them as the official baseline of BEiT does: no layer norm,
            batch norm; False as that of the ViT.
        norm: Norm of adapter and head; synchronised over ranks where there are several.

    Raises:
        ConfigError: The ViT is no `PlainBackbone`, or has patches of a size that will not do.
        ValueError: The blocks do not divide into four levels, or into the adapter's interactions, or are not
            there.
    """
    backbone = dense_backbone(vit, adapter, out_blocks=out_blocks, beit_pyramid=beit_pyramid, norm=norm)
    return build_segmenter(backbone, backbone.width, config, num_classes=num_classes, norm=norm)
