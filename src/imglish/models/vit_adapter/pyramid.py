"""A plain ViT's maps, all of stride 16, brought to strides 4, 8, 16 and 32 (the baselines of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.ops.maps import as_map

_GROUPS = 32  # of group norm

PyramidNorm = Literal["group", "batch"]


class PlainPyramid(nn.Module):
    """Enlarge by transposed convolutions, shrink by pooling.

    Args:
        width: Features of the maps.
        layer_norm: True normalises the tokens of each level before (the official ViT baseline's).
        norm: Norm between the two steps to stride 4: ``group`` of 32 (ViT) or ``batch`` (BEiT).
        batch_norm: Class of that batch norm, synchronised over ranks where there are several.
        eps: Epsilon of the layer norms.

    Raises:
        ValueError: The width does not divide into 32 groups.
    """

    def __init__(
        self,
        width: int,
        *,
        layer_norm: bool = True,
        norm: PyramidNorm = "group",
        batch_norm: type[nn.Module] = nn.BatchNorm2d,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if norm == "group" and width % _GROUPS:
            raise ValueError(f"width {width} does not divide into the {_GROUPS} groups of a group norm")
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in range(4 if layer_norm else 0))
        between = nn.GroupNorm(_GROUPS, width) if norm == "group" else batch_norm(width)
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, stride=2),
            between,
            nn.GELU(),
            nn.ConvTranspose2d(width, width, 2, stride=2),
        )
        self.up8 = nn.ConvTranspose2d(width, width, 2, stride=2)

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int]) -> tuple[Tensor, ...]:
        """Map patch tokens (B, N, C) for each of the four levels to maps (B, C, H, W) of strides 4 to 32.

        Args:
            tokens: Of patches of 16 pixels; the same four times, or of four depths of the ViT.
            grid: (rows, columns) of the patches, even.
        """
        levels = list(tokens)
        if self.norms:
            levels = [norm(x) for norm, x in zip(self.norms, levels, strict=True)]
        c1, c2, c3, c4 = (as_map(x, grid) for x in levels)
        return self.up4(c1), self.up8(c2), c3, F.max_pool2d(c4, 2)
