"""Deformable attention with its projections."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from imglish.nn.linear import Linear
from imglish.ops.deformable_attention import Form, LevelSizes, deformable_attention


class DeformableAttention(nn.Module):
    """Each query looks at a few points that it chooses around its own place, on every level.

    Args:
        width: Features of queries and values.
        num_heads: Heads.
        num_levels: Levels of the values.
        num_points: Points of a head on a level.
        ratio: Share of the width that the values are projected to (ViT-Adapter's addition).
        form: How samples are weighed and added; see `imglish.ops.deformable_attention`.

    Raises:
        ValueError: The projected width is not divisible by the number of heads.
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        num_levels: int,
        num_points: int = 4,
        ratio: float = 1.0,
        form: Form = "auto",
    ) -> None:
        super().__init__()
        inner = int(width * ratio)
        if inner % num_heads:
            raise ValueError(f"value width {inner} is not divisible by num_heads {num_heads}")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.form: Form = form
        self.sampling_offsets = Linear(width, num_heads * num_levels * num_points * 2)
        self.attention_weights = Linear(width, num_heads * num_levels * num_points)
        self.value_proj = Linear(width, inner)
        self.output_proj = Linear(inner, width)
        self.init_weights()

    def forward(
        self,
        query: Tensor,
        places: Tensor,
        values: Tensor,
        level_sizes: LevelSizes,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, C).
            places: Place of each query as (x, y) in [0, 1], or its box as (x, y, width, height) with the
                centre first: (Q, 2 or 4), or (B, Q, L, 2 or 4) where it differs by picture or level. Offsets
                are pixels of the level around a place, and shares of half the box, over the number of
                points, in a box.
            values: (B, N, C), levels one after the other.
            level_sizes: (height, width) of the levels.
            padding: bool (B, N), True where a value is padding; it is sampled as zero.

        Returns:
            (B, Q, C).
        """
        heads, levels, points = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(values)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0)  # after the projection, whose bias is no value
        offsets = self.sampling_offsets(query).unflatten(2, (heads, levels, points, 2))
        weights = self.attention_weights(query).unflatten(2, (heads, levels * points))
        # Places of 16 bits would miss by parts of a pixel, and weights of 16 bits do not sum to one.
        exact = torch.promote_types(query.dtype, torch.float32)
        sampled = deformable_attention(
            value.unflatten(2, (heads, -1)),
            level_sizes,
            self._locations(places.to(exact), offsets.to(exact), level_sizes),
            weights.softmax(dim=-1, dtype=exact).unflatten(3, (levels, points)),
            form=self.form,
        )
        y: Tensor = self.output_proj(sampled)
        return y

    def _locations(self, places: Tensor, offsets: Tensor, level_sizes: LevelSizes) -> Tensor:
        """Where each point lies (B, Q, heads, L, P, 2), in units of its level."""
        if places.ndim == 2:
            places = places[:, None]  # the same on every level
        places = places[..., None, :, None, :]
        if places.shape[-1] == 4:
            return places[..., :2] + offsets / self.num_points * places[..., 2:] * 0.5
        # Filled, not copied from a list: a copy makes a GPU wait, and would fix the sizes of an exported
        # graph.
        sides = [offsets.new_full((1,), side) for height, width in level_sizes for side in (width, height)]
        return places + offsets / torch.cat(sides).view(-1, 1, 2)

    def init_weights(self) -> None:
        """Offsets start as rings around the query, one direction a head; all points weigh the same."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=1)
        directions = directions / directions.abs().amax(dim=1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1, dtype=directions.dtype)
        bias = directions[:, None, None, :] * steps[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
