"""ViT-Adapter: a plain ViT, a spatial prior, and their interactions (arXiv 2205.08534, figure 4).

The adapter holds its backbone; it does not inherit from it.
Shapes: B batch, N patches, M spatial tokens, C width.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit_adapter.backbone import PlainBackbone
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.interaction import Interaction
from imglish.models.vit_adapter.spatial_prior import SpatialPrior
from imglish.nn.deformable_attention import DeformableAttention
from imglish.nn.init import truncated_normal_
from imglish.ops.deformable_attention import LevelSizes, reference_points
from imglish.structures.pyramid import FeaturePyramid

_SIDE = 32  # the coarsest stride; other sizes are padded to a multiple of it


class ViTAdapter(nn.Module):
    """Turn a plain ViT into a backbone with maps of strides 4, 8, 16 and 32.

    Args:
        backbone: A `PlainBackbone` that is a module; its parameters are the adapter's.
        config: Settings.
        norm: Norm of the spatial prior and of the output maps: ``nn.BatchNorm2d`` on one device,
            ``nn.SyncBatchNorm`` on several (it does not run on one CPU).
    """

    def __init__(
        self, backbone: nn.Module, config: ViTAdapterConfig, *, norm: type[nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.backbone = backbone
        plain = cast(PlainBackbone, backbone)
        self.width, depth = plain.width, plain.depth
        if depth % config.num_interactions:
            raise ValueError(f"depth {depth} does not divide into {config.num_interactions} interactions")
        self.blocks_per_interaction = depth // config.num_interactions
        width, last = self.width, config.num_interactions - 1
        self.spatial_prior = SpatialPrior(width=width, stem_width=config.stem_width, norm=norm)
        self.level_embedding = nn.Parameter(torch.zeros(3, width))
        self.interactions = nn.ModuleList(
            Interaction(width, config, num_extra_extractors=config.num_extra_extractors if i == last else 0)
            for i in range(config.num_interactions)
        )
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.norms = nn.ModuleList(norm(width) for _ in range(4))
        self._init_weights()

    def forward(self, images: Tensor) -> FeaturePyramid:
        """Map pictures (B, 3, H, W) of any size to maps of strides 4, 8, 16, 32 of C channels.

        Sides that do not divide by 32 are padded with zeros at the bottom and the right; maps are cropped
        back to the rounded-up size.
        """
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % _SIDE, 0, -height % _SIDE))
        c1, *maps = self.spatial_prior(images)
        level_sizes: LevelSizes = tuple((c.shape[-2], c.shape[-1]) for c in maps)
        levels = [
            c.flatten(2).transpose(1, 2) + embedding
            for c, embedding in zip(maps, self.level_embedding, strict=True)
        ]
        spatial = torch.cat(levels, dim=1)
        spatial, x, grid = self._interact(images, spatial, level_sizes)

        parts = spatial.split([h * w for h, w in level_sizes], dim=1)
        c2, c3, c4 = (
            part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, level_sizes, strict=True)
        )
        c1 = self.up(c2) + c1
        vit_map = x.transpose(1, 2).unflatten(2, grid)
        outputs = []
        for c, norm in zip((c1, c2, c3, c4), self.norms, strict=True):
            c = c + F.interpolate(vit_map, size=c.shape[-2:], mode="bilinear", align_corners=False)
            outputs.append(norm(c))
        return FeaturePyramid(
            {
                stride: c[..., : math.ceil(height / stride), : math.ceil(width / stride)]
                for stride, c in zip((4, 8, 16, 32), outputs, strict=True)
            }
        )

    def _interact(
        self, images: Tensor, spatial: Tensor, level_sizes: LevelSizes
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Spatial tokens, patch tokens and the patch grid after all interactions."""
        backbone = cast(PlainBackbone, self.backbone)
        tokens, grid = backbone.embed(images)
        num_prefix = backbone.num_prefix
        grid_places = reference_points((grid,), images.device).to(tokens.dtype)
        places = reference_points(level_sizes, images.device).to(tokens.dtype)
        prefix, x = tokens[:, :num_prefix], tokens[:, num_prefix:]
        for index, interaction in enumerate(self.interactions):
            assert isinstance(interaction, Interaction)
            x = interaction.injector(x, grid_places, spatial, level_sizes)
            start = index * self.blocks_per_interaction
            tokens = torch.cat([prefix, x], dim=1)
            tokens = backbone.run_blocks(tokens, start, start + self.blocks_per_interaction)
            prefix, x = tokens[:, :num_prefix], tokens[:, num_prefix:]
            for extractor in (interaction.extractor, *interaction.extra_extractors):
                spatial = extractor(spatial, places, x, grid, level_sizes)
        return spatial, x, grid

    def _init_weights(self) -> None:
        """The official start; the backbone keeps its own weights."""
        nn.init.normal_(self.level_embedding)
        for part in (self.up, self.spatial_prior, self.interactions):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    truncated_normal_(module.weight, std=0.02, cut=100.0)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    fan_out = (
                        module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                    )
                    nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        for module in self.interactions.modules():
            if isinstance(module, DeformableAttention):
                module.init_weights()
