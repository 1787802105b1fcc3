"""BEiT (arXiv 2106.08254) and BEiT v2 (arXiv 2208.06366) as they are pretrained.

Shapes: B batch, N patches, C width, M hidden patches of the whole batch, V visual tokens of the codebook.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from imglish.models.vit.block import Block
from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
from imglish.models.vit.model import ViT
from imglish.nn.drop_path import drop_path_rates
from imglish.nn.init import init_linear, rescale_output, truncated_normal_

_CUT = 1.0  # BEiT's pretraining cuts new weights at one deviation, its fine-tuning hardly at all


class MaskedImageFeatures(NamedTuple):
    """Normalised patches (B, N, C) of the last block, and of the way through the class token or None."""

    patches: Tensor
    class_patches: Tensor | None


class MaskedImageLogits(NamedTuple):
    """Logits over visual tokens (M, V) of the last block, and of the way through the class token or None.

    A row for each hidden patch, picture by picture and row by row.
    """

    patches: Tensor
    class_patches: Tensor | None


class ViTForMaskedImageModeling(nn.Module):
    """Predict the visual tokens of hidden patches.

    Args:
        config: The ViT; the released ones have layer scale and shared relative positions, no absolute ones.
        codebook_size: Number of visual tokens V.
        aggregation: How the class token is made to gather the picture (BEiT v2); None does without (BEiT).

    Raises:
        ValueError: The ViT has no class token, or ``aggregation`` takes patches from a block that it has not.
    """

    def __init__(
        self, config: ViTConfig, *, codebook_size: int, aggregation: PatchAggregationConfig | None = None
    ) -> None:
        super().__init__()
        if not config.class_token:
            raise ValueError("BEiT is pretrained with a class token; set class_token True")
        if aggregation is not None and aggregation.early_layers > config.depth:
            raise ValueError(
                f"early_layers {aggregation.early_layers} is more than the {config.depth} blocks of the ViT"
            )
        self.aggregation = aggregation
        self.vit = ViT(config)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.class_blocks = nn.ModuleList()
        self.class_norm: nn.LayerNorm | None = None
        self.class_token_head: nn.Linear | None = None
        if aggregation is not None:
            # Depth of a patch on its second way: the blocks after the early ones are replaced by these.
            last = aggregation.early_layers + aggregation.num_blocks
            rates = drop_path_rates(config.drop_path, max(config.depth, last))
            self.class_blocks.extend(
                Block(config, rates[layer]) for layer in range(aggregation.early_layers, last)
            )
            if not aggregation.shared_head:
                self.class_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
                self.class_token_head = nn.Linear(config.width, codebook_size)
        self.token_head = nn.Linear(config.width, codebook_size)
        self._init_weights()

    def forward(self, images: Tensor, corruption: Tensor) -> MaskedImageLogits:
        """Predict what is hidden.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            corruption: bool (B, N), True where the patch is hidden, row by row.

        Returns:
            Logits of the hidden patches alone.
        """
        patches, class_patches = self.features(images, corruption)
        return self.predict(patches[corruption], None if class_patches is None else class_patches[corruption])

    def features(self, images: Tensor, corruption: Tensor) -> MaskedImageFeatures:
        """Encode pictures (B, 3, H, W) with hidden patches (B, N): all patches, hidden or not.

        Raises:
            ValueError: The picture has another size than the config's, or another number of patches than
                ``corruption``.
        """
        vit = self.vit
        grid = vit.check_grid(images)
        x = vit.patches(images)
        if corruption.shape != x.shape[:2]:
            raise ValueError(
                f"corruption of shape {tuple(corruption.shape)} does not fit {x.shape[1]} patches of "
                f"{x.shape[0]} pictures"
            )
        # Before positions are added: the model knows where a patch is missing.
        x = vit.place(torch.where(corruption[..., None], self.mask_token.to(x.dtype), x), grid)
        if self.aggregation is None:
            return MaskedImageFeatures(vit.norm(vit.run_blocks(x, 0, vit.depth, grid))[:, 1:], None)
        early = vit.run_blocks(x, 0, self.aggregation.early_layers, grid)
        late = vit.run_blocks(early, self.aggregation.early_layers, vit.depth, grid)
        gathered = self._gather(late[:, :1], early[:, 1:], grid)
        norm = vit.norm if self.class_norm is None else self.class_norm
        return MaskedImageFeatures(vit.norm(late)[:, 1:], norm(gathered)[:, 1:])

    def predict(self, patches: Tensor, class_patches: Tensor | None = None) -> MaskedImageLogits:
        """Features (..., C) to logits over visual tokens (..., V), each of both ways by its head."""
        logits: Tensor = self.token_head(patches)
        if class_patches is None:
            return MaskedImageLogits(logits, None)
        head = self.token_head if self.class_token_head is None else self.class_token_head
        return MaskedImageLogits(logits, head(class_patches))

    def _gather(self, class_token: Tensor, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """The late class token (B, 1, C) and early patches (B, N, C) through the blocks of the second way."""
        shared = self.vit.relative_positions
        bias = None if shared is None else shared(grid)
        x = torch.cat([class_token, patches], dim=1)
        for block in self.class_blocks:
            x = block(x, grid, bias)
        return x

    def _init_weights(self) -> None:
        """Cut at one deviation, convolution included; outputs divided by sqrt(2 l).

        Linears of the second way's blocks keep PyTorch's start, as in the official code, which makes those
        blocks after it has drawn all others.
        """
        config = self.vit.config
        std = config.initial_std
        for part in (self.vit, self.token_head, self.class_token_head):
            if part is not None:
                init_linear(part, std=std, cut=_CUT)
        if isinstance(self.vit.patches.proj, nn.Conv2d):
            truncated_normal_(self.vit.patches.proj.weight, std=std, cut=_CUT)
            assert self.vit.patches.proj.bias is not None
            nn.init.zeros_(self.vit.patches.proj.bias)
        for vector in (self.vit.class_token, self.vit.positions, self.mask_token):
            if vector is not None:
                truncated_normal_(vector, std=std, cut=_CUT)
        first = 1 if self.aggregation is None else self.aggregation.early_layers + 1
        for start, blocks in ((1, self.vit.blocks), (first, self.class_blocks)):
            for layer, block in enumerate(blocks, start=start):
                assert isinstance(block, Block)
                rescale_output(block.attention.output, layer)
                rescale_output(block.feed_forward.fc2, layer)
