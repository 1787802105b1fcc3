"""The head of GFL (arXiv 2006.04388): scores that say how good a box is, and sides as distributions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.models.dense_heads.box_towers import BoxTowers, by_cell, init_dense_head, level_scales
from imglish.ops.anchors import square_levels
from imglish.ops.precision import at_least_fp32
from imglish.structures.dense_boxes import GflPredictions
from imglish.structures.pyramid import FeaturePyramid


class GflHead(nn.Module):
    """Predictions from all levels of a pyramid.

    Args:
        in_width: Channels of the levels.
        num_classes: Classes.
        num_levels: Levels of the pyramid.
        width: Channels of the convolutions: 256 as published.
        num_convs: Convolutions before the predictions, for classes and for boxes each.
        num_groups: Groups of their norms.
        anchor_scale: Side of the square anchor around a cell, in cells.
        max_distance: R: a side is at most so many cells away; the distances 0 to R have a logit each.
    """

    distances: Tensor

    def __init__(
        self,
        *,
        in_width: int,
        num_classes: int,
        num_levels: int = 5,
        width: int = 256,
        num_convs: int = 4,
        num_groups: int = 32,
        anchor_scale: float = 8.0,
        max_distance: int = 16,
    ) -> None:
        super().__init__()
        self.anchor_scale = anchor_scale
        self.towers = BoxTowers(in_width=in_width, width=width, num_convs=num_convs, num_groups=num_groups)
        self.classifier = nn.Conv2d(width, num_classes, 3, padding=1)
        self.distributions = nn.Conv2d(width, 4 * (max_distance + 1), 3, padding=1)
        self.scales = level_scales(num_levels)
        # The official files hold it, so it is no constant.
        self.register_buffer("distances", torch.arange(max_distance + 1, dtype=torch.float32))
        init_dense_head(self, self.classifier)

    def forward(self, pyramid: FeaturePyramid) -> GflPredictions:
        """Predict from a pyramid of ``num_levels`` levels."""
        classes: list[Tensor] = []
        distributions: list[Tensor] = []
        distances: list[Tensor] = []
        for scale, x in zip(self.scales, pyramid.maps.values(), strict=True):
            for_classes, for_boxes = self.towers(x)
            classes.append(by_cell(self.classifier(for_classes)))
            logits = by_cell(scale * self.distributions(for_boxes)).unflatten(2, (4, -1))
            distributions.append(logits)
            # A sum, not a product of matrices, which autocast would round.
            distances.append((at_least_fp32(logits).softmax(dim=-1) * self.distances).sum(dim=-1))
        levels = square_levels(pyramid.sizes(), self.anchor_scale, classes[0].device)
        return GflPredictions(levels, tuple(classes), tuple(distributions), tuple(distances))
