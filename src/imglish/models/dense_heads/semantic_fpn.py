"""Semantic FPN (Panoptic Feature Pyramid Networks, arXiv 1901.02446): top-down pyramid, one map of logits."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.structures.pyramid import FeaturePyramid

_STRIDES = (4, 8, 16, 32)


class SemanticFpnHead(nn.Module):
    """Logits at stride 4 from maps of strides 4, 8, 16, 32.

    Args:
        in_width: Channels of the maps.
        neck_width: Channels of the top-down pyramid: 256 as published.
        head_width: Channels of the head: 128 as published.
        num_classes: Classes of the logits.
        dropout: Share of channels dropped before the classifier.
        norm: Norm of the head: synchronised over ranks where there are several.
    """

    def __init__(
        self,
        *,
        in_width: int,
        num_classes: int,
        neck_width: int = 256,
        head_width: int = 128,
        dropout: float = 0.1,
        norm: type[nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(in_width, neck_width, 1) for _ in _STRIDES)
        self.outputs = nn.ModuleList(nn.Conv2d(neck_width, neck_width, 3, padding=1) for _ in _STRIDES)
        self.scales = nn.ModuleList(
            _scale(neck_width, head_width, num_doublings=level, norm=norm) for level in range(len(_STRIDES))
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(head_width, num_classes, 1)

    def forward(self, pyramid: FeaturePyramid) -> Tensor:
        """Map a pyramid to logits (B, num_classes, H / 4, W / 4)."""
        maps = [lateral(pyramid[stride]) for lateral, stride in zip(self.laterals, _STRIDES, strict=True)]
        for level in range(len(maps) - 1, 0, -1):
            above = F.interpolate(maps[level], size=maps[level - 1].shape[-2:], mode="nearest")
            maps[level - 1] = maps[level - 1] + above
        maps = [output(x) for output, x in zip(self.outputs, maps, strict=True)]
        total = self.scales[0](maps[0])
        for scale, x in zip(list(self.scales)[1:], maps[1:], strict=True):
            y = scale(x)
            total = total + F.interpolate(y, size=total.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.classifier(self.dropout(total))
        return logits


def _scale(inner: int, outer: int, *, num_doublings: int, norm: type[nn.Module]) -> nn.Sequential:
    """Convolutions that bring a level to stride 4, doubling its size after each."""
    layers: list[nn.Module] = []
    for index in range(max(1, num_doublings)):
        layers += [
            nn.Conv2d(inner if index == 0 else outer, outer, 3, padding=1, bias=False),
            norm(outer),
            nn.ReLU(inplace=True),
        ]
        if num_doublings > 0:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
