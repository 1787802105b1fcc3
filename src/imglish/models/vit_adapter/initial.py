"""The official start of convolutions and linears beside the ViT (parity FACTS of the adapter, section 1)."""

from __future__ import annotations

import math

from torch import nn

from imglish.nn.init import truncated_normal_


def init_convolutions(part: nn.Module) -> None:
    """Linears of deviation 0.02, convolutions by what they feed; biases zero. Searches ``part``."""
    for module in part.modules():
        if isinstance(module, nn.Linear):
            truncated_normal_(module.weight, std=0.02, cut=100.0)
            nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
