"""The head of Semantic FPN (Panoptic Feature Pyramid Networks, arXiv 1901.02446): sum of levels, logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from imglish.nn.conv_norm import ConvNorm, Norm, enlarge
from imglish.structures.pyramid import FeaturePyramid


class SemanticFpnHead(nn.Module):
    """Logits at the finest stride from all levels of a pyramid.

    Args:
        in_width: Channels of the levels.
        width: Channels of the head: 128 as published.
        num_classes: Classes of the logits.
        strides: Strides of the levels, fine to coarse, each a power of two.
        dropout: Share of channels dropped before the classifier.
        norm: Norm of the head: synchronised over ranks where there are several.
    """

    def __init__(
        self,
        *,
        in_width: int,
        num_classes: int,
        width: int = 128,
        strides: Sequence[int] = (4, 8, 16, 32),
        dropout: float = 0.1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.scales = nn.ModuleList(
            _scale(in_width, width, (stride // self.strides[0]).bit_length() - 1, norm)
            for stride in self.strides
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, pyramid: FeaturePyramid) -> Tensor:
        """Map a pyramid to logits (B, num_classes, h, w) at its finest stride."""
        first, *coarser = self.strides
        total: Tensor = self.scales[0](pyramid[first])
        for scale, stride in zip(list(self.scales)[1:], coarser, strict=True):
            total = total + enlarge(scale(pyramid[stride]), (total.shape[-2], total.shape[-1]))
        logits: Tensor = self.classifier(self.dropout(total))
        return logits


def _scale(inner: int, outer: int, num_doublings: int, norm: Norm) -> nn.Sequential:
    """Convolutions that bring a level to the finest stride, doubling its size after each."""
    layers: list[nn.Module] = []
    for index in range(max(1, num_doublings)):
        layers.append(ConvNorm(inner if index == 0 else outer, outer, 3, norm=norm))
        if num_doublings > 0:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
