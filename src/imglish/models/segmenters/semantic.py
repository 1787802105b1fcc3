"""Segmenters that give every pixel logits: Semantic FPN, UPerNet, SETR-PUP."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from imglish.structures.pyramid import FeaturePyramid


class LogitsPair(NamedTuple):
    """Logits of both heads.

    Args:
        logits: (B, num_classes, h, w), what counts.
        auxiliary: (B, num_classes, h', w') of the auxiliary head, which helps in training only.
    """

    logits: Tensor
    auxiliary: Tensor


class SemanticSegmenter(nn.Module):
    """Pictures to class logits, mostly at stride 4; losses and metrics upsample as they need.

    Args:
        backbone: Maps pictures to a `FeaturePyramid`.
        head: Maps a pyramid to logits.
        neck: Maps the backbone's pyramid to the head's; None hands it on.
        auxiliary: Maps the backbone's pyramid to logits of its own.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        neck: nn.Module | None = None,
        auxiliary: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head, self.auxiliary = backbone, neck, head, auxiliary

    def forward(self, images: Tensor, *, with_auxiliary: bool = False) -> Tensor | LogitsPair:
        """Map pictures (B, 3, H, W) to logits.

        Args:
            images: Pictures.
            with_auxiliary: True gives the logits of both heads; there must be two.

        Returns:
            (B, num_classes, H / 4, W / 4), rounded up; at SETR-PUP (B, num_classes, H, W) or near it.
        """
        pyramid = self.backbone(images)
        logits = self.read(pyramid)
        if not with_auxiliary:
            return logits
        assert self.auxiliary is not None, "this segmenter has no auxiliary head"
        return LogitsPair(logits, self.auxiliary(pyramid))

    def read(self, pyramid: FeaturePyramid) -> Tensor:
        """Logits of pictures whose maps the backbone has made before; shapes as of `forward`."""
        logits: Tensor = self.head(pyramid if self.neck is None else self.neck(pyramid))
        return logits
