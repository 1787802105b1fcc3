"""Class maps of any size are those of enlarging all logits at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from imglish.inference import class_map
from imglish.inference.class_map import largest_at_size


@pytest.mark.parametrize("size", [(40, 60), (8, 12), (3, 5), (1, 1), (1, 90), (90, 1)])
@pytest.mark.parametrize("most_numbers", [2**26, 500])
def test_strips_give_the_classes_of_the_whole(
    size: tuple[int, int], most_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_map, "_MOST_NUMBERS", most_numbers)
    logits = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
    classes = largest_at_size(logits, size)
    assert classes.dtype == np.int64
    np.testing.assert_array_equal(classes, whole.numpy())
