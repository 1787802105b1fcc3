"""The dynamic instance interactive head of Sparse R-CNN (arXiv 2011.12450, section 3.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.dense_heads.mask_decoder import QueryAttention
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.ops.precision import at_least_fp32

_FIRST_SCORE = 0.01  # of every class before training, as focal loss wants it (arXiv 1708.02002)


class DynamicConv(nn.Module):
    """Each proposal filters its region with two layers whose weights are made of its features.

    Args:
        width: Features of proposals and regions.
        hidden: Features between the two layers.
        grid: Cells of a region, in each direction.
    """

    def __init__(self, width: int, hidden: int, grid: int) -> None:
        super().__init__()
        self.width, self.hidden = width, hidden
        self.weights = nn.Linear(width, 2 * width * hidden)
        self.hidden_norm = nn.LayerNorm(hidden)
        self.cell_norm = nn.LayerNorm(width)
        self.output = nn.Linear(width * grid**2, width)
        self.output_norm = nn.LayerNorm(width)

    def forward(self, proposals: Tensor, regions: Tensor) -> Tensor:
        """Map proposals (N, C) and their regions (N, C, g, g) to what each sees of its own, (N, C)."""
        into, out = self.weights(proposals).chunk(2, dim=1)
        cells = regions.flatten(2).transpose(1, 2)
        cells = F.relu(self.hidden_norm(torch.bmm(cells, into.unflatten(1, (self.width, self.hidden)))))
        cells = F.relu(self.cell_norm(torch.bmm(cells, out.unflatten(1, (self.hidden, self.width)))))
        seen: Tensor = F.relu(self.output_norm(self.output(cells.flatten(1))))
        return seen


class DynamicHead(nn.Module):
    """One stage: proposals look at each other, then each at its region, and say what is there.

    Args:
        config: Settings.
        num_classes: Classes, without background.
    """

    def __init__(self, config: SparseRcnnConfig, num_classes: int) -> None:
        super().__init__()
        width = config.width
        self.attention = QueryAttention(width, config.num_heads)
        self.attention_norm = nn.LayerNorm(width)
        self.interaction = DynamicConv(width, config.dynamic_width, config.grid)
        self.interaction_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.feed_forward_width),
            nn.ReLU(),
            nn.Linear(config.feed_forward_width, width),
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.class_layers = _layers(width, config.num_class_layers)
        self.box_layers = _layers(width, config.num_box_layers)
        self.classes = nn.Linear(width, num_classes)
        self.deltas = nn.Linear(width, 4)
        self._init_weights()

    def forward(self, features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look at regions.

        Args:
            features: Of proposals, (B, Q, C).
            regions: Of their boxes, (B * Q, C, g, g), one picture after the other.

        Returns:
            Features (B, Q, C) for the next stage, class logits (B, Q, num_classes) and changes of the boxes
            (B, Q, 4).
        """
        x = self.attention_norm(features + self.attention(features, features, features))
        x = self.interaction_norm(x + self.interaction(x.flatten(0, 1), regions).reshape(x.shape))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        classes, deltas = self.classes(self.class_layers(x)), self.deltas(self.box_layers(x))
        return x, at_least_fp32(classes), at_least_fp32(deltas)

    def _init_weights(self) -> None:
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        for linear in (self.attention.projection, self.attention.output, self.deltas):
            nn.init.zeros_(linear.bias)
        nn.init.constant_(self.classes.bias, -math.log((1 - _FIRST_SCORE) / _FIRST_SCORE))


def _layers(width: int, number: int) -> nn.Sequential:
    """So many times linear without bias, norm, ReLU."""
    parts = [(nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU()) for _ in range(number)]
    return nn.Sequential(*(part for layer in parts for part in layer))
