"""Heads that draw masks of regions (arXiv 1703.06870), and HTC's semantic branch (arXiv 1901.07518)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.detectors.config import HeadNorm, MaskHeadConfig, SemanticHeadConfig
from imglish.nn.conv_norm import ConvNorm, Norm
from imglish.ops.precision import at_least_fp32


def conv_norm(in_width: int, width: int, kernel: int, norm: HeadNorm) -> ConvNorm:
    """A convolution with a ReLU: with batch norm and without a bias, or the other way around."""
    make: Norm = nn.BatchNorm2d if norm == "batch" else _nothing
    return ConvNorm(in_width, width, kernel, norm=make, bias=norm == "none")


def _nothing(width: int) -> nn.Module:
    return nn.Identity()


class MaskHead(nn.Module):
    """Convolutions, an enlargement by two, a mask for each class.

    Args:
        in_width: Features of regions.
        config: Settings.
        num_classes: Classes, without background.
        reads_last: True adds the features of the mask head of the stage before (HTC's mask flow).
    """

    def __init__(
        self, in_width: int, config: MaskHeadConfig, num_classes: int, *, reads_last: bool = False
    ) -> None:
        super().__init__()
        width = config.width
        self.last = conv_norm(width, in_width, 1, "none") if reads_last else None
        self.convs = nn.ModuleList(
            conv_norm(width if i else in_width, width, 3, config.norm) for i in range(config.num_convs)
        )
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.logits = nn.Conv2d(width, num_classes, 1)
        for conv in (self.upsample, self.logits):
            assert conv.bias is not None
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)

    def features(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Features (P, width, g, g) of regions (P, in_width, g, g).

        Args:
            x: Of the regions.
            last: What this gave at the stage before, where the head reads that.
        """
        if self.last is not None:
            assert last is not None, "this head reads the one before"
            x = x + self.last(last)
        for conv in self.convs:
            x = conv(x)
        return x

    def forward(self, features: Tensor) -> Tensor:
        """Map what `features` gives to logits (P, num_classes, 2 g, 2 g)."""
        return at_least_fp32(self.logits(F.relu(self.upsample(features))))


class SemanticHead(nn.Module):
    """Join all levels on one and name each cell.

    Args:
        in_width: Features of the pyramid.
        num_levels: Levels of the pyramid.
        config: Settings.
    """

    def __init__(self, in_width: int, num_levels: int, config: SemanticHeadConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.laterals = nn.ModuleList(conv_norm(in_width, in_width, 1, "none") for _ in range(num_levels))
        self.convs = nn.ModuleList(
            conv_norm(config.width if i else in_width, config.width, 3, "none")
            for i in range(config.num_convs)
        )
        self.embedding = conv_norm(config.width, config.width, 1, "none")
        self.logits = nn.Conv2d(config.width, config.num_classes, 1)
        assert self.logits.bias is not None
        nn.init.kaiming_normal_(self.logits.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.logits.bias)

    def forward(self, maps: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Class logits and features of cells.

        Args:
            maps: (B, in_width, h, w), fine to coarse.
            strides: Of the maps.

        Returns:
            (B, num_classes, h, w) and (B, width, h, w), of the stride that all are joined on.
        """
        own = maps[list(strides).index(self.stride)]
        size = own.shape[-2:]
        x = self.laterals[list(strides).index(self.stride)](own)
        for lateral, level, stride in zip(self.laterals, maps, strides, strict=True):
            if stride != self.stride:
                resized = F.interpolate(level, size=size, mode="bilinear", align_corners=True)
                x = x + lateral(resized)
        for conv in self.convs:
            x = conv(x)
        return at_least_fp32(self.logits(x)), self.embedding(x)
