"""What is not sure enough is left out before its mask is made."""

from __future__ import annotations

import torch

from imglish.decoding.found_objects import encode_found, mask_pixels
from imglish.structures.two_stage import RawDetections


def test_masks_are_made_of_sure_objects_alone() -> None:
    torch.manual_seed(0)
    corner = torch.rand(4, 2) * 20
    found = RawDetections(
        boxes=torch.cat([corner, corner + 8], dim=1),
        scores=torch.tensor([0.9, 0.5, 0.3, 0.1]),
        labels=torch.tensor([2, 0, 1, 0]),
        masks=torch.rand(4, 28, 28),
    )
    every, sure = encode_found(found, (32, 40)), encode_found(found, (32, 40), 0.3)
    assert every.masks is not None and sure.masks is not None
    assert len(every.objects.scores) == len(every.masks) == 4
    assert sure.objects.scores.tolist() == every.objects.scores[:3].tolist()
    assert sure.objects.labels.tolist() == [2, 0, 1] and torch.equal(sure.objects.boxes, found.boxes[:3])
    for ours, theirs in zip(sure.masks, every.masks, strict=False):
        assert (mask_pixels(ours) == mask_pixels(theirs)).all() and mask_pixels(ours).any()


def test_without_masks_boxes_are_left_out_all_the_same() -> None:
    found = RawDetections(torch.ones(2, 4), torch.tensor([0.9, 0.1]), torch.tensor([0, 1]), None)
    sure = encode_found(found, (8, 8), 0.5)
    assert sure.masks is None and sure.objects.labels.tolist() == [0]
