"""Tiny backbones of both kinds, and adapters around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter

WIDTH = 32
ADAPTER = ViTAdapterConfig(
    num_interactions=2, stem_width=4, num_heads=4, num_points=2, num_extra_extractors=1
)
VIT = ViTConfig(image_size=(64, 96), patch_size=16, width=WIDTH, depth=4, num_heads=4, mlp_ratio=2.0)
BEIT3 = Beit3Config(
    image_size=(64, 96), patch_size=16, vocab_size=20, max_text_tokens=4, width=WIDTH, depth=4, num_heads=4,
    feed_forward_width=64, output_norm=False,
)  # fmt: skip


def vit_adapter(config: ViTAdapterConfig = ADAPTER, vit: ViTConfig = VIT) -> ViTAdapter:
    torch.manual_seed(0)
    return ViTAdapter(ViT(vit), config).eval()


def beit3_adapter(config: ViTAdapterConfig = ADAPTER) -> ViTAdapter:
    torch.manual_seed(0)
    return ViTAdapter(Beit3VisionBackbone(Beit3Encoder(BEIT3)), config).eval()


def unsettle(model: nn.Module, scale: float = 0.1) -> None:
    """Leave nothing at zero or one: noise on every parameter and on the statistics of norms."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=g))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(scale * torch.rand(buffer.shape, generator=g))


def pictures(height: int = 64, width: int = 96, batch: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(batch, 3, height, width, generator=g) * 2 - 1
