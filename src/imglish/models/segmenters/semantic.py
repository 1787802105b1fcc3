"""A semantic segmenter: backbone with a pyramid, head with logits."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.dense_heads.semantic_fpn import SemanticFpnHead
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter


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


def beit3_segmenter(
    model: Beit3Config,
    adapter: ViTAdapterConfig,
    *,
    num_classes: int,
    neck_width: int,
    head_width: int,
    norm: type[nn.Module] = nn.BatchNorm2d,
) -> SemanticSegmenter:
    """BEiT-3's vision side, ViT-Adapter and Semantic FPN, joined.

    Args:
        model: Settings of BEiT-3.
        adapter: Settings of the adapter.
        num_classes: Classes of the logits.
        neck_width: Channels of the top-down pyramid.
        head_width: Channels of the head.
        norm: Norm of adapter and head; synchronised over ranks where there are several.
    """
    encoder = Beit3Encoder(replace(model, output_norm=False))
    backbone = ViTAdapter(Beit3VisionBackbone(encoder), adapter, norm=norm)
    head = SemanticFpnHead(
        in_width=backbone.width,
        num_classes=num_classes,
        neck_width=neck_width,
        head_width=head_width,
        norm=norm,
    )
    return SemanticSegmenter(backbone, head)
