"""Masks as COCO's compressed run lengths, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from imglish.structures.instances import EncodedMask


def encode_masks(masks: Tensor) -> list[EncodedMask]:
    """Encode masks bool (N, H, W), on any device."""
    from faster_coco_eval.core import mask as coco_masks  # half a second to import

    size = (masks.shape[-2], masks.shape[-1])
    if not len(masks):
        return []
    columns = np.asfortranarray(masks.permute(1, 2, 0).to(torch.uint8).cpu().numpy())
    return [EncodedMask(size, entry["counts"]) for entry in coco_masks.encode(columns)]


def decode_mask(mask: EncodedMask) -> Tensor:
    """The mask, bool (H, W)."""
    from faster_coco_eval.core import mask as coco_masks

    found = coco_masks.decode({"size": list(mask.size), "counts": mask.counts})
    return torch.from_numpy(np.ascontiguousarray(found)).to(torch.bool)
