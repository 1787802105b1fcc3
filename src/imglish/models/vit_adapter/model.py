"""ViT-Adapter: a plain ViT, a spatial prior, and their interactions (arXiv 2205.08534, figure 4).

The adapter holds its backbone; it does not inherit from it.
Shapes: B batch, N patches, M spatial tokens, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit_adapter.backbone import PlainBackbone, patches_of, plain_backbone
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.initial import init_convolutions
from imglish.models.vit_adapter.interaction import Injector, Interaction
from imglish.models.vit_adapter.padding import crop_pyramid, pad_images
from imglish.models.vit_adapter.pyramid import PlainPyramid
from imglish.models.vit_adapter.spatial_prior import SpatialPrior
from imglish.nn.deformable_attention import DeformableAttention
from imglish.ops.deformable_attention import LevelSizes, reference_points
from imglish.ops.maps import as_map
from imglish.ops.sizes import same_size
from imglish.structures.pyramid import FeaturePyramid

_PATCH_SIZES = (4, 8, 16, 32)  # such that padded pictures divide into patches


class ViTAdapter(nn.Module):
    """Turn a plain ViT into a backbone with maps of strides 4, 8, 16 and 32.

    Args:
        backbone: A `PlainBackbone` that is a module; its parameters are the adapter's.
        config: Settings.
        norm: Norm of the spatial prior and of the output maps: ``nn.BatchNorm2d`` on one device,
            ``nn.SyncBatchNorm`` on several (it does not run on one CPU).

    Raises:
        ConfigError: The backbone is no `PlainBackbone`, or its patches are not of 4, 8, 16 or 32 pixels.
        ValueError: Its blocks do not divide into the interactions.
    """

    def __init__(
        self, backbone: nn.Module, config: ViTAdapterConfig, *, norm: type[nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        plain = plain_backbone(backbone, patch_sizes=_PATCH_SIZES if config.has_extractors else (16,))
        self.backbone, self.config, self.width = backbone, config, plain.width
        width = plain.width
        # Without interactions the blocks are one group.
        self.groups = config.groups(plain.depth) or ((0, plain.depth),)
        self.spatial_prior = SpatialPrior(width=width, stem_width=config.stem_width, norm=norm)
        self.level_embedding: nn.Parameter | None = None
        if config.has_injectors or config.has_extractors:
            self.level_embedding = nn.Parameter(torch.zeros(3, width))
        last = config.num_interactions - 1
        self.interactions = nn.ModuleList(
            Interaction(width, config, num_extra_extractors=config.num_extra_extractors if i == last else 0)
            for i in range(config.num_interactions)
        )
        self.up: nn.ConvTranspose2d | None = None
        self.pyramid: PlainPyramid | None = None
        if config.has_extractors:
            self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        else:
            self.pyramid = PlainPyramid(width, eps=config.norm_eps)
        self.norms = nn.ModuleList(norm(width) for _ in range(4))
        self._init_weights()
        if config.frozen_backbone:
            backbone.requires_grad_(False)
            backbone.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen_backbone:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor, seen: Sequence[Tensor] | None = None) -> FeaturePyramid:
        """Map pictures (B, 3, H, W) of any size to maps of strides 4, 8, 16, 32 of C channels.

        Sides that do not divide by 32 are padded with zeros at the bottom and the right; maps are cropped
        back to the rounded-up size.

        Args:
            images: Pictures.
            seen: The ViT's tokens of these pictures before its first block and after each, where they were
                computed before; None computes them.

        Raises:
            ValueError: ``seen`` is given, but injectors would change it, or it is of other sizes.
        """
        size = (images.shape[-2], images.shape[-1])
        images = pad_images(images)
        c1, *maps = self.spatial_prior(images)
        level_sizes: LevelSizes = tuple((c.shape[-2], c.shape[-1]) for c in maps)
        levels = [c.flatten(2).transpose(1, 2) for c in maps]
        if self.level_embedding is not None:
            levels = [c + embedding for c, embedding in zip(levels, self.level_embedding, strict=True)]
        spatial, features, grid = self._interact(images, torch.cat(levels, dim=1), level_sizes, seen)

        parts = spatial.split([h * w for h, w in level_sizes], dim=1)
        c2, c3, c4 = (as_map(part, size) for part, size in zip(parts, level_sizes, strict=True))
        if self.up is not None:
            c1 = self.up(c2) + c1
        outputs = self._add_vit([c1, c2, c3, c4], features, grid)
        outputs = [norm(c) for c, norm in zip(outputs, self.norms, strict=True)]
        return crop_pyramid(outputs, size)

    def _interact(
        self, images: Tensor, spatial: Tensor, level_sizes: LevelSizes, seen: Sequence[Tensor] | None
    ) -> tuple[Tensor, list[Tensor], tuple[int, int]]:
        """Spatial tokens after all interactions, patch tokens for each level, and the patch grid."""
        backbone = plain_backbone(self.backbone, patch_sizes=_PATCH_SIZES)
        gradients = torch.is_grad_enabled() and not self.config.frozen_backbone
        if seen is not None:
            tokens, grid = seen[0], self._grid_of(seen, images, backbone)
        else:
            with torch.set_grad_enabled(gradients):
                tokens, grid = backbone.embed(images)
        grid_places = reference_points((grid,), images.device).to(tokens.dtype)
        places = reference_points(level_sizes, images.device).to(tokens.dtype)
        features = []
        for index, (start, stop) in enumerate(self.groups):
            interaction = self.interactions[index] if self.config.num_interactions else None
            assert interaction is None or isinstance(interaction, Interaction)
            if interaction is not None and interaction.injector is not None:
                tokens = _inject(
                    interaction.injector, backbone, tokens, grid_places, spatial, level_sizes, grid
                )
            if seen is not None:
                tokens = seen[stop]
            else:
                with torch.set_grad_enabled(gradients):
                    tokens = backbone.run_blocks(tokens, start, stop, grid)
            x = patches_of(tokens, backbone.num_prefix)
            features.append(x)
            for extractor in interaction.extractors if interaction is not None else []:
                spatial = extractor(spatial, places, x, grid, level_sizes)
        if self.config.vit_features != "per_interaction":
            features = [features[-1]] * 4
        return spatial, features, grid

    def _grid_of(self, seen: Sequence[Tensor], images: Tensor, backbone: PlainBackbone) -> tuple[int, int]:
        """The patch grid of tokens that were computed before."""
        if self.config.has_injectors:
            raise ValueError("injectors change what the ViT sees: give pictures alone, without seen")
        grid = (images.shape[-2] // backbone.patch_size, images.shape[-1] // backbone.patch_size)
        expected = (images.shape[0], backbone.num_prefix + grid[0] * grid[1], backbone.width)
        if len(seen) != backbone.depth + 1 or seen[0].shape != expected:
            raise ValueError(
                f"seen holds {len(seen)} x {tuple(seen[0].shape)} tokens; expected {backbone.depth + 1} x "
                f"{expected}, those of these pictures"
            )
        return grid

    def _add_vit(self, maps: list[Tensor], features: list[Tensor], grid: tuple[int, int]) -> list[Tensor]:
        """Add the ViT's maps, brought to their strides, to those of the adapter."""
        if self.pyramid is not None:
            return [c + x for c, x in zip(maps, self.pyramid(features, grid), strict=True)]
        if self.config.vit_features == "none":
            return maps
        outputs = []
        for c, x in zip(maps, features, strict=True):
            own = as_map(x, grid)
            if not same_size(grid, (c.shape[-2], c.shape[-1])):
                own = F.interpolate(own, size=c.shape[-2:], mode="bilinear", align_corners=False)
            outputs.append(c + own)
        return outputs

    def _init_weights(self) -> None:
        """The official start; the backbone keeps its own weights."""
        if self.level_embedding is not None:
            nn.init.normal_(self.level_embedding)
        for part in (self.up, self.pyramid, self.spatial_prior, self.interactions):
            if part is not None:
                init_convolutions(part)
        for module in self.interactions.modules():
            if isinstance(module, DeformableAttention):
                module.init_weights()


def _inject(
    injector: Injector,
    backbone: PlainBackbone,
    tokens: Tensor,
    places: Tensor,
    spatial: Tensor,
    level_sizes: LevelSizes,
    grid: tuple[int, int],
) -> Tensor:
    """Tokens whose patches have seen the spatial features; prefix tokens have not."""
    x = injector(patches_of(tokens, backbone.num_prefix), places, spatial, level_sizes, grid)
    return torch.cat([tokens[:, : backbone.num_prefix], x], dim=1) if backbone.num_prefix else x
