from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd

CONFIG = VqkdConfig(
    encoder=ViTConfig(image_size=(16, 24), patch_size=8, width=16, depth=2, num_heads=2),
    decoder_width=16,
    decoder_depth=1,
    decoder_heads=2,
    codebook_size=32,
    codebook_dim=8,
    teacher_dim=12,
)
IMAGES = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def build() -> Vqkd:
    torch.manual_seed(0)
    return Vqkd(CONFIG).eval()


def test_a_picture_becomes_one_token_a_patch() -> None:
    model = build()
    tokens = model.encode(IMAGES)
    assert tokens.shape == (3, 6) and tokens.dtype == torch.int64
    assert torch.equal(tokens, model(IMAGES).quantized.token_ids)
    assert len(tokens.unique()) > 1 and tokens.max() < 32


def test_tokens_alone_rebuild_what_the_picture_rebuilds() -> None:
    model = build()
    codes = model.quantizer.codebook[model.encode(IMAGES)]
    torch.testing.assert_close(model.decode(codes), model(IMAGES).reconstruction)
    assert model.decode(codes).shape == (3, 6, 12)


def test_a_picture_alone_gives_what_it_gives_in_a_batch() -> None:
    model = build()
    torch.testing.assert_close(model.features(IMAGES)[1:2], model.features(IMAGES[1:2]))


def test_features_before_the_codebook_stay_float32_under_autocast() -> None:
    model = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.features(IMAGES).dtype == torch.float32


def test_the_reconstruction_trains_all_but_the_codebook() -> None:
    model = build().train()
    model(IMAGES).reconstruction.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert "quantizer.codebook" not in dict(model.named_parameters())


def test_other_sizes_can_be_encoded() -> None:
    assert build().encode(torch.rand(2, 3, 32, 16)).shape == (2, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": 1}, "codebook_size must be at least 2; got 1"),
        ({"decay": 1.0}, r"decay must lie in \(0, 1\); got 1.0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]
