from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import SegmenterConfig, SemanticFpnConfig, SetrPupConfig, UPerNetConfig
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.segmenters.semantic import LogitsPair, SemanticSegmenter
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.last_map import LastMap
from imglish.models.vit_adapter.model import ViTAdapter

BEIT3 = Beit3Config(
    image_size=(64, 64), patch_size=16, vocab_size=20, max_text_tokens=4, width=32, depth=2, num_heads=4,
    feed_forward_width=64,
)  # fmt: skip
ADAPTER = ViTAdapterConfig(num_interactions=2, stem_width=4, num_heads=4, num_points=2)


FPN = SemanticFpnConfig(neck_width=8, head_width=7)
UPERNET = UPerNetConfig(head_width=8, auxiliary_width=6)
SETR = SetrPupConfig(head_width=8, auxiliary_width=6)


def segmenter(norm: type[nn.Module] = nn.BatchNorm2d, config: SegmenterConfig = FPN) -> SemanticSegmenter:
    torch.manual_seed(0)
    model = segmenter_on(BEIT3, ADAPTER, config, num_classes=5, norm=norm).eval()
    assert isinstance(model, SemanticSegmenter)
    return model


def pictures(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (50, 70), (30, 129)])
def test_logits_stand_at_stride_4_for_pictures_of_any_size(size: tuple[int, int]) -> None:
    logits = segmenter()(pictures(*size))
    assert logits.shape == (2, 5, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    assert logits.isfinite().all() and logits.std() > 0


def test_the_head_reads_the_backbones_maps() -> None:
    model = segmenter()
    pyramid = model.backbone(pictures(64, 96))
    assert model.neck is not None
    assert torch.equal(model(pictures(64, 96)), model.head(model.neck(pyramid)))


@pytest.mark.parametrize("config", [UPERNET, SETR], ids=lambda config: config.kind)
def test_the_auxiliary_head_reads_the_same_maps_where_it_is_asked(config: SegmenterConfig) -> None:
    model, images = segmenter(config=config), pictures(64, 96)
    both = model(images, with_auxiliary=True)
    assert isinstance(both, LogitsPair)
    assert torch.equal(both.logits, model(images))
    assert model.auxiliary is not None
    assert torch.equal(both.auxiliary, model.auxiliary(model.backbone(images)))
    assert both.auxiliary.shape == (2, 5, 4, 6)
    assert both.logits.shape == ((2, 5, 16, 24) if config is UPERNET else (2, 5, 64, 96))


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_setr_on_a_plain_vit_reads_the_last_blocks_map(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = segmenter_on(BEIT3, None, SETR, num_classes=5).eval()
    assert isinstance(model, SemanticSegmenter) and isinstance(model.backbone, LastMap)
    rows, columns = (math.ceil(side / 16) for side in size)
    images = pictures(*size)
    pyramid = model.backbone(images)
    assert list(pyramid.maps) == [16] and pyramid[16].shape == (2, 32, rows, columns)
    assert model(images).shape == (2, 5, 16 * rows, 16 * columns)
    model(images).sum().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None}
    assert still and all(
        "text" in name or "mask_token" in name or name.startswith("auxiliary.") for name in still
    )
    with pytest.raises(ValueError, match=r"SETR-PUP reads the last block's map alone; leave out_blocks"):
        segmenter_on(BEIT3, None, SETR, num_classes=5, out_blocks=(0, 1))


def test_without_an_auxiliary_head_there_is_none_to_ask() -> None:
    model = segmenter(config=UPerNetConfig(head_width=8, auxiliary_width=0))
    assert model.auxiliary is None
    assert not any("auxiliary" in name for name in model.state_dict())


@pytest.mark.parametrize("tall", [False, True])
def test_what_changes_in_the_picture_changes_the_logits_around_its_place(tall: bool) -> None:
    """Also where rows and columns differ in number."""
    model, images = segmenter(), pictures(128, 64) if tall else pictures(64, 128)
    changed = images.clone()
    row, column = (96, 40) if tall else (40, 96)
    changed[:, :, row : row + 8, column : column + 8] *= -1
    with torch.no_grad():
        difference = (model(changed) - model(images)).abs().sum(dim=1)
    # The ViT's attention looks everywhere, all else at its neighbours: the far end changes, but far less.
    far, near = (
        (difference[:, :12], difference[:, 16:]) if tall else (difference[:, :, :12], difference[:, :, 16:])
    )
    assert near.mean() > 5 * far.mean()


def test_the_encoder_has_no_output_norm_even_if_its_settings_ask_for_one() -> None:
    assert BEIT3.output_norm
    adapter = segmenter().backbone
    assert isinstance(adapter, ViTAdapter)
    assert adapter.backbone.encoder.norm is None


def test_all_norms_over_batches_are_of_the_kind_asked_for() -> None:
    alone, many = segmenter(), segmenter(nn.SyncBatchNorm)
    count = sum(isinstance(m, nn.BatchNorm2d) for m in alone.modules())
    assert count == sum(isinstance(m, nn.SyncBatchNorm) for m in many.modules()) > 10
    assert not any(isinstance(m, nn.BatchNorm2d) for m in many.modules())
    assert alone.state_dict().keys() == many.state_dict().keys()


def test_all_that_reads_pictures_learns_in_training() -> None:
    model = segmenter().train()
    logits = model(pictures(64, 96))
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None}
    assert still and all("text" in name or name.endswith("mask_token") for name in still)
