from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imglish.models.vit_adapter.attention import MapAttention, Pattern
from imglish.ops.deformable_attention import LevelSizes

WIDTH, HEADS = 8, 4
LEVELS: LevelSizes = ((12, 20), (6, 10), (3, 5))  # strides 8, 16, 32 of a picture of 96 x 160 pixels
GRID: LevelSizes = ((6, 10),)
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order


def build(pattern: Pattern) -> MapAttention:
    torch.manual_seed(0)
    return MapAttention(width=WIDTH, num_heads=HEADS, pattern=pattern)


def tokens(sizes: LevelSizes, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, sum(h * w for h, w in sizes), WIDTH, generator=g)


def bands(sizes: LevelSizes, axis: int) -> Tensor:
    """Which of the picture's bands of 32 pixels each token lies in, counted down (0) or to the right (1)."""
    of_all = []
    for height, width in sizes:
        rows = (torch.arange(height) * 3 // height).repeat_interleave(width)
        columns = (torch.arange(width) * 5 // width).repeat(height)
        of_all.append(columns if axis else rows)
    return torch.cat(of_all)


def by_hand(
    attention: MapAttention, x: Tensor, sizes: LevelSizes, values: Tensor, value_sizes: LevelSizes
) -> Tensor:
    """Attention over all values with a mask; of the heads the first half looks along rows."""
    q, k, v = (
        linear(t).unflatten(2, (HEADS, -1)).transpose(1, 2)
        for linear, t in ((attention.query, x), (attention.key, values), (attention.value, values))
    )
    logits = q @ k.mT / (WIDTH // HEADS) ** 0.5
    for head in range(HEADS):
        axis = int(head >= HEADS // 2)
        own, other = bands(sizes, axis)[:, None], bands(value_sizes, axis)
        if attention.pattern == "cswin":
            seen = own == other
        elif attention.pattern == "pale":  # 3 bands make 2 groups, 5 make 3
            groups = (2, 3)[axis]
            seen = own % groups == other % groups
        else:
            seen = torch.ones(len(own), len(other), dtype=torch.bool)
        logits[:, head] = logits[:, head].masked_fill(~seen, -torch.inf)
    y: Tensor = attention.output((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return y


@pytest.mark.parametrize("pattern", ["global", "cswin", "pale"])
@pytest.mark.parametrize(("sizes", "value_sizes"), [(GRID, LEVELS), (LEVELS, GRID)])
def test_a_query_sees_what_its_pattern_says(
    pattern: Pattern, sizes: LevelSizes, value_sizes: LevelSizes
) -> None:
    attention, x, values = build(pattern), tokens(sizes, 1), tokens(value_sizes, 2)
    expected = by_hand(attention, x, sizes, values, value_sizes)
    torch.testing.assert_close(attention(x, sizes, values, value_sizes), expected, **ROUNDING)


@pytest.mark.parametrize("pattern", ["cswin", "pale"])
def test_odd_numbers_of_heads_are_refused(pattern: Pattern) -> None:
    with pytest.raises(
        ValueError, match=f"{pattern} attention needs as many heads for rows as for columns; got 3"
    ):
        MapAttention(width=9, num_heads=3, pattern=pattern)
    with pytest.raises(ValueError, match="width 8 is not divisible by num_heads 3"):
        MapAttention(width=8, num_heads=3, pattern="global")
