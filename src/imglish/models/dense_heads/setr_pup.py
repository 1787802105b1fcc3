"""SETR's progressive upsampling (arXiv 2012.15840, section 3.2): one level, doubled in size step by step."""

from __future__ import annotations

from torch import Tensor, nn

from imglish.nn.conv_norm import ConvNorm, Norm
from imglish.structures.pyramid import FeaturePyramid


class SetrPupHead(nn.Module):
    """Logits from the plain ViT's own level, four doublings finer.

    Args:
        in_width: Channels of the level.
        num_classes: Classes of the logits.
        stride: The level that is read: the ViT's patch size.
        width: Channels of the convolutions: 256 as published.
        num_doublings: Convolutions, each followed by a doubling; 4 end at the picture's own size.
        dropout: Share of channels dropped before the classifier.
        norm: Norm of the head: synchronised over ranks where there are several.
    """

    def __init__(
        self,
        *,
        in_width: int,
        num_classes: int,
        stride: int = 16,
        width: int = 256,
        num_doublings: int = 4,
        dropout: float = 0.0,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.input_norm = nn.LayerNorm(in_width, eps=1e-6)
        layers: list[nn.Module] = []
        for index in range(num_doublings):
            layers.append(ConvNorm(in_width if index == 0 else width, width, 3, norm=norm))
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        self.doublings = nn.Sequential(*layers)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, pyramid: FeaturePyramid) -> Tensor:
        """Map a pyramid to logits (B, num_classes, h, w), 2^num_doublings finer than the level."""
        x = pyramid[self.stride].permute(0, 2, 3, 1)
        x = self.doublings(self.input_norm(x).permute(0, 3, 1, 2))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits
