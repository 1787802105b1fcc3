"""Mask2Former (arXiv 2112.01527): one network for semantic, instance and panoptic segmentation."""

from __future__ import annotations

from torch import Tensor, nn

from imglish.structures.mask_predictions import MaskPredictions


class Mask2Former(nn.Module):
    """Pictures to classes and masks; `decoding.masks` makes class maps, instances or segments of them.

    Args:
        backbone: Maps pictures to a `FeaturePyramid`.
        neck: Maps that to the features of masks and a pyramid, as `PixelDecoder` does.
        head: Maps both to predictions, as `MaskDecoder` does.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head

    def forward(self, images: Tensor) -> tuple[MaskPredictions, ...]:
        """Map pictures (B, 3, H, W) to predictions, masks at stride 4.

        Returns:
            Those before the mask decoder's first layer and after each; the last are the answer.
        """
        predictions: tuple[MaskPredictions, ...] = self.head(*self.neck(self.backbone(images)))
        return predictions
