"""Detectors that say at every cell what is there: ATSS and GFL."""

from __future__ import annotations

from torch import Tensor, nn

from imglish.models.dense_heads.atss import AtssHead
from imglish.models.dense_heads.gfl import GflHead
from imglish.models.detectors.one_stage_config import STRIDES, OneStageConfig
from imglish.models.necks.fpn import Fpn
from imglish.structures.dense_boxes import DensePredictions


class OneStageDetector(nn.Module):
    """Pictures to classes and boxes at every cell; `decoding.boxes` makes detections of them.

    Args:
        backbone: Maps pictures to a `FeaturePyramid`.
        neck: Maps that to the pyramid of the head.
        head: Maps that to predictions.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: AtssHead | GflHead) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head

    def forward(self, images: Tensor) -> DensePredictions:
        """Map pictures (B, 3, H, W) to predictions for all cells of all levels.

        `losses.one_stage` needs nothing else in training. Images of a batch lie at the top left of their
        padding.
        """
        predictions: DensePredictions = self.head(self.neck(self.backbone(images)))
        return predictions


def build_one_stage(
    backbone: nn.Module, width: int, config: OneStageConfig, *, num_classes: int
) -> OneStageDetector:
    """Put neck and head on a backbone.

    Args:
        backbone: Maps pictures to a `FeaturePyramid` of strides 4, 8, 16, 32, the first of which is not used.
        width: Channels of its maps.
        config: Settings.
        num_classes: Classes.
    """
    neck = Fpn((width,) * 4, config.width, first_level=1, num_extra=2, extra="output")
    if config.kind == "atss":
        atss = AtssHead(
            in_width=config.width,
            num_classes=num_classes,
            num_levels=len(STRIDES),
            width=config.width,
            num_convs=config.num_convs,
            num_groups=config.num_groups,
            anchor_scale=config.anchor_scale,
        )
        return OneStageDetector(backbone, neck, atss)
    gfl = GflHead(
        in_width=config.width,
        num_classes=num_classes,
        num_levels=len(STRIDES),
        width=config.width,
        num_convs=config.num_convs,
        num_groups=config.num_groups,
        anchor_scale=config.anchor_scale,
        max_distance=config.max_distance,
    )
    return OneStageDetector(backbone, neck, gfl)
