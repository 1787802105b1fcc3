"""Detection as a run: which detector on which ViT, and how pictures are prepared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from imglish.data.transforms.detection import (
    ChosenScale,
    DetectionTraining,
    DetectionViews,
    ScaleRange,
    htc_scales,
    large_scale_jitter,
    many_scales,
)
from imglish.data.transforms.segmentation import Pictures
from imglish.decoding.boxes import DenseSelection
from imglish.losses.one_stage import OneStageLoss
from imglish.losses.sparse_rcnn import SparseRcnnLoss
from imglish.losses.two_stage import TwoStageLoss
from imglish.models.beit3.config import Beit3Config
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.vit_adapter.backbone_config import BackboneConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.data_config import at_least

DetectorConfig = TwoStageConfig | OneStageConfig | SparseRcnnConfig | Mask2FormerConfig
Areas = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionPictures:
    """How detection's pictures are prepared, in training and in scoring.

    The defaults are those of the official 1x configs (adapter FACTS, section 8).

    Args:
        pipeline: Of training: ``one_scale`` fits pictures into ``scale``; ``many_scales`` is DETR's (the 3x
            schedule); ``large_scale_jitter`` crops and pads to a square of ``side``; ``htc`` draws a scale
            of ``longer`` x ``shorter``.
        scale: (longer, shorter) side in pixels of ``one_scale``.
        side: Of ``large_scale_jitter``, in pixels.
        crop: Side of the crop after ``many_scales``, in pixels; 0 makes none, as for panoptic segments.
        longer: Longer side of ``htc``, in pixels.
        shorter: Least and most pixels of its shorter side.
        paste: True has ``htc`` paste objects of other pictures in.
        flip: Chance that a training picture is flipped, in [0, 1].
        range: ImageNet's mean and deviation (``imagenet``), or [-1, 1] (``model``), as BEiT-3 wants.
        scored_scales: (longer, shorter) sides that scored pictures are fitted into, one view for each.
        scored_flip: True shows each view flipped as well.
        scored_areas: Which boxes the views of each scale give, by their areas in pixels of the stored
            picture: above the first, up to the second; empty takes all of every view.
    """

    pipeline: Literal["one_scale", "many_scales", "large_scale_jitter", "htc"] = "one_scale"
    scale: tuple[int, int] = (1333, 800)
    side: int = 1024
    crop: int = 1024
    longer: int = 1600
    shorter: tuple[int, int] = (400, 1400)
    paste: bool = True
    flip: float = 0.5
    range: Pictures = "imagenet"
    scored_scales: tuple[tuple[int, int], ...] = ((1333, 800),)
    scored_flip: bool = False
    scored_areas: tuple[Areas, ...] = ()

    def __post_init__(self) -> None:
        self.training(), self.views()  # each checks its settings
        if self.scored_areas and len(self.scored_areas) != len(self.scored_scales):
            raise ValueError(
                f"scored_areas has {len(self.scored_areas)} ranges for {len(self.scored_scales)} scales"
            )

    def training(self) -> DetectionTraining:
        """The transform of training pictures."""
        match self.pipeline:
            case "one_scale":
                chosen = DetectionTraining(scaling=ChosenScale(scales=(self.scale,)), pictures=self.range)
            case "many_scales":
                chosen = replace(many_scales(self.range), crop=(self.crop,) * 2 if self.crop else None)
            case "large_scale_jitter":
                chosen = large_scale_jitter(self.side, self.range)
            case "htc":
                sides = ScaleRange(longer=(self.longer,) * 2, shorter=self.shorter)
                chosen = replace(htc_scales(self.range, paste=self.paste), scaling=sides)
        return replace(chosen, flip=self.flip)

    def views(self) -> DetectionViews:
        """How a picture to be scored is shown."""
        return DetectionViews(scales=self.scored_scales, flip=self.scored_flip, pictures=self.range)

    def areas(self) -> tuple[Areas, ...]:
        """Which boxes each view gives; empty: all of every view."""
        times = 2 if self.scored_flip else 1
        return tuple(area for area in self.scored_areas for _ in range(times))


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionTask:
    """Boxes, or boxes and masks, of objects over a plain ViT.

    Args:
        model: The ViT: a BEiT-3, whose vision side is taken, or of kind ``vit`` (DeiT, AugReg, MAE, DINOv2),
            ``beit``, ``uniperceiver`` or ``timm``.
        backbone: ``vit_adapter``; ``plain_vit``: maps of four blocks, enlarged and made smaller; or
            ``last_map``: the last map alone, for a detector whose neck is ``simple`` (ViTDet).
        adapter: Settings of the adapter; the others have none.
        out_blocks: The blocks of ``plain_vit``, counted from 0; empty means the last of each quarter.
        windows: Side of the windows, in patches, that attention of each of BEiT-3's blocks stays within; 0
            sees the whole picture, and so does every block where this is empty. Other ViTs have their own,
            and Mask2Former has none over BEiT-3.
        detector: Mask R-CNN, Cascade Mask R-CNN or HTC++ (``two_stage``), ``atss``, ``gfl``, or
            ``mask2former``.
        pictures: How they are prepared.
        panoptic: True has Mask2Former find the segments of things and stuff, not instances.
        two_stage_loss: Weights and kinds of the terms of two-stage detectors.
        one_stage_loss: The same of ATSS and GFL.
        sparse_rcnn_loss: The same of Sparse R-CNN.
        selection: Which boxes of ATSS and GFL are kept; two-stage detectors have their own.
        num_points: Points at which Mask2Former compares masks.
        batch_size: Over all ranks.

    Raises:
        ValueError: The parts do not go together.
    """

    kind: Literal["detection"] = "detection"
    model: BackboneConfig = Beit3Config()
    backbone: Literal["vit_adapter", "plain_vit", "last_map"] = "vit_adapter"
    adapter: ViTAdapterConfig = ViTAdapterConfig()
    out_blocks: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    detector: DetectorConfig = field(default_factory=TwoStageConfig)
    pictures: DetectionPictures = DetectionPictures()
    panoptic: bool = False
    two_stage_loss: TwoStageLoss = TwoStageLoss()
    one_stage_loss: OneStageLoss = OneStageLoss()
    sparse_rcnn_loss: SparseRcnnLoss = SparseRcnnLoss()
    selection: DenseSelection = field(default_factory=DenseSelection)
    num_points: int = 12_544
    batch_size: int = 16

    def __post_init__(self) -> None:
        at_least(self, num_points=1, batch_size=1)
        simple = isinstance(self.detector, TwoStageConfig) and self.detector.neck.kind == "simple"
        if (self.backbone == "last_map") != simple:
            raise ValueError(
                "backbone last_map and a neck of kind simple belong together; got "
                f"backbone {self.backbone} and {'a simple neck' if simple else 'another neck'}"
            )
        if self.windows and isinstance(self.detector, Mask2FormerConfig):
            raise ValueError("Mask2Former has no windows over BEiT-3; leave windows empty")
        if self.panoptic and not isinstance(self.detector, Mask2FormerConfig):
            raise ValueError(f"panoptic segments are found by mask2former; got {self.detector.kind}")
        several = len(self.pictures.scored_scales) > 1 or self.pictures.scored_flip
        if isinstance(self.detector, Mask2FormerConfig | SparseRcnnConfig) and several:
            raise ValueError(
                f"{self.detector.kind} is scored in one view; give one of scored_scales and no scored_flip"
            )
