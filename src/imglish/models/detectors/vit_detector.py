"""The official detectors: a plain ViT, with an adapter or without, under a neck and heads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from imglish.models.detectors.build import build_two_stage
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.one_stage import OneStageDetector, build_one_stage
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.one_stage_weights import official_shapes, one_stage_map, our_shapes
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.models.detectors.sparse_weights import sparse_rcnn_map
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.detectors.weights import two_stage_map
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.join import dense_backbone
from imglish.models.vit_adapter.official import Family, model_to_official, model_to_ours
from imglish.models.weight_map import StateDict, WeightMap

DetectorConfig = TwoStageConfig | OneStageConfig | SparseRcnnConfig
Detector = TwoStageDetector | OneStageDetector | SparseRcnn


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTDetectorConfig:
    """Settings of a whole detector.

    Args:
        family: Which official backbone, whose names the official weights have.
        vit: Its ViT.
        adapter: The adapter; None is a plain baseline, which has maps of four of the ViT's blocks.
        detector: Neck and heads.
        num_classes: Classes, without background.
        out_blocks: The plain baseline's blocks, counted from 0; empty means the last of each quarter.

    Raises:
        ValueError: There are no classes, or no plain baseline of that family.
    """

    family: Family
    vit: ViTConfig
    adapter: ViTAdapterConfig | None
    detector: DetectorConfig
    num_classes: int
    out_blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1; got {self.num_classes}")
        if self.adapter is None and self.family == "uniperceiver":
            raise ValueError("there is no plain baseline of Uni-Perceiver; give an adapter")


def vit_detector(config: ViTDetectorConfig, *, norm: type[nn.Module] = nn.BatchNorm2d) -> Detector:
    """Build the detector.

    Args:
        config: Settings.
        norm: Batch norm of the adapter; `train.parallelize` synchronises it over ranks.
    """
    backbone = dense_backbone(
        ViT(config.vit),
        config.adapter,
        out_blocks=config.out_blocks,
        beit_pyramid=config.family == "beit",
        norm=norm,
    )
    if isinstance(config.detector, OneStageConfig):
        return build_one_stage(backbone, backbone.width, config.detector, num_classes=config.num_classes)
    if isinstance(config.detector, SparseRcnnConfig):
        return SparseRcnn(backbone, backbone.width, config.detector, num_classes=config.num_classes)
    return build_two_stage(backbone, backbone.width, config.detector, num_classes=config.num_classes)


def to_ours(
    state: StateDict, family: Family, detector: DetectorConfig, *, has_adapter: bool
) -> dict[str, Tensor]:
    """Official weights under our names and in our shapes.

    Args:
        state: Of an official detector, whole.
        family: Of its backbone.
        detector: Its neck and heads; sizes do not matter.
        has_adapter: False is a plain baseline.

    Raises:
        CheckpointError: A name has no rule.
    """
    ours = model_to_ours(state, family, _head_map(detector), has_adapter=has_adapter)
    return our_shapes(ours) if isinstance(detector, OneStageConfig) else ours


def to_official(state: StateDict, config: ViTDetectorConfig) -> dict[str, Tensor]:
    """Our weights under the official names, with the indices of relative positions that official files hold.

    Raises:
        CheckpointError: A name has no rule.
    """
    return model_to_official(
        official_shapes(state) if isinstance(config.detector, OneStageConfig) else state,
        config.family,
        _head_map(config.detector),
        config.vit,
        has_adapter=config.adapter is not None,
    )


def _head_map(detector: DetectorConfig) -> WeightMap:
    match detector:
        case OneStageConfig():
            return one_stage_map(detector)
        case SparseRcnnConfig():
            return sparse_rcnn_map()
        case TwoStageConfig():
            return two_stage_map(detector)
