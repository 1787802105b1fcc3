"""Masks as COCO's run lengths, which JSON can hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imglish.decoding.found_objects import mask_of_pixels


def coco_masks(masks: Iterable[NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """Masks bool (H, W), one after the other, each as ``{"size": [H, W], "counts": text}``."""
    encoded = map(mask_of_pixels, masks)
    return [{"size": list(mask.size), "counts": mask.counts.decode("ascii")} for mask in encoded]
