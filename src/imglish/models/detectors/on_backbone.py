"""A detector on whichever ViT its settings name."""

from __future__ import annotations

from typing import Literal

from imglish.models.detectors.build import build_two_stage
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.one_stage import OneStageDetector, build_one_stage
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.vit_adapter.backbone_config import BackboneConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.join import backbone_on

Detector = TwoStageDetector | OneStageDetector | SparseRcnn
Backbone = Literal["vit_adapter", "plain_vit", "last_map"]


def detector_on(
    vit: BackboneConfig,
    kind: Backbone,
    adapter: ViTAdapterConfig,
    detector: TwoStageConfig | OneStageConfig | SparseRcnnConfig,
    *,
    num_classes: int,
    out_blocks: tuple[int, ...] = (),
    windows: tuple[int, ...] = (),
) -> Detector:
    """Build backbone, neck and heads.

    Args:
        vit: Settings of the ViT.
        kind: What makes maps of it: the adapter, four of its blocks, or its last map alone.
        adapter: Settings of the adapter, where there is one.
        detector: Settings of neck and heads.
        num_classes: Classes, without background.
        out_blocks: The four blocks of ``plain_vit``, counted from 0; empty means the last of each quarter.
        windows: Of BEiT-3's vision side, one for each block, in patches; 0 sees the whole picture, and so
            does every block where this is empty. Other ViTs have their own.

    Raises:
        ConfigError: timm has no such model, or it is no plain ViT, or its patches will not do.
        ValueError: The parts do not go together.
    """
    backbone = backbone_on(
        vit,
        adapter if kind == "vit_adapter" else None,
        out_blocks=out_blocks,
        last_map=kind == "last_map",
        windows=windows,
    )
    width = backbone.width
    if isinstance(detector, TwoStageConfig):
        return build_two_stage(backbone, width, detector, num_classes=num_classes)
    if isinstance(detector, SparseRcnnConfig):
        return SparseRcnn(backbone, width, detector, num_classes=num_classes)
    return build_one_stage(backbone, width, detector, num_classes=num_classes)
