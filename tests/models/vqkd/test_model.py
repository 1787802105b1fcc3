from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.weights import fingerprint

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


def test_the_view_is_resized_to_the_grid_that_is_wanted_and_stays_in_range() -> None:
    """Black and white stripes overshoot where they are resized smoothly."""
    model, seen = build(), []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stripes = torch.ones(1, 3, 14, 21)
    stripes[..., ::4] = -1
    assert model.encode(stripes, (2, 3)).shape == (1, 6)
    assert model.encode(IMAGES, (4, 5)).shape == (3, 20)
    assert [tuple(view.shape[-2:]) for view in seen] == [(16, 24), (32, 40)]
    assert all(view.abs().max() <= 1 for view in seen)


def test_a_picture_of_the_right_size_is_seen_as_it_is() -> None:
    assert torch.equal(build().encode(IMAGES, (2, 3)), build().encode(IMAGES))


def test_the_fingerprint_follows_what_decides_the_tokens_and_nothing_else() -> None:
    before = fingerprint(build())
    assert before == fingerprint(build())
    for name, matters in (
        ("encoder.norm.bias", True),
        ("to_code.2.weight", True),
        ("quantizer.codebook", True),
        ("quantizer.usage", False),
        ("decoder.norm.bias", False),
        ("to_teacher.2.bias", False),
    ):
        model = build()
        model.state_dict()[name].view(-1)[0] += 1e-3
        assert (fingerprint(model) != before) == matters, name


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
