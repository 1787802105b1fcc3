"""A convolution, a norm and a ReLU: the brick of dense heads."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.ops.convolution import folding_pays, normalised_convolution

Norm = Callable[[int], nn.Module]  # from channels to a norm over (B, C, H, W), such as nn.BatchNorm2d


class ConvNorm(nn.Module):
    """Convolution that keeps the size, norm, and ReLU where wanted.

    Args:
        in_width: Channels in.
        out_width: Channels out.
        kernel: Odd side of the kernel.
        norm: Makes the norm.
        relu: True cuts negative values.
        bias: True gives the convolution a bias, which the norm behind it mostly makes superfluous.
    """

    def __init__(
        self, in_width: int, out_width: int, kernel: int, *, norm: Norm, relu: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, out_width, kernel, padding=kernel // 2, bias=bias)
        self.norm = norm(out_width)
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_width, H, W) to (B, out_width, H, W)."""
        y = convolve_and_normalise(self.conv, self.norm, x)
        return F.relu(y) if self.relu else y


def convolve_and_normalise(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))``; where that pays and the norm knows its statistics, in one pass.

    Args:
        conv: A plain convolution, or one whose other settings (groups, dilation) then keep it as it is.
        norm: Any norm of its channels.
        x: (B, C, H, W).
    """
    plain = conv.groups == 1 and conv.dilation == (1, 1) and isinstance(conv.padding, tuple)
    if (
        plain
        and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
        and not norm.training
        and norm.running_mean is not None
        and norm.running_var is not None
        and norm.weight is not None
        and folding_pays(x)
    ):
        return normalised_convolution(
            x,
            conv.weight,
            conv.bias,
            mean=norm.running_mean,
            variance=norm.running_var,
            scale=norm.weight,
            shift=norm.bias,
            eps=norm.eps,
            stride=(conv.stride[0], conv.stride[1]),
            padding=(int(conv.padding[0]), int(conv.padding[1])),
        )
    y: Tensor = norm(conv(x))
    return y


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map (B, C, h, w) to (B, C, *size) bilinearly, corners not aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
