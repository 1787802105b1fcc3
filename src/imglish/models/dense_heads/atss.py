"""The head of ATSS (arXiv 1912.02424): classes, boxes and how central a cell lies, at every cell."""

from __future__ import annotations

from torch import Tensor, nn

from imglish.models.dense_heads.box_towers import BoxTowers, by_cell, init_dense_head, level_scales
from imglish.ops.anchors import square_levels
from imglish.structures.dense_boxes import AtssPredictions
from imglish.structures.pyramid import FeaturePyramid


class AtssHead(nn.Module):
    """Predictions from all levels of a pyramid.

    Args:
        in_width: Channels of the levels.
        num_classes: Classes.
        num_levels: Levels of the pyramid.
        width: Channels of the convolutions: 256 as published.
        num_convs: Convolutions before the predictions, for classes and for boxes each.
        num_groups: Groups of their norms.
        anchor_scale: Side of the square anchor around a cell, in cells.
    """

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
    ) -> None:
        super().__init__()
        self.anchor_scale = anchor_scale
        self.towers = BoxTowers(in_width=in_width, width=width, num_convs=num_convs, num_groups=num_groups)
        self.classifier = nn.Conv2d(width, num_classes, 3, padding=1)
        self.deltas = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = level_scales(num_levels)
        init_dense_head(self, self.classifier)

    def forward(self, pyramid: FeaturePyramid) -> AtssPredictions:
        """Predict from a pyramid of ``num_levels`` levels."""
        classes: list[Tensor] = []
        deltas: list[Tensor] = []
        centerness: list[Tensor] = []
        for scale, x in zip(self.scales, pyramid.maps.values(), strict=True):
            for_classes, for_boxes = self.towers(x)
            classes.append(by_cell(self.classifier(for_classes)))
            deltas.append(by_cell(scale * self.deltas(for_boxes)))
            centerness.append(by_cell(self.centerness(for_boxes))[..., 0])
        levels = square_levels(pyramid.sizes(), self.anchor_scale, classes[0].device)
        return AtssPredictions(levels, tuple(classes), tuple(deltas), tuple(centerness))
