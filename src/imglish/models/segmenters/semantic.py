"""A semantic segmenter: backbone with a pyramid, head with logits."""

from __future__ import annotations

from torch import Tensor, nn


class SemanticSegmenter(nn.Module):
    """Pictures to class logits at stride 4; losses and metrics upsample as they need.

    Args:
        backbone: Maps pictures to a `FeaturePyramid`.
        head: Maps a pyramid to logits.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures (B, 3, H, W) to logits (B, num_classes, H / 4, W / 4), rounded up."""
        logits: Tensor = self.head(self.backbone(images))
        return logits
