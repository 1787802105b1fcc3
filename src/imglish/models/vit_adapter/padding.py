"""Pictures of any size: padded to the coarsest stride, and the maps cropped back."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from imglish.ops.sizes import whole_steps
from imglish.structures.pyramid import FeaturePyramid

STRIDES = (4, 8, 16, 32)


def pad_images(images: Tensor) -> Tensor:
    """Pad (B, C, H, W) with zeros at the bottom and the right to sides that divide by 32."""
    # Also where there is nothing to pad: a branch would bind an exported model to one kind of size.
    height, width = images.shape[-2:]
    coarsest = STRIDES[-1]
    rows, columns = whole_steps(height, coarsest), whole_steps(width, coarsest)
    return F.pad(images, (0, coarsest * columns - width, 0, coarsest * rows - height))


def crop_pyramid(maps: Sequence[Tensor], size: tuple[int, int]) -> FeaturePyramid:
    """Maps (B, C, ., .) of strides 4, 8, 16, 32 of padded pictures, cropped for pictures of ``size``.

    Args:
        maps: One for each stride.
        size: (height, width) of the pictures before they were padded; maps are rounded up.
    """
    return FeaturePyramid(
        {
            stride: x[..., : (size[0] + stride - 1) // stride, : (size[1] + stride - 1) // stride]
            for stride, x in zip(STRIDES, maps, strict=True)
        }
    )
