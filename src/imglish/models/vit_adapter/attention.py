"""What the paper compares deformable attention with: global, CSwin's and Pale's (ablation of attention).

None of the three was released. Ours have the four projections of standard attention in all, which gives
Mask R-CNN with ViT-Adapter-S the paper's 50.3M parameters (47.8M with deformable attention). CSwin
(arXiv 2107.00652) and Pale (arXiv 2112.14000) look from a map at itself; here queries and values are maps of
other sizes, so both are cut by place in the picture: into bands of the height (or width) of one row of the
coarsest level, which is two rows at stride 16 and four at stride 8. Half of the heads look along rows, half
along columns.

- CSwin: a query sees the band that it lies in, at all levels.
- Pale: a query sees two bands, its own and the one half a picture away (rows interlaced as Pale's).

At 800x1280 CSwin then takes 53G multiply-adds more than deformable attention, and global attention 624G more
than CSwin, as in the paper (403G, 456G, 1080G). Pale takes 22G more than CSwin, the paper's 2G.

Positional encodings by convolution of values, which both have, are left out: values are no map of the
queries.

Shapes: B batch, Q queries, N values, C width, G groups of bands.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.ops.deformable_attention import LevelSizes

Pattern = Literal["global", "cswin", "pale"]

_BANDS = {"cswin": 1, "pale": 2}  # that a query sees


class MapAttention(nn.Module):
    """Multi-head attention from maps to other maps of the same picture.

    Args:
        width: Features of queries and values.
        num_heads: Heads; even but for ``global``.
        pattern: What a query sees.
    """

    def __init__(self, *, width: int, num_heads: int, pattern: Pattern) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not divisible by num_heads {num_heads}")
        if pattern != "global" and num_heads % 2:
            raise ValueError(
                f"{pattern} attention needs as many heads for rows as for columns; got {num_heads}"
            )
        self.num_heads, self.pattern = num_heads, pattern
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, sizes: LevelSizes, values: Tensor, value_sizes: LevelSizes) -> Tensor:
        """Attend.

        Args:
            x: Queries (B, Q, C), levels one after the other, each row by row.
            sizes: (height, width) of the levels of queries.
            values: (B, N, C), of the same form.
            value_sizes: (height, width) of their levels. Heights of all levels, of queries, too, are
                multiples of the smallest one; so are widths.

        Returns:
            (B, Q, C).
        """
        query, key, value = self.query(x), self.key(values), self.value(values)
        if self.pattern == "global":
            return self._output(_attend(query, key, value, self.num_heads))
        half = x.shape[-1] // 2
        parts = []
        for axis in (0, 1):
            q, k, v = (t[..., axis * half : (axis + 1) * half] for t in (query, key, value))
            bands = _Bands(sizes + value_sizes, axis, _BANDS[self.pattern], x.device)
            q, k, v = bands.cut(q, sizes), bands.cut(k, value_sizes), bands.cut(v, value_sizes)
            mask = bands.mask(value_sizes, len(x))
            y = _attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), self.num_heads // 2, mask)
            parts.append(bands.join(y.unflatten(0, (len(x), -1)), sizes))
        return self._output(torch.cat(parts, dim=-1))

    def _output(self, x: Tensor) -> Tensor:
        y: Tensor = self.output(x)
        return y


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention of heads side by side: (B, Q, C) and (B, N, C) to (B, Q, C); mask (B, N), True is seen."""
    q, k, v = (t.unflatten(2, (num_heads, -1)).transpose(1, 2) for t in (query, key, value))
    seen = None if mask is None else mask[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)


class _Bands:
    """How maps of several sizes are cut into groups of bands of the picture.

    Args:
        sizes: (height, width) of all maps.
        axis: 0 cuts rows, 1 columns.
        per_group: Bands of a group: number g, g + G and so on.
        device: Of the mask.
    """

    def __init__(self, sizes: LevelSizes, axis: int, per_group: int, device: torch.device) -> None:
        self.axis, self.per_group, self.device = axis, per_group, device
        self.count = min(size[axis] for size in sizes)
        self.groups = -(-self.count // per_group)
        self.missing = self.groups * per_group - self.count

    def cut(self, tokens: Tensor, sizes: LevelSizes) -> Tensor:
        """Tokens (B, N, C) to (B, G, n, C); bands that are missing are zeros."""
        parts = []
        for part, (height, width) in zip(tokens.split([h * w for h, w in sizes], dim=1), sizes, strict=True):
            maps = part.unflatten(1, (height, width))
            if self.axis == 1:
                maps = maps.transpose(1, 2)
            bands = maps.unflatten(1, (self.count, -1)).flatten(2, 3)  # (B, bands, tokens of one, C)
            bands = F.pad(bands, (0, 0, 0, 0, 0, self.missing))
            parts.append(bands.unflatten(1, (self.per_group, self.groups)).transpose(1, 2).flatten(2, 3))
        return torch.cat(parts, dim=2)

    def join(self, groups: Tensor, sizes: LevelSizes) -> Tensor:
        """Undo `cut`."""
        padded = self.count + self.missing
        lengths = [height * width // self.count * self.per_group for height, width in sizes]
        parts = []
        for part, (height, width) in zip(groups.split(lengths, dim=2), sizes, strict=True):
            bands = part.unflatten(2, (self.per_group, -1)).transpose(1, 2).flatten(1, 2)
            assert bands.shape[1] == padded
            lines, others = (height, width) if self.axis == 0 else (width, height)
            maps = bands[:, : self.count].reshape(len(bands), lines, others, -1)
            if self.axis == 1:
                maps = maps.transpose(1, 2)
            parts.append(maps.flatten(1, 2))
        return torch.cat(parts, dim=1)

    def mask(self, sizes: LevelSizes, batch: int) -> Tensor | None:
        """True where a value is there (B x G, n); None where all are."""
        if not self.missing:
            return None
        num_tokens = sum(height * width for height, width in sizes)
        there = torch.ones(1, num_tokens, 1, device=self.device)
        return self.cut(there, sizes).bool().expand(batch, -1, -1, -1).flatten(0, 1).squeeze(-1)
