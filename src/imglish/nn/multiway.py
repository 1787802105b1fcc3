"""Routing tokens to the expert of their modality (BEiT-3, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from imglish.structures.tokens import TokenLayout


class Multiway(nn.Module):
    """Give each modality its own expert; ``layout`` says which tokens go where.

    Args:
        make_expert: Builds one expert; called once per modality, so that each has weights of its own.
    """

    def __init__(self, make_expert: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.vision = make_expert()
        self.text = make_expert()

    def forward(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C'); vision tokens come first."""
        y: Tensor
        if layout.num_text == 0:
            y = self.vision(x)
            return y
        if layout.num_vision == 0:
            y = self.text(x)
            return y
        vision, text = x.split([layout.num_vision, layout.num_text], dim=1)
        return torch.cat([self.vision(vision), self.text(text)], dim=1)


class Shared(nn.Module):
    """One expert for every modality, behind the same call as `Multiway`."""

    def __init__(self, make_expert: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.shared = make_expert()

    def forward(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C'), whatever the layout."""
        y: Tensor = self.shared(x)
        return y


class MultiwayWithFusion(Multiway):
    """Vision and text experts, and a third one for sequences that hold both (the paper's VL-FFN)."""

    def __init__(self, make_expert: Callable[[], nn.Module]) -> None:
        super().__init__(make_expert)
        self.fusion = make_expert()

    def forward(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C'); fused sequences go through the fusion expert whole."""
        if layout.is_fused:
            y: Tensor = self.fusion(x)
            return y
        return super().forward(x, layout)
