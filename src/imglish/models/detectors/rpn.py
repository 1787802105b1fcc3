"""The region proposal network (arXiv 1506.01497): anchors that may hold an object, on every level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.detectors.config import ProposalConfig, RpnConfig
from imglish.models.detectors.objects import Objects
from imglish.ops.anchors import cells_on_picture, inside_picture, pyramid_anchors
from imglish.ops.assignment import assign_max_overlap
from imglish.ops.box_coding import decode_boxes
from imglish.ops.box_sampling import DrawOrder, draw_boxes
from imglish.ops.nms import classwise_nms
from imglish.ops.precision import at_least_fp32
from imglish.structures.pyramid import FeaturePyramid
from imglish.structures.two_stage import RpnSample

_SIZE_DIVISOR = 32  # pictures of the official code are padded to multiples of it, cells there count as theirs


class RpnOutputs(NamedTuple):
    """Raw predictions, level by level; N_l anchors on a level.

    Args:
        objectness: Logits (B, N_l).
        deltas: Predicted changes (B, N_l, 4).
        anchors: (N_l, 4).
        strides: Of the levels.
        grids: (rows, columns) of the levels.
    """

    objectness: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]
    strides: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]


class RegionProposals(nn.Module):
    """Predict for every anchor whether it holds an object, and how it must change to fit it.

    Args:
        width: Features of the pyramid.
        config: Settings.
    """

    def __init__(self, width: int, config: RpnConfig) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(config.num_convs))
        num_anchors = len(config.anchors)
        self.objectness = nn.Conv2d(width, num_anchors, 1)
        self.deltas = nn.Conv2d(width, 4 * num_anchors, 1)
        for conv in (*self.convs, self.objectness, self.deltas):
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, pyramid: FeaturePyramid) -> RpnOutputs:
        """Predictions for all anchors of a pyramid."""
        objectness, deltas = [], []
        for x in pyramid.maps.values():
            for conv in self.convs:
                x = F.relu(conv(x))
            objectness.append(at_least_fp32(_by_anchor(self.objectness(x), 1)[..., 0]))
            deltas.append(at_least_fp32(_by_anchor(self.deltas(x), 4)))
        sizes = pyramid.sizes()
        anchors = pyramid_anchors(sizes, self.config.anchors, objectness[0].device)
        return RpnOutputs(objectness, deltas, anchors, pyramid.strides, tuple(sizes.values()))

    @torch.no_grad()
    def propose(
        self, outputs: RpnOutputs, sizes: Sequence[tuple[int, int]], thinning: ProposalConfig
    ) -> list[Tensor]:
        """The best boxes of each picture, (R, 4), best first; without gradients.

        Args:
            outputs: Of `forward`.
            sizes: (height, width) of each picture, onto whose border boxes are cut.
            thinning: How many.
        """
        return [self._propose_one(outputs, picture, size, thinning) for picture, size in enumerate(sizes)]

    def _propose_one(
        self, outputs: RpnOutputs, picture: int, size: tuple[int, int], thinning: ProposalConfig
    ) -> Tensor:
        scores, boxes, levels = [], [], []
        for level, anchors in enumerate(outputs.anchors):
            own = outputs.objectness[level][picture].sigmoid()
            best = own.topk(min(thinning.before_nms, len(own))).indices
            scores.append(own[best])
            boxes.append(decode_boxes(anchors[best], outputs.deltas[level][picture][best], size=size))
            levels.append(torch.full_like(best, level))
        found, sure, level_of = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        # Boxes without an area are left out, and those of a network gone astray, whose sides are no numbers.
        solid = ((found[:, 2:] - found[:, :2]) > 0).all(dim=1)
        found, sure, level_of = found[solid], sure[solid], level_of[solid]
        return found[classwise_nms(found, sure, level_of, self.config.nms, thinning.kept).indices]

    def sample(
        self,
        outputs: RpnOutputs,
        sizes: Sequence[tuple[int, int]],
        objects: Sequence[Objects],
        draw: DrawOrder,
    ) -> RpnSample:
        """Choose the anchors to be trained on.

        Args:
            outputs: Of `forward`.
            sizes: (height, width) of each picture.
            objects: Of each picture.
            draw: Random orders.
        """
        anchors = torch.cat(outputs.anchors)
        level_of = torch.cat(
            [torch.full(own.shape[:1], i, device=own.device) for i, own in enumerate(outputs.anchors)]
        )
        objectness, deltas = torch.cat(outputs.objectness, dim=1), torch.cat(outputs.deltas, dim=1)
        places, rows, matched, foreground, count = [], [], [], [], 0
        for picture, (size, own) in enumerate(zip(sizes, objects, strict=True)):
            usable = self._usable(outputs, size).nonzero()[:, 0]
            numbers = assign_max_overlap(anchors[usable], own.boxes, self.config.rule, own.crowd).targets
            drawn = draw_boxes(numbers, self.config.sampling, draw)
            chosen = torch.cat(drawn)
            places.append(usable[chosen])
            rows.append(torch.full_like(chosen, picture))
            background = anchors[usable[drawn.background]]
            matched.append(torch.cat([own.boxes[numbers[drawn.foreground]], background]))
            foreground.append(numbers[chosen] >= 0)
            count += sum(max(1, len(part)) for part in drawn)
        place, row = torch.cat(places), torch.cat(rows)
        return RpnSample(
            objectness[row, place],
            deltas[row, place],
            anchors[place],
            torch.cat(matched),
            torch.cat(foreground),
            level_of[place],
            torch.tensor(count, device=anchors.device),
        )

    def _usable(self, outputs: RpnOutputs, size: tuple[int, int]) -> Tensor:
        """True for anchors of all levels (N,) that a picture of that size is trained on."""
        padded = tuple(side + -side % _SIZE_DIVISOR for side in size)
        on_picture = [
            torch.ones(len(a), dtype=torch.bool, device=a.device)
            if self.config.on_padding
            else cells_on_picture(grid, stride, (padded[0], padded[1]), len(self.config.anchors), a.device)
            for grid, stride, a in zip(outputs.grids, outputs.strides, outputs.anchors, strict=True)
        ]
        usable = torch.cat(on_picture)
        if self.config.border is None:
            return usable
        return usable & inside_picture(torch.cat(outputs.anchors), size, self.config.border)


def _by_anchor(x: Tensor, parts: int) -> Tensor:
    """Maps (B, A * parts, H, W) as (B, H * W * A, parts), in the order of anchors."""
    batch = x.shape[0]
    return x.permute(0, 2, 3, 1).reshape(batch, -1, parts)
