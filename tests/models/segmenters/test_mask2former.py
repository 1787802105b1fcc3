from __future__ import annotations

import math

import pytest
import torch

from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.config import ViTAdapterConfig

BEIT3 = Beit3Config(
    image_size=(64, 64), patch_size=16, vocab_size=20, max_text_tokens=4, width=32, depth=2, num_heads=4,
    feed_forward_width=64,
)  # fmt: skip
ADAPTER = ViTAdapterConfig(num_interactions=2, stem_width=4, num_heads=4, num_points=2)
CONFIG = Mask2FormerConfig(
    width=16, num_queries=5, num_pixel_layers=2, num_layers=3, num_heads=4, pixel_feed_forward_width=24,
    feed_forward_width=20, num_groups=4,
)  # fmt: skip


def segmenter() -> Mask2Former:
    torch.manual_seed(0)
    model = segmenter_on(BEIT3, ADAPTER, CONFIG, num_classes=3).eval()
    assert isinstance(model, Mask2Former)
    return model


def pictures(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_masks_stand_at_stride_4_for_pictures_of_any_size(size: tuple[int, int]) -> None:
    predictions = segmenter()(pictures(*size))
    assert len(predictions) == 4
    for classes, masks in predictions:
        assert classes.shape == (2, 5, 4)
        assert masks.shape == (2, 5, math.ceil(size[0] / 4), math.ceil(size[1] / 4))


def test_the_sizes_of_all_parts_are_those_of_the_settings() -> None:
    model = segmenter()
    assert len(model.neck.layers) == 2 and len(model.head.layers) == 3  # type: ignore[arg-type]
    state = model.state_dict()
    assert state["neck.layers.0.feed_forward.0.weight"].shape == (24, 16)
    assert state["head.layers.0.feed_forward.0.weight"].shape == (20, 16)
    assert state["head.query_features"].shape == (5, 16)


def test_all_that_reads_pictures_learns_in_training() -> None:
    model = segmenter().train()
    g = torch.Generator().manual_seed(2)
    outputs = [x for prediction in model(pictures(64, 96)) for x in prediction]
    torch.stack([(x * torch.randn(x.shape, generator=g)).sum() for x in outputs]).sum().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None}
    assert still and all("text" in name or name.endswith("mask_token") for name in still)
