"""Global attention over the coarsest level, before the FPN of ViT-Adapter's HTC++."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.nn.drop_path import DropPath
from imglish.nn.feed_forward import FeedForward
from imglish.structures.pyramid import FeaturePyramid


class ExtraAttention(nn.Module):
    """A Transformer block over all cells of the coarsest level; the other levels stay as they are.

    Args:
        width: Channels of that level.
        num_heads: Heads; must divide the width: 32 as published.
        ffn_ratio: Features within the feed-forward network over the width; 0 leaves the network out.
        drop_path: Stochastic depth of both branches: 0.3 as published.

    Raises:
        ValueError: The heads do not divide the width.
    """

    def __init__(
        self, width: int, *, num_heads: int = 32, ffn_ratio: float = 4.0, drop_path: float = 0.3
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm2: nn.LayerNorm | None = None
        self.feed_forward: FeedForward | None = None
        if ffn_ratio:
            self.norm2 = nn.LayerNorm(width)
            self.feed_forward = FeedForward(width, int(width * ffn_ratio))
        self.final_norm = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """Map a pyramid to one whose coarsest level has seen all of itself."""
        coarsest = pyramid.strides[-1]
        level = pyramid[coarsest]
        x = level.flatten(2).transpose(1, 2)
        x = x + self.drop_path(self._attend(self.norm1(x)))
        if self.norm2 is not None and self.feed_forward is not None:
            x = x + self.drop_path(self.feed_forward(self.norm2(x)))
        x = self.final_norm(x).transpose(1, 2).unflatten(2, level.shape[-2:])
        return FeaturePyramid({**pyramid.maps, coarsest: x})

    def _attend(self, x: Tensor) -> Tensor:
        """Attention over cells (B, N, C)."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y: Tensor = self.output(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return y
