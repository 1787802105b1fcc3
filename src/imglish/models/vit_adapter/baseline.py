"""A plain ViT as a backbone for dense tasks, without adapter: what ViT-Adapter is compared with."""

from __future__ import annotations

import torch
from torch import nn

from imglish.models.vit_adapter.backbone import patches_of, plain_backbone
from imglish.models.vit_adapter.initial import init_convolutions
from imglish.models.vit_adapter.padding import crop_pyramid, pad_images
from imglish.models.vit_adapter.pyramid import PlainPyramid, PyramidNorm
from imglish.structures.pyramid import FeaturePyramid


class PlainViT(nn.Module):
    """Maps of strides 4, 8, 16 and 32 from some blocks of a plain ViT (official ViTBaseline, BEiTBaseline).

    Args:
        backbone: A `PlainBackbone` of patches of 16 pixels that is a module; its parameters are this model's.
        out_blocks: The blocks whose maps are used, one for each level, or one for all (as ViTDet).
        layer_norm: True normalises the maps (ViTBaseline).
        norm: Norm on the way to stride 4: ``group`` (ViTBaseline) or ``batch`` (BEiTBaseline).
        batch_norm: Class of the batch norm: ``nn.BatchNorm2d`` on one device, ``nn.SyncBatchNorm`` on more.

    Raises:
        ConfigError: The backbone is no `PlainBackbone`, or its patches are not of 16 pixels.
        ValueError: ``out_blocks`` is not of one or four blocks that the ViT has, in their order.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        out_blocks: tuple[int, ...],
        layer_norm: bool = True,
        norm: PyramidNorm = "group",
        batch_norm: type[nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        plain = plain_backbone(backbone, patch_sizes=(16,))
        rising = sorted(set(out_blocks)) == list(out_blocks)
        if (
            len(out_blocks) not in (1, 4)
            or not rising
            or not 0 <= out_blocks[0] <= out_blocks[-1] < plain.depth
        ):
            raise ValueError(
                f"out_blocks must be one or four rising numbers below {plain.depth}; got {out_blocks}"
            )
        self.backbone, self.width, self.out_blocks = backbone, plain.width, out_blocks
        self.pyramid = PlainPyramid(plain.width, layer_norm=layer_norm, norm=norm, batch_norm=batch_norm)
        init_convolutions(self.pyramid)

    def forward(self, images: torch.Tensor) -> FeaturePyramid:
        """Map pictures (B, 3, H, W) to maps of strides 4, 8, 16, 32; any size, padded as in `ViTAdapter`."""
        backbone = plain_backbone(self.backbone, patch_sizes=(16,))
        size = (images.shape[-2], images.shape[-1])
        tokens, grid = backbone.embed(pad_images(images))
        levels, start = [], 0
        for block in self.out_blocks:
            tokens = backbone.run_blocks(tokens, start, block + 1, grid)
            levels.append(patches_of(tokens, backbone.num_prefix))
            start = block + 1
        if len(levels) == 1:
            levels = levels * 4
        return crop_pyramid(self.pyramid(levels, grid), size)
