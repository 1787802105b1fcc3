"""A small convolutional backbone, small detectors on it, and pictures with objects."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from imglish.models.detectors.build import build_two_stage
from imglish.models.detectors.config import (
    BoxHeadConfig,
    MaskHeadConfig,
    NeckConfig,
    ProposalConfig,
    SemanticHeadConfig,
    TwoStageConfig,
    cascade_mask_rcnn,
    htc,
    mask_rcnn,
)
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.ops.anchors import AnchorShapes
from imglish.ops.box_sampling import BoxSampling, DrawOrder, random_order
from imglish.structures.instances import Instances
from imglish.structures.pyramid import FeaturePyramid

WIDTH, NUM_CLASSES = 8, 3
SIZE = (64, 96)


class Strides(nn.Module):
    """Convolutions of stride 2, whose maps of strides 4 to 32 are the pyramid."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.steps = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(3))

    def forward(self, images: Tensor) -> FeaturePyramid:
        """Map pictures (B, 3, H, W) to strides 4, 8, 16, 32."""
        maps = [self.stem(images)]
        for step in self.steps:
            maps.append(step(maps[-1].relu()))
        return FeaturePyramid({4 << level: x for level, x in enumerate(maps)})


def small(config: TwoStageConfig) -> TwoStageConfig:
    """Few features and regions; anchors of 8 to 128 pixels."""
    few = ProposalConfig(before_nms=50, kept=40)
    semantic = None
    if config.semantic_head is not None:
        semantic = SemanticHeadConfig(num_classes=4, num_convs=1, width=WIDTH)
    box = config.box_head
    return replace(
        config,
        neck=NeckConfig(width=WIDTH, attention_heads=2 if config.neck.attention_heads else 0),
        rpn=replace(
            config.rpn,
            anchors=AnchorShapes(scales=(2.0,)),
            sampling=BoxSampling(number=32, foreground_share=0.5),
            training=few,
            testing=few,
        ),
        box_head=BoxHeadConfig(
            num_convs=min(1, box.num_convs), num_linears=1, conv_width=WIDTH, width=16,
            norm=box.norm, class_agnostic=box.class_agnostic, grid=3,
        ),
        sampling=BoxSampling(number=24, foreground_share=0.25),
        mask_head=MaskHeadConfig(num_convs=1, width=WIDTH, grid=7),
        semantic_head=semantic,
    )  # fmt: skip


CONFIGS = {"mask_rcnn": small(mask_rcnn()), "cascade": small(cascade_mask_rcnn()), "htc": small(htc())}


def detector(config: TwoStageConfig, seed: int = 0) -> TwoStageDetector:
    """The detector on the small backbone."""
    torch.manual_seed(seed)
    return build_two_stage(Strides(), WIDTH, config, num_classes=NUM_CLASSES)


def images(count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def order(seed: int = 0) -> DrawOrder:
    return random_order(torch.device("cpu"), torch.Generator().manual_seed(seed))


def instances(
    boxes: list[list[float]], size: tuple[int, int] = SIZE, crowd: tuple[bool, ...] = ()
) -> Instances:
    """Objects whose masks are their boxes, their classes one after the other."""
    box = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    left, top, right, bottom = box[:, :, None, None].unbind(1)
    return Instances(
        boxes=box,
        labels=torch.arange(len(box)) % NUM_CLASSES,
        crowd=torch.tensor(crowd or [False] * len(box), dtype=torch.bool),
        masks=(x >= left) & (x < right) & (y >= top) & (y < bottom),
    )


def semantic(count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randint(0, 4, (count, *size), generator=torch.Generator().manual_seed(2))
