"""From coarse logits of classes to a class for each pixel of a picture of any size."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_MOST_NUMBERS = (
    2**26
)  # logits in memory at once: those of 150 classes would fill 7 GB for a telephone's picture


def largest_at_size(logits: Tensor, size: tuple[int, int]) -> NDArray[np.int64]:
    """The class whose bilinearly enlarged logit is the largest.

    Args:
        logits: (classes, h, w).
        size: (height, width) of the picture.

    Returns:
        int64 (height, width).
    """
    height, width = size
    rows = max(1, _MOST_NUMBERS // (logits.shape[0] * width))
    # Where each row of the picture lies among those of the logits, as `interpolate` places them.
    place = (torch.arange(height, device=logits.device) + 0.5) * logits.shape[1] / height - 0.5
    place = place.clamp(0, logits.shape[1] - 1)
    above, share = place.floor().long(), (place - place.floor())[:, None].to(logits.dtype)
    below = (above + 1).clamp(max=logits.shape[1] - 1)
    classes = np.empty(size, dtype=np.int64)
    for top in range(0, height, rows):
        strip = slice(top, min(top + rows, height))
        mixed = torch.lerp(logits[:, above[strip]], logits[:, below[strip]], share[strip])
        wide = F.interpolate(mixed[None], size=(mixed.shape[1], width), mode="bilinear", align_corners=False)
        classes[strip] = wide[0].argmax(dim=0).cpu().numpy()
    return classes
