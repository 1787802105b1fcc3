"""A block of the plain ViT: attention over the picture or within windows, then feed-forward.

Shapes: B batch, N patches, P prefix tokens (the class token, if there is one), C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.positions import RelativePositionBias
from imglish.nn.drop_path import DropPath
from imglish.nn.feed_forward import FeedForward
from imglish.nn.linear import Linear
from imglish.ops.linear import linear
from imglish.ops.windows import merge_windows, partition_windows


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        config: Settings of the ViT.
        window: Side of the windows in patches; 0 sees the whole picture.
        index: See `RelativePositionBias`.
    """

    def __init__(self, config: ViTConfig, *, window: int = 0, index: Tensor | None = None) -> None:
        super().__init__()
        width = config.width
        self.num_heads, self.window = config.num_heads, window
        self.pads_input = config.window_padding == "input"
        self.qkv = Linear(width, 3 * width, bias=config.attention_bias == "all")
        self.query_bias = self.value_bias = None
        if config.attention_bias == "query_value":
            self.query_bias = nn.Parameter(torch.zeros(width))
            self.value_bias = nn.Parameter(torch.zeros(width))
        self.relative_positions = None
        if config.relative_positions == "per_block":
            self.relative_positions = RelativePositionBias(
                (window, window) if window else config.grid_size,
                config.num_heads,
                class_token=config.class_token,
                index=index,
            )
        self.output = Linear(width, width)

    def forward(self, x: Tensor, grid: tuple[int, int], bias: Tensor | None = None) -> Tensor:
        """Map tokens (B, P + N, C) to (B, P + N, C).

        Args:
            x: Tokens, class token first.
            grid: (rows, columns) of the patches.
            bias: Added to the attention logits, (heads, P + N, P + N), where all blocks share a table.
        """
        y: Tensor = self.output(self._in_windows(x, grid) if self.window else self._whole(x, grid, bias))
        return y

    def _whole(self, x: Tensor, grid: tuple[int, int], bias: Tensor | None) -> Tensor:
        if self.relative_positions is not None:
            bias = self.relative_positions(grid)
        return self._attend(self._project(x), bias)

    def _in_windows(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        window = (self.window, self.window)
        if self.pads_input:
            qkv = self._project(partition_windows(x.unflatten(1, grid), window))
        else:
            qkv = partition_windows(self._project(x).unflatten(1, grid), window)
        bias = None if self.relative_positions is None else self.relative_positions()
        return merge_windows(self._attend(qkv, bias), window, grid).flatten(1, 2)

    def _project(self, x: Tensor) -> Tensor:
        """Queries, keys and values (..., 3 C), one after the other."""
        if self.query_bias is None or self.value_bias is None:
            qkv: Tensor = self.qkv(x)
            return qkv
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        return linear(x, self.qkv.weight, bias)

    def _attend(self, qkv: Tensor, bias: Tensor | None) -> Tensor:
        """Attention (B, N, 3 C) to (B, N, C), each sample by itself."""
        query, key, value = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if bias is None else bias[None].to(query.dtype)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return y.transpose(1, 2).flatten(2)


class ConvolutionalBottleneck(nn.Module):
    """ViTDet's residual bottleneck on the map of patches; starts as the identity (arXiv 2203.16527).

    Args:
        width: Features in and out; half as many between.
        eps: Epsilon of the norms, each over the channels of a place.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        inner = width // 2
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.norm1 = nn.LayerNorm(inner, eps=eps)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.norm2 = nn.LayerNorm(inner, eps=eps)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.norm3 = nn.LayerNorm(width, eps=eps)
        for convolution in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map patches (B, N, C) on ``grid`` to (B, N, C), row by row."""
        y = x.transpose(1, 2).unflatten(2, grid)
        y = F.gelu(_normalise(self.conv1(y), self.norm1))
        y = F.gelu(_normalise(self.conv2(y), self.norm2))
        y = _normalise(self.conv3(y), self.norm3)
        return x + y.flatten(2).transpose(1, 2)


def _normalise(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Norm over the channels of a map (B, C, rows, columns)."""
    y: Tensor = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return y


class Block(nn.Module):
    """Attention, then feed-forward, each a residual branch with an optional learned scale.

    Args:
        config: Settings of the ViT.
        drop_path: Stochastic depth of this block.
        window: Side of the attention's windows in patches; 0 sees the whole picture.
        bottleneck: True ends in a `ConvolutionalBottleneck`.
        index: See `RelativePositionBias`.
    """

    def __init__(
        self,
        config: ViTConfig,
        drop_path: float,
        *,
        window: int = 0,
        bottleneck: bool = False,
        index: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_prefix = int(config.class_token)
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config, window=window, index=index)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.feed_forward = FeedForward(config.width, int(config.width * config.mlp_ratio))
        self.scale1 = self.scale2 = None
        if config.has_scales:
            self.scale1 = nn.Parameter(torch.full((config.width,), config.layer_scale))
            self.scale2 = nn.Parameter(torch.full((config.width,), config.layer_scale))
        self.drop_path = DropPath(drop_path)
        self.bottleneck = ConvolutionalBottleneck(config.width, config.norm_eps) if bottleneck else None

    def forward(self, x: Tensor, grid: tuple[int, int], bias: Tensor | None = None) -> Tensor:
        """Refine tokens (B, P + N, C) of patches on ``grid``; ``bias`` as in `Attention.forward`."""
        y = self.attention(self.norm1(x), grid, bias)
        x = x + self.drop_path(y if self.scale1 is None else self.scale1 * y)
        y = self.feed_forward(self.norm2(x))
        x = x + self.drop_path(y if self.scale2 is None else self.scale2 * y)
        if self.bottleneck is not None:
            patches = self.bottleneck(x[:, self.num_prefix :], grid)
            x = torch.cat([x[:, : self.num_prefix], patches], dim=1) if self.num_prefix else patches
        return x
