"""How much fine detail features hold: their Fourier amplitudes, as ViT-Adapter's paper shows for stride 8.

The measure is that of "How do vision transformers work?" (arXiv 2202.06709).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import torch
from torch import Tensor

from imglish.evaluation.plots import HEIGHT, TOP, WIDTH, Line, line_chart

_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df")
_STYLE = (
    "svg{background:#fff}text{font:11px sans-serif;fill:#555}.grid{stroke:#e3e3e3}.axis{stroke:#777}"
    ".line{fill:none;stroke-width:2}.thin{opacity:.3}"
)


def relative_log_amplitude(features: Tensor) -> Tensor:
    """Log amplitude of each frequency over that of the mean.

    Frequencies are those of the diagonal, the same along rows and columns. Logarithms are averaged over
    pictures and channels.

    Args:
        features: (B, C, n, n), float.

    Returns:
        float64 (n // 2 + 1,), frequencies 0 to pi in equal steps (odd n end below pi); the first is 0. The
        higher the rest, the more detail.

    Raises:
        ValueError: The maps are not square, or there are none.
    """
    if features.ndim != 4 or features.shape[-1] != features.shape[-2] or not features.numel():
        raise ValueError(f"features of shape {tuple(features.shape)}; expected (B, C, n, n)")
    amplitudes = torch.fft.fft2(features.double()).abs()
    # A channel without any detail would be minus infinity.
    logs = amplitudes.clamp(min=torch.finfo(torch.float32).tiny).log().mean(dim=(0, 1))
    diagonal = logs.diagonal()[: features.shape[-1] // 2 + 1]
    relative: Tensor = diagonal - diagonal[0]
    return relative


def fourier_chart(amplitudes: Mapping[str, Sequence[float]], *, size: int, title: str) -> str:
    """Draw relative log amplitudes as an SVG file.

    Args:
        amplitudes: Of each model by its name, as of `relative_log_amplitude`.
        size: n of the maps.
        title: Read out in place of the chart.
    """
    lines = [
        Line(name, tuple((2 * index / size, value) for index, value in enumerate(values)))
        for name, values in amplitudes.items()
    ]
    chart = line_chart(lines, title=title, x_label="frequency (times pi)", y_label="relative log amplitude")
    colours = [_COLOURS[index % len(_COLOURS)] for index in range(len(lines))]
    style = _STYLE + "".join(f".series-{index}{{stroke:{colour}}}" for index, colour in enumerate(colours))
    keys = "".join(
        f'<text x="{WIDTH - 16}" y="{TOP + 12 + 14 * index}" text-anchor="end" style="fill:{colour}">'
        f"{escape(line.name)}</text>"
        for index, (line, colour) in enumerate(zip(lines, colours, strict=True))
    )
    start = f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{2 * HEIGHT}"'
    return chart.replace("<svg", start, 1).replace("</svg>", f"<style>{style}</style>{keys}</svg>") + "\n"
