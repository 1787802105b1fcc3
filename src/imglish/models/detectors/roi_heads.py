"""What all stages of a two-stage detector share: the box head, its regions, and corrected boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.detectors.config import BoxHeadConfig, StageConfig, Stds
from imglish.models.detectors.mask_heads import conv_norm
from imglish.models.detectors.objects import Objects
from imglish.ops.assignment import assign_max_overlap
from imglish.ops.box_coding import NO_SHIFT, decode_boxes
from imglish.ops.box_sampling import BoxSampling, DrawOrder, draw_boxes
from imglish.ops.precision import at_least_fp32
from imglish.structures.two_stage import RoiSample


class BoxHead(nn.Module):
    """Name a region and correct its box.

    Args:
        in_width: Features of regions.
        config: Settings.
        num_classes: Classes, without background.
    """

    def __init__(self, in_width: int, config: BoxHeadConfig, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            conv_norm(config.conv_width if i else in_width, config.conv_width, 3, config.norm)
            for i in range(config.num_convs)
        )
        flat = (config.conv_width if config.num_convs else in_width) * config.grid**2
        self.linears = nn.ModuleList(
            nn.Linear(config.width if i else flat, config.width) for i in range(config.num_linears)
        )
        self.num_boxes = 1 if config.class_agnostic else num_classes
        self.classes = nn.Linear(config.width, num_classes + 1)
        self.deltas = nn.Linear(config.width, 4 * self.num_boxes)
        for linear in self.linears:
            assert isinstance(linear, nn.Linear)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear, std in ((self.classes, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, num_classes + 1) and changes (R, num_classes or 1, 4) of regions (R, C, g, g)."""
        for conv in self.convs:
            x = conv(x)
        x = x.flatten(1)
        for linear in self.linears:
            x = F.relu(linear(x))
        deltas = self.deltas(x).reshape(len(x), self.num_boxes, 4)
        return at_least_fp32(self.classes(x)), at_least_fp32(deltas)


def sample_regions(
    proposals: Sequence[Tensor],
    objects: Sequence[Objects],
    stage: StageConfig,
    sampling: BoxSampling,
    num_classes: int,
    draw: DrawOrder,
) -> RoiSample:
    """Choose the regions that a stage is trained on: the objects' own boxes and proposals.

    Args:
        proposals: (R, 4) of each picture.
        objects: Of each picture.
        stage: Which regions are whose.
        sampling: How many.
        num_classes: The label of background.
        draw: Random orders.

    Returns:
        Of each picture first the foreground, then the background.
    """
    parts = []
    for picture, (boxes, own) in enumerate(zip(proposals, objects, strict=True)):
        device, count = boxes.device, len(own.boxes)
        found = assign_max_overlap(boxes, own.boxes, stage.rule, own.crowd).targets
        numbers = torch.cat([torch.arange(count, device=device), found])
        chosen = torch.cat(draw_boxes(numbers, sampling, draw))
        region, number = torch.cat([own.boxes, boxes])[chosen], numbers[chosen]
        # One more for background, which has the last place and number -1.
        labels = torch.cat([own.labels, own.labels.new_tensor([num_classes])])[number]
        inside = number >= 0
        matched = region.clone()
        matched[inside] = own.boxes[number[inside]]
        pictures = torch.full_like(chosen, picture)
        parts.append(RoiSample(region, pictures, labels, number, matched, chosen < count))
    return RoiSample(*(torch.cat(column) for column in zip(*parts, strict=True)))


@torch.no_grad()
def correct_boxes(
    boxes: Sequence[Tensor],
    deltas: Sequence[Tensor],
    labels: Sequence[Tensor],
    stds: Stds,
    sizes: Sequence[tuple[int, int]],
) -> list[Tensor]:
    """Regions of each picture as a box head would have them, (R, 4); without gradients.

    Args:
        boxes: Regions (R, 4).
        deltas: Predicted changes (R, num_classes or 1, 4).
        labels: int64 (R,), the class whose changes are taken.
        stds: Of the stage.
        sizes: (height, width) of the pictures, onto whose border boxes are cut.
    """
    corrected = []
    for box, delta, label, size in zip(boxes, deltas, labels, sizes, strict=True):
        rows = torch.arange(len(box), device=box.device)
        own = delta[rows, label] if delta.shape[1] > 1 else delta[:, 0]
        corrected.append(decode_boxes(box, own, NO_SHIFT, stds, size))
    return corrected
