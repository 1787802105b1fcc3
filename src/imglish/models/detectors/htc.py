"""Hybrid Task Cascade (arXiv 1901.07518): masks in turn with boxes, mask flow, and a semantic branch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from imglish.models.detectors.cascade import CascadeHeads, Scene
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.mask_heads import MaskHead, SemanticHead
from imglish.ops.roi_align import roi_align
from imglish.structures.pyramid import FeaturePyramid


class HybridTaskCascadeHeads(CascadeHeads):
    """A cascade whose mask heads read each other, and whose regions have semantic features added.

    Args:
        width: Features of the pyramid.
        config: Settings; interleaved.
        num_classes: Classes, without background.
        num_levels: Levels of the pyramid.
    """

    def __init__(self, width: int, config: TwoStageConfig, num_classes: int, num_levels: int) -> None:
        super().__init__(width, config, num_classes)
        semantic = config.semantic_head
        self.semantic_head = None if semantic is None else SemanticHead(width, num_levels, semantic)

    def scene(self, pyramid: FeaturePyramid) -> Scene:
        """The pyramid and the semantic branch's view of it."""
        if self.semantic_head is None:
            return Scene(pyramid)
        logits, features = self.semantic_head(list(pyramid.maps.values()), pyramid.strides)
        return Scene(pyramid, features, logits)

    def region_features(self, scene: Scene, boxes: Tensor, pictures: Tensor, grid: int) -> Tensor:
        """Features (R, width, grid, grid) of boxes, the semantic branch's added."""
        x = super().region_features(scene, boxes, pictures, grid)
        if self.semantic_head is None:
            return x
        assert scene.semantic is not None and self.config.mask_head is not None
        scale = 1 / self.semantic_head.stride
        # Read as finely as masks are, and averaged for boxes.
        fine = self.config.mask_head.grid
        semantic = roi_align(scene.semantic, boxes, pictures, size=fine, scale=scale)
        return x + (semantic if fine == grid else F.adaptive_avg_pool2d(semantic, grid))

    def mask_logits(self, x: Tensor, stage: int) -> list[Tensor]:
        """Mask logits of all stages up to one; each head reads the features of the one before."""
        last, logits = None, []
        for head in list(self.mask_heads)[: stage + 1]:
            assert isinstance(head, MaskHead)
            last = head.features(x, last)
            logits.append(head(last))
        return logits

    def training_mask_logits(self, x: Tensor, stage: int) -> Tensor:
        """Mask logits of one stage; heads before it give their features."""
        last = None
        for head in list(self.mask_heads)[: stage + 1]:
            assert isinstance(head, MaskHead)
            last = head.features(x, last)
        logits: Tensor = self.mask_heads[stage](last)
        return logits
