from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.structures.batches import IGNORE, MaskedBatch, MaskedImages, MaskedPairs, MaskedText

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # another order of summation
CONFIG = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=30, max_text_tokens=12, width=32, depth=2, num_heads=4,
    feed_forward_width=64,
)  # fmt: skip
GIANT_FORM = replace(CONFIG, split_attention=False, sub_norm=False, num_fusion_layers=1)
MASK = 29


def masked_batch() -> MaskedBatch:
    g = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 32, 32, generator=g)
    corruption = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    ids = torch.randint(4, 29, (3, 6), generator=g)
    targets = torch.full_like(ids, IGNORE)
    targets[0, 2], targets[2, 1:4] = ids[0, 2], ids[2, 1:4]
    hidden = torch.where(targets == IGNORE, ids, MASK)
    padding = torch.zeros(3, 6, dtype=torch.bool)
    return MaskedBatch(
        images=MaskedImages(images=images, corruption=corruption),
        texts=MaskedText(token_ids=hidden, padding=padding, targets=targets),
        pairs=MaskedPairs(
            images=images, corruption=corruption, token_ids=hidden, padding=padding, targets=targets
        ),
    )


def test_masked_logits_have_one_row_for_each_hidden_position() -> None:
    logits = Beit3ForMaskedDataModeling(CONFIG, codebook_size=11)(masked_batch())
    assert logits.image.shape == logits.pair_image.shape == (6, 11)
    assert logits.text.shape == logits.pair_text.shape == (4, 30)


def test_masked_logits_stand_in_the_order_of_the_targets() -> None:
    model = Beit3ForMaskedDataModeling(CONFIG, codebook_size=11).eval()
    batch = masked_batch()
    dense = model.text_head(model.encoder(token_ids=batch.texts.token_ids, padding=batch.texts.padding).text)
    torch.testing.assert_close(model(batch).text, dense[batch.texts.targets != IGNORE], **ROUNDING)


def test_dual_encoder_gives_unit_vectors_of_each_side_alone() -> None:
    torch.manual_seed(0)
    model = Beit3ForRetrieval(CONFIG).eval()
    images, ids = torch.rand(2, 3, 32, 32), torch.randint(4, 29, (2, 5))
    features = model(images, ids)
    torch.testing.assert_close(features.vision.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(features.text, model.encode_texts(ids))
    torch.testing.assert_close(features.scale, torch.tensor(1 / 0.07))


def test_answers_depend_on_picture_and_question() -> None:
    torch.manual_seed(0)
    model = Beit3ForVqa(CONFIG, num_answers=7).eval()
    images, ids = torch.rand(2, 3, 32, 32), torch.randint(4, 29, (2, 5))
    logits = model(images, ids)
    assert logits.shape == (2, 7)
    assert not torch.allclose(model(1 - images, ids), logits, atol=1e-6)
    assert not torch.allclose(model(images, ids.flip(1)), logits, atol=1e-6)


@pytest.mark.parametrize("config", [CONFIG, GIANT_FORM], ids=["released form", "giant's form"])
def test_cached_generation_predicts_what_the_whole_caption_predicts(config: Beit3Config) -> None:
    torch.manual_seed(0)
    model = Beit3ForCaptioning(config).eval()
    images = torch.rand(2, 3, 32, 32)
    caption = torch.tensor([[0, 5, 9, 14], [0, 21, 8, 6]])
    memory = model.start(images)
    for t in range(4):
        step, memory = model.step(memory, caption[:, t], MASK)
        prefix = torch.cat([caption[:, : t + 1], torch.full((2, 1), MASK)], dim=1)
        at_mask = torch.zeros_like(prefix, dtype=torch.bool)
        at_mask[:, -1] = True
        whole = F.log_softmax(model(images, prefix, torch.zeros_like(at_mask), at_mask), dim=-1)
        torch.testing.assert_close(step, whole, **ROUNDING)
    assert memory.num_words == 4


def test_memory_follows_its_beams() -> None:
    torch.manual_seed(0)
    model = Beit3ForCaptioning(CONFIG).eval()
    images = torch.rand(2, 3, 32, 32)
    _, memory = model.step(model.start(images), torch.tensor([0, 0]), MASK)
    swapped, _ = model.step(memory.select(torch.tensor([1, 0, 0])), torch.tensor([7, 8, 9]), MASK)
    straight, _ = model.step(memory, torch.tensor([8, 7]), MASK)
    torch.testing.assert_close(swapped[:2], straight.flip(0), **ROUNDING)


def test_beams_of_a_picture_share_what_was_seen_of_it() -> None:
    torch.manual_seed(0)
    model = Beit3ForCaptioning(CONFIG).eval()
    _, memory = model.step(model.start(torch.rand(3, 3, 32, 32)), torch.zeros(3, dtype=torch.int64), MASK)
    beams = memory.select(torch.tensor([0, 0, 1, 1, 2, 2]))
    assert [len(block.keys) for block in beams.pictures] == [3, 3]
    two_left = beams.select(torch.tensor([1, 0, 5, 5]))  # the second picture's text is finished
    assert [len(block.keys) for block in two_left.pictures] == [2, 2] and two_left.owners.tolist() == [
        0,
        0,
        1,
        1,
    ]
    uneven = beams.select(torch.tensor([0, 2, 3]))
    words = torch.tensor([7, 8, 9])
    apart = [
        model.step(memory.select(torch.tensor([row])), words[i : i + 1], MASK)[0]
        for i, row in enumerate((0, 1, 1))
    ]
    torch.testing.assert_close(model.step(uneven, words, MASK)[0], torch.cat(apart), **ROUNDING)
