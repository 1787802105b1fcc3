"""Run lengths are those that COCO's own tools read."""

from __future__ import annotations

import json

import numpy as np
from pycocotools import mask as coco

from imglish.inference.run_lengths import coco_masks


def test_masks_come_back_from_json_by_cocos_own_tools() -> None:
    masks = np.random.default_rng(0).random((3, 5, 9)) < 0.4
    told = json.loads(json.dumps(coco_masks(masks)))
    assert [one["size"] for one in told] == [[5, 9]] * 3  # (height, width)
    for one, mask in zip(told, masks, strict=True):
        np.testing.assert_array_equal(coco.decode(one).astype(bool), mask)
