"""The spatial prior module: a small CNN beside the ViT (ViT-Adapter, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.nn.conv_norm import convolve_and_normalise


class SpatialPrior(nn.Module):
    """Pictures to feature maps of strides 4, 8, 16 and 32.

    Args:
        width: Features of the maps, the ViT's.
        stem_width: Features of the stem.
        norm: Makes a norm of so many channels; synchronised over ranks where there are several.
    """

    def __init__(self, *, width: int, stem_width: int, norm: type[nn.Module]) -> None:
        super().__init__()
        c = stem_width
        self.stem = nn.Sequential(
            *_conv(3, c, 2, norm), *_conv(c, c, 1, norm), *_conv(c, c, 1, norm), nn.MaxPool2d(3, 2, 1)
        )
        self.conv2 = nn.Sequential(*_conv(c, 2 * c, 2, norm))
        self.conv3 = nn.Sequential(*_conv(2 * c, 4 * c, 2, norm))
        self.conv4 = nn.Sequential(*_conv(4 * c, 4 * c, 2, norm))
        self.fc1 = nn.Conv2d(c, width, 1)
        self.fc2 = nn.Conv2d(2 * c, width, 1)
        self.fc3 = nn.Conv2d(4 * c, width, 1)
        self.fc4 = nn.Conv2d(4 * c, width, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map (B, 3, H, W), sides divisible by 32, to maps of strides 4, 8, 16, 32 of ``width`` channels.

        Maps have their channels last in memory: convolutions take 40% less on a CPU so, and the maps are
        tokens already.
        """
        c1 = _run(self.stem, images.contiguous(memory_format=torch.channels_last))
        c2 = _run(self.conv2, c1)
        c3 = _run(self.conv3, c2)
        return self.fc1(c1), self.fc2(c2), self.fc3(c3), self.fc4(_run(self.conv4, c3))


def _run(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Apply layers in order, a convolution together with the norm behind it."""
    waiting: nn.Conv2d | None = None
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            waiting = layer
        elif waiting is not None:
            x, waiting = convolve_and_normalise(waiting, layer, x), None
        else:
            x = layer(x)
    return x


def _conv(inner: int, outer: int, stride: int, norm: type[nn.Module]) -> list[nn.Module]:
    return [
        nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False),
        norm(outer),
        nn.ReLU(inplace=True),
    ]
