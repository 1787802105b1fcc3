"""Fully convolutional head (arXiv 1411.4038): the auxiliary classifier of UPerNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.nn.conv_norm import ConvNorm, Norm
from imglish.structures.pyramid import FeaturePyramid


class FcnHead(nn.Module):
    """Logits from one level by a few 3 x 3 convolutions.

    Args:
        in_width: Channels of the level.
        num_classes: Classes of the logits.
        stride: The level that is read.
        width: Channels of the convolutions: 256 as published.
        num_convs: How many; 0 classifies the level itself.
        concat_input: True joins the level to what the convolutions made of it, by one more convolution.
        dropout: Share of channels dropped before the classifier.
        norm: Norm of the head: synchronised over ranks where there are several.

    Raises:
        ValueError: Without convolutions the width must be that of the level.
    """

    def __init__(
        self,
        *,
        in_width: int,
        num_classes: int,
        stride: int = 16,
        width: int = 256,
        num_convs: int = 1,
        concat_input: bool = False,
        dropout: float = 0.1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if num_convs == 0 and in_width != width:
            raise ValueError(f"without convolutions width {width} must be that of the level, {in_width}")
        self.stride = stride
        self.convs = nn.Sequential(
            *(ConvNorm(in_width if i == 0 else width, width, 3, norm=norm) for i in range(num_convs))
        )
        self.join = ConvNorm(in_width + width, width, 3, norm=norm) if concat_input else None
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, pyramid: FeaturePyramid) -> Tensor:
        """Map a pyramid to logits (B, num_classes, h, w) at the stride of the level that is read."""
        given = pyramid[self.stride]
        x: Tensor = self.convs(given)
        if self.join is not None:
            x = self.join(torch.cat([given, x], dim=1))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits
