"""A plain ViT's last map alone: for SETR, and for ViTDet's neck, which makes every level of it."""

from __future__ import annotations

from torch import Tensor, nn

from imglish.models.vit_adapter.backbone import patches_of, plain_backbone
from imglish.models.vit_adapter.padding import pad_images
from imglish.structures.pyramid import FeaturePyramid


class LastMap(nn.Module):
    """The map of stride 16 after all blocks (arXiv 2012.15840; ViTDet: 2203.16527).

    Args:
        backbone: A `PlainBackbone` of patches of 16 pixels that is a module; its parameters are this model's.

    Raises:
        ConfigError: The backbone is no `PlainBackbone`, or its patches are not of 16 pixels.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.width = plain_backbone(backbone, patch_sizes=(16,)).width

    def forward(self, images: Tensor) -> FeaturePyramid:
        """Map pictures (B, 3, H, W) of any size to (B, C, H / 16, W / 16), rounded up."""
        backbone = plain_backbone(self.backbone, patch_sizes=(16,))
        rows, columns = ((side + 15) // 16 for side in images.shape[-2:])
        tokens, grid = backbone.embed(pad_images(images))
        tokens = backbone.run_blocks(tokens, 0, backbone.depth, grid)
        x = patches_of(tokens, backbone.num_prefix).transpose(1, 2).unflatten(2, grid)
        return FeaturePyramid({16: x[..., :rows, :columns]})
