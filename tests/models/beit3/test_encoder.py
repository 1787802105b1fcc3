from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_giant, beit3_large
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.ops.attention import prefix_causal_mask
from imglish.structures.tokens import TokenLayout

# Attention kernels sum in another order for another shape; float32 keeps about 6 digits.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}

SPLIT = Beit3Config(
    image_size=(32, 48), patch_size=16, vocab_size=40, max_text_tokens=12, width=32, depth=3, num_heads=4,
    feed_forward_width=64,
)  # fmt: skip
SHARED = replace(SPLIT, split_attention=False, sub_norm=False, num_fusion_layers=1, init="paper")
SMALL = replace(SPLIT, stem="convolutional", init="scaled")


@pytest.fixture(params=[SPLIT, SHARED, SMALL], ids=["split", "shared", "small"])
def encoder(request: pytest.FixtureRequest) -> Beit3Encoder:
    torch.manual_seed(0)
    encoder = Beit3Encoder(request.param).eval()
    for parameter in encoder.parameters():  # nothing is zero or one by luck
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return encoder


def pictures(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def words(batch: int = 2, length: int = 5) -> torch.Tensor:
    return torch.randint(4, 40, (batch, length), generator=torch.Generator().manual_seed(2))


def test_one_class_encodes_pictures_texts_and_pairs(encoder: Beit3Encoder) -> None:
    image = encoder(pictures())
    text = encoder(token_ids=words())
    pair = encoder(pictures(), words())
    assert image.tokens.shape == (2, 7, 32) and image.layout == TokenLayout(7, 0)
    assert text.tokens.shape == (2, 5, 32) and text.layout == TokenLayout(0, 5)
    assert pair.vision.shape == (2, 7, 32) and pair.text.shape == (2, 5, 32)


def test_a_call_does_not_depend_on_the_call_before(encoder: Beit3Encoder) -> None:
    first = encoder(token_ids=words()).tokens
    encoder(pictures(), words())
    encoder(pictures())
    torch.testing.assert_close(encoder(token_ids=words()).tokens, first, rtol=0, atol=0)


def test_padded_words_are_seen_by_nobody(encoder: Beit3Encoder) -> None:
    ids = words(length=6)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[:, 4:] = True
    other = ids.clone()
    other[:, 4:] = 7
    a, b = encoder(pictures(), ids, padding=padding), encoder(pictures(), other, padding=padding)
    torch.testing.assert_close(a.tokens[:, :11], b.tokens[:, :11], rtol=0, atol=0)
    short = encoder(pictures(), ids[:, :4])
    torch.testing.assert_close(a.tokens[:, :11], short.tokens, **ROUNDING)


def test_a_hidden_patch_does_not_reach_the_output(encoder: Beit3Encoder) -> None:
    if encoder.config.stem != "linear":
        pytest.skip("patches of a convolutional stem overlap, as its docstring says")
    corruption = torch.zeros(2, 6, dtype=torch.bool)
    corruption[:, 0] = True
    changed = pictures()
    changed[:, :, :16, :16] = 0.5
    hidden = encoder(pictures(), corruption=corruption).tokens
    torch.testing.assert_close(encoder(changed, corruption=corruption).tokens, hidden, rtol=0, atol=0)
    assert not torch.allclose(encoder(changed).tokens, encoder(pictures()).tokens, atol=1e-3)


def test_prefix_causal_words_see_the_picture_and_earlier_words_only(encoder: Beit3Encoder) -> None:
    ids = words()
    later = ids.clone()
    later[:, 3] = (later[:, 3] - 3) % 36 + 4
    mask = prefix_causal_mask(TokenLayout(7, 5))
    a = encoder(pictures(), ids, attention_mask=mask).tokens
    b = encoder(pictures(), later, attention_mask=mask).tokens
    torch.testing.assert_close(a[:, :10], b[:, :10], rtol=0, atol=0)
    assert (a[:, 10:] - b[:, 10:]).abs().amax(dim=(0, 2)).min() > 1e-4
    blank = encoder(-pictures(), ids, attention_mask=mask).tokens
    assert (a - blank).abs().amax(dim=(0, 2)).min() > 1e-4


def test_cached_encoding_equals_encoding_at_once(encoder: Beit3Encoder) -> None:
    ids = words()
    whole = encoder(pictures(), ids, attention_mask=prefix_causal_mask(TokenLayout(7, 5))).tokens
    vision, seen = encoder.extend(encoder.vision_embedding(pictures()), TokenLayout(7, 0), None, None)
    if encoder.config.num_fusion_layers == 0:
        torch.testing.assert_close(vision, whole[:, :7], **ROUNDING)
        for t in range(5):
            x = encoder.text_embedding(ids[:, t : t + 1], start=t)
            y, seen = encoder.extend(x, TokenLayout(0, 1), seen, None)
            torch.testing.assert_close(y[:, 0], whole[:, 7 + t], **ROUNDING)


def test_every_parameter_of_a_pair_learns() -> None:
    encoder = Beit3Encoder(SPLIT)
    corruption = torch.zeros(2, 6, dtype=torch.bool)
    corruption[:, 1] = True
    (encoder(pictures(), words(), corruption=corruption).tokens ** 2 * torch.rand(32)).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_fusion_experts_serve_fused_sequences_only() -> None:
    encoder = Beit3Encoder(SHARED).eval()
    before = [
        encoder(pictures()).tokens,
        encoder(token_ids=words()).tokens,
        encoder(pictures(), words()).tokens,
    ]
    fusion = encoder.blocks[-1].feed_forward.fusion  # type: ignore[union-attr]
    fusion.fc2.bias.data.add_(torch.randn(32))  # type: ignore[union-attr, operator]
    after = [
        encoder(pictures()).tokens,
        encoder(token_ids=words()).tokens,
        encoder(pictures(), words()).tokens,
    ]
    torch.testing.assert_close(after[0], before[0])
    torch.testing.assert_close(after[1], before[1])
    assert not torch.allclose(after[2], before[2], atol=1e-2)


@pytest.mark.parametrize(("factory", "total"), [(beit3_base, 220_987_392), (beit3_large, 672_702_464)])
def test_released_sizes_have_the_recorded_number_of_parameters(factory: object, total: int) -> None:
    with torch.device("meta"):
        encoder = Beit3Encoder(factory())  # type: ignore[operator]
    assert sum(p.numel() for p in encoder.parameters()) == total


def test_the_giant_has_the_parameters_of_the_papers_table() -> None:
    with torch.device("meta"):
        encoder = Beit3Encoder(beit3_giant())

    def millions(*parts: str) -> float:
        named = encoder.named_parameters()
        return sum(p.numel() for name, p in named if all(part in name for part in parts)) / 1e6

    assert round(millions("feed_forward.vision.fc")) == 692
    assert round(millions("feed_forward.text.fc")) == 692
    assert round(millions("feed_forward.fusion.fc")) == 52
    assert round(millions(".attention.")) == 317
    heads = 64010 * 1408 + 64010 + 8192 * 1408 + 8192
    total = sum(p.numel() for p in encoder.parameters()) + heads
    assert round(total / 1e9, 1) == 1.9


def test_a_picture_of_another_size_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"9 patches but the position table has 6; .*resize_positions"):
        Beit3Encoder(SPLIT)(torch.zeros(1, 3, 48, 48))


def test_a_text_longer_than_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="13 tokens.*12"):
        Beit3Encoder(SPLIT)(token_ids=torch.zeros(1, 13, dtype=torch.int64))


def test_illegal_sizes_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="width 30 .* num_heads 4"):
        replace(SPLIT, width=30)
    with pytest.raises(ValueError, match="image side 40 .* patch_size 16"):
        replace(SPLIT, image_size=(32, 40))
