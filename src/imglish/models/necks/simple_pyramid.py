"""ViTDet's simple feature pyramid (arXiv 2203.16527): all levels from the last map of a plain ViT."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.structures.pyramid import FeaturePyramid

_STRIDE = 16  # of the map that it starts from


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each cell of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimplePyramid(nn.Module):
    """Strides 4 and 8 by transposed convolutions, 16 as it is, 32 by pooling; no level sees another.

    Args:
        in_width: Channels of the map.
        width: Channels of all levels after it: 256 as published.
        num_extra: Coarser levels that are added, every second cell of the one before.

    Raises:
        ValueError: The channels of the map do not divide by 4.
    """

    def __init__(self, in_width: int, width: int = 256, *, num_extra: int = 0) -> None:
        super().__init__()
        if in_width % 4:
            raise ValueError(f"in_width must be a multiple of 4; got {in_width}")
        self.width, self.num_extra = width, num_extra
        half, quarter = in_width // 2, in_width // 4
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(in_width, half, 2, stride=2),
            ChannelNorm(half, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        )
        self.up8 = nn.ConvTranspose2d(in_width, half, 2, stride=2)
        self.outputs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(level_width, width, 1, bias=False),
                ChannelNorm(width, eps=1e-6),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                ChannelNorm(width, eps=1e-6),
            )
            for level_width in (quarter, half, in_width, in_width)
        )

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """Map a pyramid, of which only stride 16 is read, to strides 4, 8, 16, 32 and coarser ones."""
        x = pyramid[_STRIDE]
        # Rounded up, as the other backbones round their maps.
        levels = [self.up4(x), self.up8(x), x, F.max_pool2d(x, 2, ceil_mode=True)]
        maps = [output(level) for output, level in zip(self.outputs, levels, strict=True)]
        for _ in range(self.num_extra):
            maps.append(maps[-1][:, :, ::2, ::2])
        return FeaturePyramid({4 << level: x for level, x in enumerate(maps)})
