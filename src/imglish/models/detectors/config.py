"""Settings of two-stage detectors: Mask R-CNN, Cascade Mask R-CNN and HTC++."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from imglish.ops.anchors import AnchorShapes
from imglish.ops.assignment import MaxOverlapRule
from imglish.ops.box_sampling import BoxSampling
from imglish.ops.box_selection import BoxSelection
from imglish.ops.nms import NmsSettings

Stds = tuple[float, float, float, float]
HeadNorm = Literal["none", "batch"]
NeckNorm = Literal["none", "batch", "group"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NeckConfig:
    """What lies between backbone and heads; a level of stride 64 is pooled from the last one.

    Args:
        kind: ``fpn`` top-down pyramid; ``mapper`` a convolution for each level alone (official "no_fpn");
            ``simple`` all levels from stride 16 (ViTDet).
        width: Features of all levels.
        norm: Behind each convolution of the pyramid: none, batch norm, or group norm of 32 groups.
        attention_heads: Heads of a Transformer layer on the coarsest level before it all (official
            "ExtraAttention" of HTC++: 32); 0 leaves it out.
        attention_drop_path: Stochastic depth of that layer.
    """

    kind: Literal["fpn", "mapper", "simple"] = "fpn"
    width: int = 256
    norm: NeckNorm = "none"
    attention_heads: int = 0
    attention_drop_path: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "width")
        if self.kind != "fpn" and self.norm != "none":
            raise ValueError(f"norm {self.norm} is a choice of a neck of kind fpn; got {self.kind}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalConfig:
    """How the region proposal network's boxes are thinned out.

    Args:
        before_nms: The best of a level.
        kept: The best of all levels after suppression.
    """

    before_nms: int
    kept: int

    def __post_init__(self) -> None:
        _positive(self, "before_nms", "kept")


@dataclass(frozen=True, kw_only=True, slots=True)
class RpnConfig:
    """The region proposal network (arXiv 1506.01497).

    Args:
        num_convs: 3 x 3 convolutions before the predictions.
        anchors: Shapes of the anchors of a cell.
        rule: Which anchors are foreground in training, which background.
        sampling: Which are trained on.
        border: Anchors that reach so far beyond the picture or farther are not trained on; None lets all.
        on_padding: True trains on the anchors of all cells of a batch, as where every picture is padded to
            the same square; False leaves out those beyond the picture's sides, rounded up to multiples of 32.
        training: Proposals of pictures to train on.
        testing: Of others.
        nms: Suppression among the proposals of a level.
    """

    num_convs: int = 1
    anchors: AnchorShapes = field(default_factory=AnchorShapes)
    rule: MaxOverlapRule = field(
        default_factory=lambda: MaxOverlapRule(positive=0.7, negative=0.3, low_quality=0.3)
    )
    sampling: BoxSampling = field(default_factory=lambda: BoxSampling(number=256, foreground_share=0.5))
    border: float | None = None
    on_padding: bool = False
    training: ProposalConfig = field(default_factory=lambda: ProposalConfig(before_nms=2000, kept=1000))
    testing: ProposalConfig = field(default_factory=lambda: ProposalConfig(before_nms=1000, kept=1000))
    nms: NmsSettings = field(default_factory=lambda: NmsSettings(max_overlap=0.7))

    def __post_init__(self) -> None:
        _positive(self, "num_convs")


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxHeadConfig:
    """The head that names regions and corrects their boxes.

    Args:
        num_convs: 3 x 3 convolutions.
        num_linears: Linear layers after them.
        conv_width: Features of the convolutions.
        width: Features of the linear layers.
        norm: Of the convolutions.
        class_agnostic: True corrects a box alike for all classes.
        grid: Cells of a region, in each direction.
    """

    num_convs: int = 0
    num_linears: int = 2
    conv_width: int = 256
    width: int = 1024
    norm: HeadNorm = "none"
    class_agnostic: bool = False
    grid: int = 7

    def __post_init__(self) -> None:
        _positive(self, "num_linears", "conv_width", "width", "grid")
        if self.num_convs < 0:
            raise ValueError(f"num_convs must be at least 0; got {self.num_convs}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskHeadConfig:
    """The head that draws the mask of a region.

    Args:
        num_convs: 3 x 3 convolutions before the enlargement.
        width: Features of them.
        norm: Of them.
        grid: Cells of a region, in each direction; masks have twice as many.
    """

    num_convs: int = 4
    width: int = 256
    norm: HeadNorm = "none"
    grid: int = 14

    def __post_init__(self) -> None:
        _positive(self, "num_convs", "width", "grid")


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticHeadConfig:
    """HTC's branch that names each pixel and lends its features to boxes and masks.

    Args:
        num_classes: Things and stuff: 183 in the official configs.
        stride: Of the level on which all are joined.
        num_convs: 3 x 3 convolutions after that.
        width: Features of them.
    """

    num_classes: int = 183
    stride: int = 8
    num_convs: int = 4
    width: int = 256

    def __post_init__(self) -> None:
        _positive(self, "num_classes", "stride", "num_convs", "width")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    """One box head's place in the cascade.

    Args:
        rule: Which regions are trained to be an object, which background.
        stds: What predicted changes are divided by.
    """

    rule: MaxOverlapRule
    stds: Stds


def stages(number: int, *, low_quality: bool) -> tuple[StageConfig, ...]:
    """The first stages of the published cascade, whose demands rise; 3 at most.

    Args:
        number: One is Mask R-CNN's.
        low_quality: True gives each object the regions that overlap with it most as well, if they do so as
            much as the stage asks.
    """
    limits = (0.5, 0.6, 0.7)[:number]
    stds: tuple[Stds, ...] = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
    return tuple(
        StageConfig(
            rule=MaxOverlapRule(positive=x, negative=x, low_quality=x if low_quality else None), stds=std
        )
        for x, std in zip(limits, stds, strict=False)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageConfig:
    """A detector that proposes regions and then looks at each.

    `mask_rcnn`, `mask_rcnn_upgraded`, `cascade_mask_rcnn`, `htc` and `htc_objects365` have the official
    settings.

    Args:
        kind: Tells it apart from other detectors in files.
        neck: Between backbone and heads.
        rpn: Region proposals.
        box_head: Of every stage.
        stages: One is Mask R-CNN, three a cascade (arXiv 1712.00726).
        sampling: Which regions of a picture are trained on.
        strides: Of the levels that regions are read off.
        mask_head: Of every stage; None finds boxes only.
        interleaved: True is HTC (arXiv 1901.07518): masks are trained on the regions that the stage's box
            head has corrected, and each mask head reads the one before.
        semantic_head: HTC's semantic branch.
        selection: Which boxes are kept.

    Raises:
        ValueError: There is no stage, or HTC's parts are asked for without the mask head.
    """

    kind: Literal["two_stage"] = "two_stage"
    neck: NeckConfig = field(default_factory=NeckConfig)
    rpn: RpnConfig = field(default_factory=RpnConfig)
    box_head: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    stages: tuple[StageConfig, ...] = field(default_factory=lambda: stages(1, low_quality=True))
    sampling: BoxSampling = field(default_factory=lambda: BoxSampling(number=512, foreground_share=0.25))
    strides: tuple[int, ...] = (4, 8, 16, 32)
    mask_head: MaskHeadConfig | None = field(default_factory=MaskHeadConfig)
    interleaved: bool = False
    semantic_head: SemanticHeadConfig | None = None
    selection: BoxSelection = field(default_factory=BoxSelection)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a two-stage detector has at least one stage")
        if self.interleaved and self.mask_head is None:
            raise ValueError("interleaved heads need a mask head")
        if self.semantic_head is not None and not self.interleaved:
            raise ValueError("the semantic branch belongs to interleaved heads")


def mask_rcnn() -> TwoStageConfig:
    """Mask R-CNN (arXiv 1703.06870) as the official configs have it."""
    return TwoStageConfig()


def cascade_mask_rcnn() -> TwoStageConfig:
    """Cascade Mask R-CNN as the official configs have it; its boxes learn by GIoU."""
    return TwoStageConfig(
        rpn=replace(RpnConfig(), border=0.0, training=ProposalConfig(before_nms=2000, kept=2000)),
        box_head=BoxHeadConfig(num_convs=4, num_linears=1, norm="batch"),
        stages=stages(3, low_quality=False),
    )


def mask_rcnn_upgraded() -> TwoStageConfig:
    """Mask R-CNN of the official "upgraded" configs over MAE: batch norms and more convolutions.

    Its pictures are padded to one square (large-scale jitter), on all of which proposals are trained.
    """
    return TwoStageConfig(
        neck=NeckConfig(norm="batch"),
        rpn=RpnConfig(num_convs=2, on_padding=True),
        box_head=BoxHeadConfig(num_convs=4, num_linears=1, norm="batch"),
        mask_head=MaskHeadConfig(norm="batch"),
    )


def htc(*, soft_proposals: bool = False, max_boxes: int = 100) -> TwoStageConfig:
    """HTC++ as the official configs have it.

    Args:
        soft_proposals: True suppresses proposals softly, as over BEiT and there alone.
        max_boxes: Of a picture: 300 over AugReg, 1000 of several views together.
    """
    rpn = replace(RpnConfig(), border=0.0, training=ProposalConfig(before_nms=2000, kept=2000))
    if soft_proposals:
        rpn = replace(rpn, nms=replace(rpn.nms, kind="linear"))
    return TwoStageConfig(
        neck=NeckConfig(attention_heads=32, attention_drop_path=0.3),
        rpn=rpn,
        box_head=BoxHeadConfig(num_convs=4, num_linears=1, class_agnostic=True),
        stages=stages(3, low_quality=True),
        interleaved=True,
        semantic_head=SemanticHeadConfig(),
        selection=BoxSelection(min_score=0.001, nms=NmsSettings(kind="linear"), max_boxes=max_boxes),
    )


def htc_objects365() -> TwoStageConfig:
    """HTC++ over BEiT v2 that was trained on Objects365 first: with norms; its boxes learn by GIoU."""
    plain = htc()
    return replace(
        plain, neck=replace(plain.neck, norm="group"), box_head=replace(plain.box_head, norm="batch")
    )


def _positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1; got {getattr(config, name)}")
