"""What an adapter asks of the ViT it holds, and BEiT-3's vision side as such a ViT."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.errors import ConfigError
from imglish.models.beit3.embeddings import POSITION_OFFSET
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.ops.attention import key_mask
from imglish.ops.sizes import same_size
from imglish.ops.windows import merge_windows, partition_windows
from imglish.structures.tokens import TokenLayout


class PlainBackbone(Protocol):
    """A plain ViT, block by block. N = prefix tokens + rows x columns."""

    width: int
    depth: int
    patch_size: int
    num_prefix: int

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pictures (B, 3, H, W) of any size to tokens (B, N, C) and the grid (rows, columns)."""
        ...

    def run_blocks(self, tokens: Tensor, start: int, stop: int, grid: tuple[int, int]) -> Tensor:
        """Apply blocks ``start`` to ``stop`` (exclusive) to tokens (B, N, C) of patches on ``grid``."""
        ...


_PROTOCOL = ("width", "depth", "patch_size", "num_prefix", "embed", "run_blocks")


def plain_backbone(module: nn.Module, *, patch_sizes: tuple[int, ...]) -> PlainBackbone:
    """The module as a `PlainBackbone`.

    Args:
        module: Is asked for every name of the protocol.
        patch_sizes: Those that will do.

    Raises:
        ConfigError: It lacks one, or its patches have another size.
    """
    missing = [name for name in _PROTOCOL if not hasattr(module, name)]
    if missing:
        raise ConfigError(
            f"{type(module).__name__} is no PlainBackbone, it has no {', '.join(missing)}; wrap a timm model "
            "with models.vit_adapter.timm_backbone.timm_backbone"
        )
    backbone = cast(PlainBackbone, module)
    if backbone.patch_size not in patch_sizes:
        raise ConfigError(
            f"{type(module).__name__} has patches of {backbone.patch_size} pixels; expected "
            f"{' or '.join(map(str, patch_sizes))}"
        )
    return backbone


def patches_of(tokens: Tensor, num_prefix: int) -> Tensor:
    """Tokens (B, P + N, C) without their P prefix tokens."""
    return tokens[:, num_prefix:] if num_prefix else tokens


def quarter_windows(depth: int, side: int = 14) -> tuple[int, ...]:
    """Windows in each quarter of the blocks but for its last block, which sees the whole picture (ViTDet).

    Args:
        depth: Blocks.
        side: Of the windows, in patches.

    Raises:
        ValueError: The blocks do not divide into quarters.
    """
    if depth % 4:
        raise ValueError(f"depth {depth} does not divide into quarters")
    return (*[side] * (depth // 4 - 1), 0) * 4


class Beit3VisionBackbone(nn.Module):
    """BEiT-3's vision experts as a plain ViT; the class token is the one prefix token.

    Position tables are resampled where the picture is not of the size they were made for.

    Args:
        encoder: Of BEiT-3.
        windows: Side of the windows, in patches, that each block's attention stays within; 0 sees the whole
            picture, and so does every block where this is empty. Within windows patches see each other only;
            the class token waits for a block that sees all (ViTDet, arXiv 2203.16527, has none).

    Raises:
        ValueError: There are windows for another number of blocks, or a negative one.
    """

    num_prefix = 1

    def __init__(self, encoder: Beit3Encoder, *, windows: tuple[int, ...] = ()) -> None:
        super().__init__()
        if windows and (len(windows) != encoder.config.depth or min(windows) < 0):
            raise ValueError(
                f"windows must be {encoder.config.depth} sides, one for each block, 0 for none; got {windows}"
            )
        self.encoder, self.windows = encoder, windows
        self.width = encoder.config.width
        self.depth = encoder.config.depth
        self.patch_size = encoder.config.patch_size

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pictures (B, 3, H, W) to tokens (B, 1 + rows x columns, C) and (rows, columns)."""
        embedding = self.encoder.vision_embedding
        grid = embedding.patches.grid_size(images.shape[-2], images.shape[-1])
        own = self.encoder.config.grid_size
        if same_size(grid, own):
            return embedding(images), grid
        table = embedding.positions.weight[POSITION_OFFSET:]
        patches = table[1:].T.reshape(1, -1, *own)
        patches = F.interpolate(patches, size=grid, mode="bicubic", align_corners=False)
        x = embedding.patches(images) + patches[0].flatten(1).T
        first = (embedding.class_token + table[:1]).expand(x.shape[0], -1, -1)
        return nn.functional.pad(x, (0, 0, 1, 0)).index_copy(1, x.new_zeros(1).long(), first), grid

    def run_blocks(self, tokens: Tensor, start: int, stop: int, grid: tuple[int, int]) -> Tensor:
        """Apply some blocks with the vision experts, which see the whole picture or windows of it."""
        layout = TokenLayout(num_vision=tokens.shape[1], num_text=0)
        for index in range(start, stop):
            block, side = self.encoder.blocks[index], self.windows[index] if self.windows else 0
            tokens = _within_windows(block, tokens, side, grid) if side else block(tokens, layout)
        return tokens


def _within_windows(block: nn.Module, tokens: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """A block of BEiT-3 on each window by itself; nobody looks at what pads the picture to whole windows."""
    first, patches = tokens[:, :1], tokens[:, 1:].unflatten(1, grid)
    window = (side, side)
    mask = None
    if grid[0] % side or grid[1] % side:
        inside = partition_windows(patches.new_ones(1, *grid, 1), window)[..., 0] > 0
        mask = key_mask(~inside).repeat(len(tokens), 1, 1, 1)
    layout = TokenLayout(num_vision=side * side, num_text=0)
    windows = block(partition_windows(patches, window), layout, mask)
    return torch.cat([first, merge_windows(windows, window, grid).flatten(1, 2)], dim=1)
