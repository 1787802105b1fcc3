"""A segmenter on whichever ViT its settings name."""

from __future__ import annotations

from torch import nn

from imglish.models.segmenters.build import Segmenter, build_segmenter
from imglish.models.segmenters.config import SegmenterConfig, SetrPupConfig
from imglish.models.vit_adapter.backbone_config import BackboneConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.join import backbone_on


def segmenter_on(
    backbone: BackboneConfig,
    adapter: ViTAdapterConfig | None,
    segmenter: SegmenterConfig,
    *,
    num_classes: int,
    out_blocks: tuple[int, ...] = (),
    norm: type[nn.Module] = nn.BatchNorm2d,
) -> Segmenter:
    """Build backbone, neck and head.

    Args:
        backbone: Settings of the ViT.
        adapter: Settings of the adapter; None takes the maps of four of the ViT's blocks, and for SETR-PUP,
            which reads one, that of the last block alone.
        segmenter: Settings of neck and head.
        num_classes: Classes, without "no object".
        out_blocks: Those four blocks, counted from 0; empty means the last of each quarter.
        norm: Batch norm of adapter and head; synchronised over ranks where there are several.

    Raises:
        ConfigError: timm has no such model, or it is no plain ViT, or its patches will not do.
        ValueError: The parts do not go together.
    """
    last_map = adapter is None and isinstance(segmenter, SetrPupConfig)
    if last_map and out_blocks:
        raise ValueError(f"SETR-PUP reads the last block's map alone; leave out_blocks {out_blocks} empty")
    maps = backbone_on(backbone, adapter, out_blocks=out_blocks, last_map=last_map, norm=norm)
    return build_segmenter(maps, maps.width, segmenter, num_classes=num_classes, norm=norm)
