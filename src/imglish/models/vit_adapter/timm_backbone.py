"""timm's Vision Transformers as backbones: DeiT, DINO, DINOv2, DINOv3, CLIP, SigLIP, EVA, BEiT and so on.

A timm ``VisionTransformer`` or ``Eva`` is held as it is, but for its last norm and its head, which dense
features do without. A timm ``Beit`` becomes our `ViT`, which is the same model and resamples its tables for
any picture.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.errors import ConfigError
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit.weights import vit_rules
from imglish.models.weight_map import WeightMap, check_state


def timm_backbone(model: nn.Module, *, patch_size: int = 16) -> nn.Module:
    """Make a `PlainBackbone` of a timm model.

    Args:
        model: A timm ``VisionTransformer``, ``Eva`` or ``Beit``, with the weights it shall have; its weights
            are shared with the backbone, but a BEiT's are copied.
        patch_size: Side of the patches wanted in pixels. Kernels of another side are resized, bilinearly, as
            the official ViT-Adapter does with DINOv2's of 14; the grid of positions stays.

    Raises:
        ConfigError: The model is none of the three, or has parts that they rarely have; the message says
            which.
    """
    if isinstance(model, Beit):
        return _vit_of_beit(model, patch_size)
    if isinstance(model, (VisionTransformer, Eva)):
        return TimmBackbone(model, patch_size=patch_size)
    raise ConfigError(
        f"{type(model).__name__} is no plain ViT of timm; expected a VisionTransformer, Eva or Beit"
    )


class TimmBackbone(nn.Module):
    """A timm ``VisionTransformer`` or ``Eva``, block by block.

    Positions are resampled for pictures of any size as timm does. Rotary positions are never augmented, as
    groups of blocks would see different ones. Class, distillation and register tokens are prefix tokens.

    Args:
        model: See `timm_backbone`.
        patch_size: See `timm_backbone`.
    """

    def __init__(self, model: VisionTransformer | Eva, *, patch_size: int = 16) -> None:
        super().__init__()
        timm: Any = model  # says these things by attributes that its base classes do not declare
        projection = timm.patch_embed.proj
        if not isinstance(projection, nn.Conv2d):
            raise ConfigError(
                f"{type(model).__name__} embeds patches by {type(projection).__name__}; expected a Conv2d"
            )
        self.width, self.depth, self.patch_size = int(timm.embed_dim), len(timm.blocks), patch_size
        self.num_prefix = int(timm.num_prefix_tokens)
        self.projection = _with_patches(projection, patch_size)
        self.patch_norm: nn.Module = timm.patch_embed.norm
        tokens = (timm.cls_token, getattr(timm, "dist_token", None), timm.reg_token)
        self.prefix = nn.ParameterList(token for token in tokens if token is not None)
        if sum(token.shape[1] for token in self.prefix) != self.num_prefix:
            raise ConfigError(f"{type(model).__name__} has prefix tokens of a kind that is not known")
        self.positions: nn.Parameter | None = timm.pos_embed
        self.own_grid: tuple[int, int] = tuple(timm.patch_embed.grid_size)
        self.prefix_has_positions = not timm.no_embed_class
        self.position_dropout: nn.Module = timm.pos_drop
        self.first_norm: nn.Module = timm.norm_pre
        self.rotary: Any = getattr(timm, "rope", None)
        self.rotary_by_block = bool(getattr(timm, "rope_mixed", False))
        self.blocks: nn.ModuleList = nn.ModuleList(timm.blocks)
        self.train(model.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; rotary positions stay in evaluation mode."""
        super().train(mode)
        if self.rotary is not None:
            self.rotary.eval()
        return self

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pictures (B, 3, H, W) to tokens (B, P + N, C) and the grid (rows, columns).

        Raises:
            ValueError: The picture does not divide into patches.
        """
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"a {height}x{width} picture is not divisible into patches of {self.patch_size} pixels"
            )
        grid = height // self.patch_size, width // self.patch_size
        x = self.patch_norm(self.projection(images).flatten(2).transpose(1, 2))
        prefix = [token.expand(len(x), -1, -1) for token in self.prefix]
        positions = self._positions(grid)
        if self.prefix_has_positions:
            x = torch.cat([*prefix, x], dim=1)
            x = x if positions is None else x + positions
        else:
            x = x if positions is None else x + positions
            x = torch.cat([*prefix, x], dim=1)
        return self.first_norm(self.position_dropout(x)), grid

    def run_blocks(self, tokens: Tensor, start: int, stop: int, grid: tuple[int, int]) -> Tensor:
        """Apply blocks ``start`` to ``stop`` (exclusive) to tokens (B, P + N, C) of patches on ``grid``."""
        if self.rotary is None:
            for index in range(start, stop):
                tokens = self.blocks[index](tokens)
            return tokens
        if getattr(self.rotary, "feat_shape", None) is not None:  # made for one grid
            self.rotary.update_feat_shape(list(grid))
        rotation = self.rotary.get_embed(shape=list(grid))
        for index in range(start, stop):
            tokens = self.blocks[index](tokens, rope=rotation[index] if self.rotary_by_block else rotation)
        return tokens

    def _positions(self, grid: tuple[int, int]) -> Tensor | None:
        if self.positions is None:
            return None
        positions: Tensor = resample_abs_pos_embed(
            self.positions,
            new_size=list(grid),
            old_size=list(self.own_grid),
            num_prefix_tokens=self.num_prefix if self.prefix_has_positions else 0,
        )
        return positions


def _with_patches(projection: nn.Conv2d, patch_size: int) -> nn.Conv2d:
    """The same convolution for patches of another side."""
    side = (patch_size, patch_size)
    if projection.kernel_size == side:
        return projection
    resized = nn.Conv2d(
        projection.in_channels,
        projection.out_channels,
        side,
        stride=side,
        bias=projection.bias is not None,
        device=projection.weight.device,
        dtype=projection.weight.dtype,
    )
    with torch.no_grad():
        weight = F.interpolate(projection.weight.float(), size=side, mode="bilinear", align_corners=False)
        resized.weight.copy_(weight)
        if projection.bias is not None and resized.bias is not None:
            resized.bias.copy_(projection.bias)
    return resized.requires_grad_(projection.weight.requires_grad)


def _vit_of_beit(model: Beit, patch_size: int) -> ViT:
    """Our form of a timm BEiT, without the last norm and the head."""
    timm: Any = model
    config = _beit_config(timm, patch_size)
    with torch.device(timm.cls_token.device):
        vit = ViT(config)
    dropped = (r"(norm|fc_norm|head)\..*",)
    state = WeightMap(vit_rules("", "", norm="norm"), dropped).to_ours(timm.state_dict())
    projection = _with_patches(timm.patch_embed.proj, patch_size)
    state["patches.proj.weight"] = projection.weight.detach()
    check_state(state, vit.state_dict(), where=f"timm's {type(model).__name__}")
    vit.load_state_dict(state)
    return vit.train(model.training)


def _beit_config(timm: Any, patch_size: int) -> ViTConfig:
    first, last = timm.blocks[0], timm.blocks[-1]
    own_tables, shared = first.attn.relative_position_bias_table is not None, timm.rel_pos_bias is not None
    if not hasattr(first.mlp, "fc1") or not isinstance(first.mlp.norm, nn.Identity):
        raise ConfigError("this Beit has a feed-forward network with gates or a norm; expected a plain one")
    if own_tables and shared:
        raise ConfigError("this Beit has shared and own relative positions; expected one kind")
    rows, columns = timm.patch_embed.grid_size
    return ViTConfig(
        image_size=(rows * patch_size, columns * patch_size),
        patch_size=patch_size,
        in_channels=timm.patch_embed.proj.in_channels,
        width=timm.embed_dim,
        depth=len(timm.blocks),
        num_heads=first.attn.num_heads,
        mlp_ratio=first.mlp.fc1.out_features / timm.embed_dim,
        absolute_positions=timm.pos_embed is not None,
        relative_positions="per_block" if own_tables else "shared" if shared else "none",
        resample_relative=True,
        attention_bias="none" if first.attn.q_bias is None else "query_value",
        layer_scale=0.0 if first.gamma_1 is None else 1.0,
        norm_eps=first.norm1.eps,
        output_norm=False,
        position_resampling="size",
        drop_path=getattr(last.drop_path1, "drop_prob", 0.0),
    )
