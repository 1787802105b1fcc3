"""Heads that look at regions, once (Mask R-CNN) or in a cascade (arXiv 1712.00726)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.mask_heads import MaskHead
from imglish.models.detectors.objects import Objects
from imglish.models.detectors.roi_heads import BoxHead, correct_boxes, sample_regions
from imglish.ops.box_coding import NO_SHIFT, decode_boxes
from imglish.ops.box_sampling import DrawOrder
from imglish.ops.mask_regions import crop_masks
from imglish.ops.roi_align import pyramid_roi_align
from imglish.structures.pyramid import FeaturePyramid
from imglish.structures.two_stage import BoxStage, Candidates, MaskStage, RoiSample


class Scene(NamedTuple):
    """What heads read of a batch of pictures.

    Args:
        pyramid: All levels, those of the region proposals too.
        semantic: Features (B, C, h, w) of a semantic branch.
        semantic_logits: Its classes (B, num_classes, h, w).
    """

    pyramid: FeaturePyramid
    semantic: Tensor | None = None
    semantic_logits: Tensor | None = None


class CascadeHeads(nn.Module):
    """A box head and a mask head for each stage; each stage looks at the boxes that the last one corrected.

    Args:
        width: Features of the pyramid.
        config: Settings.
        num_classes: Classes, without background.
    """

    def __init__(self, width: int, config: TwoStageConfig, num_classes: int) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes
        self.box_heads = nn.ModuleList(BoxHead(width, config.box_head, num_classes) for _ in config.stages)
        self.mask_heads = nn.ModuleList()
        if config.mask_head is not None:
            self.mask_heads.extend(
                MaskHead(width, config.mask_head, num_classes, reads_last=config.interleaved and stage > 0)
                for stage in range(len(config.stages))
            )

    def scene(self, pyramid: FeaturePyramid) -> Scene:
        """What the heads read of pictures, computed once for all regions."""
        return Scene(pyramid)

    def training_stages(
        self,
        scene: Scene,
        proposals: Sequence[Tensor],
        objects: Sequence[Objects],
        sizes: Sequence[tuple[int, int]],
        draw: DrawOrder,
    ) -> tuple[tuple[BoxStage, ...], tuple[MaskStage, ...]]:
        """All heads on regions drawn for each.

        Args:
            scene: Of the pictures.
            proposals: Boxes (R, 4) of each.
            objects: Of each.
            sizes: (height, width) of each.
            draw: Random orders.

        Raises:
            ValueError: There are mask heads, but objects without masks.
        """
        boxes, masks = [], []
        for number, stage in enumerate(self.config.stages):
            sample = self._sample(number, proposals, objects, draw)
            classes, deltas = self._box_logits(scene, number, sample.boxes, sample.pictures)
            boxes.append(BoxStage(sample, classes, deltas, stage.stds))
            if self.config.interleaved or number + 1 < len(self.config.stages):
                proposals = self._corrected(boxes[-1], sizes)
            if self.mask_heads:
                if self.config.interleaved:
                    sample = self._sample(number, proposals, objects, draw)
                masks.append(self._mask_stage(scene, number, sample, objects))
        return tuple(boxes), tuple(masks)

    def candidates(
        self, scene: Scene, proposals: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Candidates]:
        """Boxes and scores of all classes for each proposal of each picture.

        Scores are of the mean of all stages' logits, boxes of the last stage.
        """
        counts = [len(part) for part in proposals]
        pictures = _pictures_of(proposals)
        boxes, logits = list(proposals), []
        for number, stage in enumerate(self.config.stages):
            classes, deltas = self._box_logits(scene, number, torch.cat(boxes), pictures)
            logits.append(classes)
            if number + 1 < len(self.config.stages):
                labels = classes[:, :-1].argmax(dim=1)
                boxes = correct_boxes(boxes, deltas.split(counts), labels.split(counts), stage.stds, sizes)
        scores = torch.stack(logits).mean(dim=0).softmax(dim=1)[:, :-1]
        stds = self.config.stages[-1].stds
        return [
            Candidates(decode_boxes(box[:, None], delta, NO_SHIFT, stds, size), score)
            for box, delta, score, size in zip(
                boxes, deltas.split(counts), scores.split(counts), sizes, strict=True
            )
        ]

    def mask_probabilities(
        self, scene: Scene, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Tensor]:
        """Masks (N, M, M) in [0, 1] of given boxes (N, 4) of given classes, of each picture.

        They are the mean of all stages.
        """
        assert self.config.mask_head is not None, "this detector finds boxes only"
        pictures, label = _pictures_of(boxes), torch.cat(list(labels))
        rows = torch.arange(len(label), device=label.device)
        x = self.region_features(scene, torch.cat(list(boxes)), pictures, self.config.mask_head.grid)
        masks = [logits[rows, label].sigmoid() for logits in self.mask_logits(x, len(self.mask_heads) - 1)]
        return list(torch.stack(masks).mean(dim=0).split([len(part) for part in boxes]))

    def region_features(self, scene: Scene, boxes: Tensor, pictures: Tensor, grid: int) -> Tensor:
        """Features (R, width, grid, grid) of boxes (R, 4) of pictures int64 (R,)."""
        strides = self.config.strides
        maps = [scene.pyramid[stride] for stride in strides]
        return pyramid_roi_align(maps, strides, boxes, pictures, size=grid)

    def mask_logits(self, x: Tensor, stage: int) -> list[Tensor]:
        """Mask logits (P, num_classes, M, M) of all stages up to one, from features of regions."""
        heads = list(self.mask_heads)[: stage + 1]
        return [head(_mask_head(head).features(x)) for head in heads]

    def training_mask_logits(self, x: Tensor, stage: int) -> Tensor:
        """Mask logits (P, num_classes, M, M) of one stage, from features of regions."""
        head = _mask_head(self.mask_heads[stage])
        logits: Tensor = head(head.features(x))
        return logits

    def _sample(
        self, stage: int, proposals: Sequence[Tensor], objects: Sequence[Objects], draw: DrawOrder
    ) -> RoiSample:
        config = self.config
        return sample_regions(
            proposals, objects, config.stages[stage], config.sampling, self.num_classes, draw
        )

    def _box_logits(self, scene: Scene, stage: int, boxes: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = self.region_features(scene, boxes, pictures, self.config.box_head.grid)
        classes, deltas = self.box_heads[stage](x)
        return classes, deltas

    def _corrected(self, stage: BoxStage, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Proposals for the next stage: the regions of this one, but for the objects' own boxes."""
        sample = stage.sample
        guessed = stage.classes[:, :-1].argmax(dim=1)
        labels = torch.where(sample.labels == self.num_classes, guessed, sample.labels)
        kept = ~sample.is_truth
        chosen = [kept & (sample.pictures == picture) for picture in range(len(sizes))]
        boxes, deltas, label = ([x[place] for place in chosen] for x in (sample.boxes, stage.deltas, labels))
        return correct_boxes(boxes, deltas, label, stage.stds, sizes)

    def _mask_stage(
        self, scene: Scene, stage: int, sample: RoiSample, objects: Sequence[Objects]
    ) -> MaskStage:
        assert self.config.mask_head is not None
        grid = self.config.mask_head.grid
        inside = sample.objects >= 0
        boxes, pictures = sample.boxes[inside], sample.pictures[inside]
        targets = []
        for picture, own in enumerate(objects):
            place = pictures == picture
            if own.masks is None:
                raise ValueError("this detector learns masks, but the targets of a picture have none")
            targets.append(crop_masks(own.masks, sample.objects[inside][place], boxes[place], 2 * grid))
        x = self.region_features(scene, boxes, pictures, grid)
        return MaskStage(self.training_mask_logits(x, stage), sample.labels[inside], torch.cat(targets))


def _pictures_of(boxes: Sequence[Tensor]) -> Tensor:
    """The picture of each box, int64, one picture after the other."""
    return torch.cat([torch.full(x.shape[:1], i, device=x.device) for i, x in enumerate(boxes)])


def _mask_head(module: nn.Module) -> MaskHead:
    assert isinstance(module, MaskHead)
    return module
