"""The two-layer perceptron of a Transformer block."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.nn.linear import Linear


class FeedForward(nn.Module):
    """Linear, GELU (exact), optional norm, linear.

    Args:
        width: Features in and out.
        hidden: Features between.
        sub_norm: True puts a layer norm before the second linear (sub-LN of Magneto, arXiv 2210.06423).
        eps: Epsilon of that norm.
    """

    def __init__(self, width: int, hidden: int, *, sub_norm: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden, eps=eps) if sub_norm else nn.Identity()
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        y: Tensor = self.fc2(self.norm(F.gelu(self.fc1(x))))
        return y
