"""Sparse R-CNN (arXiv 2011.12450): learned boxes, corrected stage by stage until they fit objects.

Sizes and numbers of layers are read off the official names and shapes (adapter FACTS, section 10); the steps
of a stage are the paper's, the sampling ratio and the deviations of changes the official config's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imglish.models.detectors.dynamic_head import DynamicHead
from imglish.models.detectors.sparse_config import STRIDES, SparseRcnnConfig
from imglish.models.necks.fpn import Fpn
from imglish.ops.box_coding import NO_SHIFT, decode_boxes
from imglish.ops.roi_align import pyramid_roi_align
from imglish.structures.box_set import BoxSet
from imglish.structures.pyramid import FeaturePyramid

DELTA_STDS = (0.5, 0.5, 1.0, 1.0)  # what predicted changes of boxes are multiplied by


class LearnedProposals(nn.Module):
    """Boxes and features that are the same for every picture.

    Args:
        number: Proposals.
        width: Features of each.
    """

    def __init__(self, number: int, width: int) -> None:
        super().__init__()
        # Centre and sides in shares of the picture; at first each is the whole of it.
        self.boxes = nn.Parameter(torch.tensor([0.5, 0.5, 1.0, 1.0]).repeat(number, 1))
        self.features = nn.Parameter(torch.randn(number, width))

    def forward(self, sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Boxes (B, Q, 4) in pixels of pictures of (height, width), and features (B, Q, C)."""
        sides = self.boxes.new_tensor([(width, height) for height, width in sizes])[:, None]
        centers, extents = self.boxes[:, :2] * sides, self.boxes[:, 2:] * sides
        boxes = torch.cat([centers - extents / 2, centers + extents / 2], dim=-1)
        return boxes, self.features.expand(len(sizes), -1, -1)


class SparseRcnn(nn.Module):
    """Pictures to sets of boxes; `decoding.box_sets` makes detections of the last one.

    Args:
        backbone: Maps pictures to a `FeaturePyramid` of strides 4, 8, 16, 32.
        width: Channels of its maps.
        config: Settings.
        num_classes: Classes, without background.

    Raises:
        ValueError: There are no classes.
    """

    def __init__(
        self, backbone: nn.Module, width: int, config: SparseRcnnConfig, *, num_classes: int
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1; got {num_classes}")
        self.config = config
        self.backbone = backbone
        self.neck = Fpn((width,) * len(STRIDES), config.width)
        self.proposals = LearnedProposals(config.num_proposals, config.width)
        self.stages = nn.ModuleList(DynamicHead(config, num_classes) for _ in range(config.num_stages))

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[BoxSet, ...]:
        """Correct the learned boxes.

        `losses.sparse_rcnn` needs nothing else in training. A stage's boxes have gradients of that stage
        alone; features have those of all stages after it.

        Args:
            images: (B, 3, H, W), each picture at the top left of its padding.
            sizes: (height, width) of each picture without padding.

        Returns:
            What is said after each stage; the last is the answer.
        """
        pyramid: FeaturePyramid = self.neck(self.backbone(images))
        maps = [pyramid[stride] for stride in STRIDES]
        boxes, features = self.proposals(sizes)
        count = self.config.num_proposals
        pictures = torch.arange(len(images), device=images.device).repeat_interleave(count)
        found = []
        for stage in self.stages:
            regions = pyramid_roi_align(
                maps,
                STRIDES,
                boxes.detach().flatten(0, 1),
                pictures,
                size=self.config.grid,
                sampling_ratio=self.config.sampling_ratio,
            )
            features, classes, deltas = stage(features, regions)
            corrected = decode_boxes(boxes, deltas, NO_SHIFT, DELTA_STDS)
            found.append(BoxSet(classes, corrected))
            boxes = corrected.detach()
        return tuple(found)
