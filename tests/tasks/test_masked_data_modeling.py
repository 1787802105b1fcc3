from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.models.beit3.heads import Beit3ForMaskedDataModeling
from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import IGNORE, MaskedBatch, MaskedImages, MaskedPairs, MaskedText
from imglish.tasks.masked_data_modeling import STREAMS, MaskedDataModelingTask
from tests.tasks.tiny import (
    CONFIG,
    MASK,
    PAD,
    check_evaluation_leaves_the_model_alone,
    fit,
    no_padding,
    pictures,
    scores,
    with_noise,
    words,
)

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order
CODES = 16
TOKENIZER = VqkdConfig(
    encoder=ViTConfig(image_size=(32, 32), patch_size=16, width=16, depth=1, num_heads=2),
    decoder_width=16,
    decoder_depth=1,
    decoder_heads=2,
    codebook_size=CODES,
    codebook_dim=8,
    teacher_dim=4,
)


def build() -> MaskedDataModelingTask:
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER)
    with_noise(tokenizer)
    return MaskedDataModelingTask(Beit3ForMaskedDataModeling(CONFIG, codebook_size=CODES), tokenizer)


def hidden_text(batch: int, places: list[tuple[int, int]]) -> dict[str, Tensor]:
    ids, padding = words(batch), no_padding(batch)
    padding[-1, 4:] = True
    targets = torch.full_like(ids, IGNORE)
    for place in places:
        targets[place] = ids[place]
    shown = torch.where(targets == IGNORE, ids, MASK).masked_fill(padding, PAD)
    return {"token_ids": shown, "padding": padding, "targets": targets}


def hidden_patches(batch: int, places: list[tuple[int, int]]) -> Tensor:
    corruption = torch.zeros(batch, 4, dtype=torch.bool)
    for place in places:
        corruption[place] = True
    return corruption


# What is hidden in each stream, row by row: no two streams hide as much.
IMAGES = [(0, 0), (0, 2), (1, 3), (2, 0), (2, 1)]
TEXTS = [(0, 1), (0, 4), (1, 2), (3, 0)]
PAIR_IMAGES = [(0, 1), (1, 0), (1, 3)]
PAIR_TEXTS = [(0, 5), (1, 2)]
ANSWERS = [IGNORE, 9]  # the second pair's text is a question


def masked_batch() -> MaskedBatch:
    """Three pictures, four texts, two pairs; the last text and the last pair's text end early."""
    return MaskedBatch(
        images=MaskedImages(images=pictures(3), corruption=hidden_patches(3, IMAGES)),
        texts=MaskedText(**hidden_text(4, TEXTS)),
        pairs=MaskedPairs(
            images=-pictures(2),
            corruption=hidden_patches(2, PAIR_IMAGES),
            **hidden_text(2, PAIR_TEXTS),
            answers=torch.tensor(ANSWERS),
        ),
    )


def nothing_hidden(batch: MaskedBatch, stream: str) -> MaskedBatch:
    """The batch with nothing to predict in one stream; its rows stay."""
    part = {"image": "images", "text": "texts"}.get(stream, "pairs")
    old = getattr(batch, part)
    if stream.endswith("image"):
        new = replace(old, corruption=torch.zeros_like(old.corruption))
    elif stream.endswith("answer"):
        new = replace(old, answers=torch.full_like(old.answers, IGNORE))
    else:
        new = replace(old, targets=torch.full_like(old.targets, IGNORE))
    return replace(batch, **{part: new})


def without_rows(batch: MaskedBatch, part: str) -> MaskedBatch:
    """The batch with no sample at all in one part."""
    old = getattr(batch, part)
    values = {name: getattr(old, name) for name in type(old).__slots__}
    empty = {name: None if value is None else value[:0] for name, value in values.items()}
    return replace(batch, **{part: type(old)(**empty)})


def unused(task: MaskedDataModelingTask) -> set[str]:
    return {name for name, p in task.model.named_parameters() if p.grad is None}


def test_a_step_gives_a_finite_loss_and_logs_all_its_terms() -> None:
    out = build().train().training_step(masked_batch())
    assert out.loss.isfinite() and out.loss.ndim == 0
    terms_logged = {f"{kind}_{stream}" for kind in ("loss", "accuracy") for stream in STREAMS}
    assert out.logs.keys() == {*terms_logged, "wasted_tokens"}
    assert not any(value.requires_grad for value in out.logs.values())
    terms = torch.stack([out.logs[f"loss_{stream}"] for stream in STREAMS])
    assert (terms > 0).all()
    torch.testing.assert_close(out.loss.detach(), terms.sum())


def test_only_hidden_positions_count() -> None:
    task, batch = build().eval(), masked_batch()
    model, tokenizer = task.model, task.visual_tokenizer
    assert isinstance(model, Beit3ForMaskedDataModeling)
    images, texts, pairs = batch.images, batch.texts, batch.pairs
    image = model.encoder(images.images, corruption=images.corruption).tokens[:, 1:]
    text = model.encoder(token_ids=texts.token_ids, padding=texts.padding).tokens
    pair = model.encoder(
        pairs.images, pairs.token_ids, padding=pairs.padding, corruption=pairs.corruption
    ).tokens
    streams = {
        "image": (model.image_head(image), tokenizer(images.images), IMAGES),
        "text": (model.text_head(text), texts.targets, TEXTS),
        "pair_image": (model.image_head(pair[:, 1:5]), tokenizer(pairs.images), PAIR_IMAGES),
        "pair_text": (model.text_head(pair[:, 5:]), pairs.targets, PAIR_TEXTS),
        "pair_answer": (model.text_head(pair[:, 0]), torch.tensor(ANSWERS), [1]),
    }
    out = task.training_step(batch)
    for name, (logits, targets, places) in streams.items():
        each = [-logits[place].log_softmax(0)[targets[place]] for place in places]
        torch.testing.assert_close(out.logs[f"loss_{name}"], torch.stack(each).mean().detach(), **ROUNDING)
        found = sum(int(logits[place].argmax() == targets[place]) for place in places)
        assert out.logs[f"accuracy_{name}"].item() == pytest.approx(found / len(places)), name


def test_targets_are_the_tokens_of_the_whole_pictures_at_the_hidden_patches() -> None:
    task, batch = build(), masked_batch()
    targets = task.targets(batch)
    tokens, pair_tokens = task.visual_tokenizer(pictures(3)), task.visual_tokenizer(-pictures(2))
    assert len(tokens.unique()) > 2 and not torch.equal(tokens[:2], pair_tokens)
    assert targets.image.tolist() == [int(tokens[place]) for place in IMAGES]
    assert targets.pair_image.tolist() == [int(pair_tokens[place]) for place in PAIR_IMAGES]
    assert targets.text.tolist() == [int(words(4)[place]) for place in TEXTS]
    assert targets.pair_text.tolist() == [int(words(2)[place]) for place in PAIR_TEXTS]
    assert targets.pair_answer.tolist() == [9]


def test_what_is_hidden_does_not_reach_the_predictions() -> None:
    task, batch = build().eval(), masked_batch()
    with_noise(task.model)
    images = batch.images.images.clone()
    images[0, :, :16, :16] = 0.5  # patch 0 of picture 0 is hidden
    hidden = replace(batch, images=replace(batch.images, images=images))
    for before, after in zip(task.model(batch), task.model(hidden), strict=True):
        assert torch.equal(before, after)
    images = batch.images.images.clone()
    images[0, :, :16, 16:] = 0.5  # patch 1 is not
    shown = replace(batch, images=replace(batch.images, images=images))
    changed = (task.model(shown).image - task.model(batch).image).abs().amax(dim=1)
    assert (changed[:2] > 1e-4).all() and not changed[2:].any()


def test_what_stands_under_the_padding_is_ignored() -> None:
    task, batch = build().eval(), masked_batch()
    with_noise(task.model)
    other = replace(
        batch,
        texts=replace(batch.texts, token_ids=batch.texts.token_ids.masked_fill(batch.texts.padding, 17)),
        pairs=replace(batch.pairs, token_ids=batch.pairs.token_ids.masked_fill(batch.pairs.padding, 17)),
    )
    torch.testing.assert_close(task.training_step(other).loss, task.training_step(batch).loss, rtol=0, atol=0)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_may_hide_nothing(stream: str) -> None:
    whole, batch = build().eval(), masked_batch()
    out = whole.training_step(batch)
    out.loss.backward()
    task = build().eval()
    less = task.training_step(nothing_hidden(batch, stream))
    less.loss.backward()
    assert less.logs[f"loss_{stream}"] == 0 and less.logs[f"accuracy_{stream}"] == 0
    for other in {"image", "text"} - {stream}:  # their streams have not changed
        assert less.logs[f"loss_{other}"] == out.logs[f"loss_{other}"]
    assert less.loss.isfinite()
    # All that a whole batch trains has a gradient, as data parallelism demands; none is broken.
    assert unused(task) == unused(whole)
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.model.parameters())


@pytest.mark.parametrize("part", ["images", "texts", "pairs"])
def test_a_stream_may_be_empty(part: str) -> None:
    whole, batch = build().eval(), masked_batch()
    whole.training_step(batch).loss.backward()
    task = build().eval()
    out = task.training_step(without_rows(batch, part))
    out.loss.backward()
    gone = {"images": {"image"}, "texts": {"text"}, "pairs": set(STREAMS[2:])}[part]
    for stream in STREAMS:
        assert (out.logs[f"loss_{stream}"] == 0) == (stream in gone)
    assert out.loss.isfinite() and unused(task) == unused(whole)
    assert scores(task, without_rows(batch, part)).keys() == {
        f"{stream}/{kind}" for stream in set(STREAMS) - gone for kind in ("accuracy", "unigram", "count")
    }


def test_pairs_without_questions_are_pairs_whose_texts_are_none() -> None:
    task, batch = build().eval(), masked_batch()
    left_out = replace(batch, pairs=replace(batch.pairs, answers=None))
    out, none = task.training_step(left_out), task.training_step(nothing_hidden(batch, "pair_answer"))
    assert torch.equal(out.loss, none.loss) and out.logs["loss_pair_answer"] == 0


def test_a_batch_that_hides_nothing_at_all_teaches_nothing() -> None:
    task, batch = build(), masked_batch()
    for stream in STREAMS:
        batch = nothing_hidden(batch, stream)
    out = task.training_step(batch)
    out.loss.backward()
    assert out.loss == 0
    assert not any(p.grad.any() for p in task.model.parameters() if p.grad is not None)


def test_a_few_steps_lower_every_term_and_find_what_is_hidden() -> None:
    task, batch = build(), masked_batch()
    before = {name: value.item() for name, value in task.training_step(batch).logs.items()}
    losses = fit(task, batch, 40)
    after = {name: value.item() for name, value in task.training_step(batch).logs.items()}
    assert losses[-1] < 0.3 * losses[0]
    for stream in STREAMS:
        assert after[f"loss_{stream}"] < 0.6 * before[f"loss_{stream}"], stream
    found = scores(task, batch)
    counts = {"image": IMAGES, "text": TEXTS, "pair_image": PAIR_IMAGES, "pair_text": PAIR_TEXTS}
    assert found["pair_answer/accuracy"] == found["pair_answer/count"] == 1.0
    for stream, places in counts.items():
        assert found[f"{stream}/accuracy"] == 1.0
        assert found[f"{stream}/count"] == len(places)


def test_the_tokenizer_is_no_part_of_what_is_trained_and_saved() -> None:
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER)
    model = Beit3ForMaskedDataModeling(CONFIG, codebook_size=CODES)
    task = MaskedDataModelingTask(model, tokenizer).train()
    assert {id(p) for p in task.parameters()} == {id(p) for p in model.parameters()}
    assert task.state_dict().keys() == {f"model.{name}" for name in model.state_dict()}
    assert not tokenizer.training
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    fit(task, masked_batch(), 2)
    assert all(torch.equal(value, before[name]) for name, value in tokenizer.state_dict().items())
    assert all(p.grad is None for p in tokenizer.parameters())


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), masked_batch())


def test_stored_tokens_are_taken_in_place_of_the_tokenizers() -> None:
    task, batch = build(), masked_batch()
    found = task.targets(batch)
    stored = replace(
        batch,
        images=replace(batch.images, tokens=task.visual_tokenizer(batch.images.images)),
        pairs=replace(batch.pairs, tokens=task.visual_tokenizer(batch.pairs.images)),
    )
    for name, ours, theirs in zip(STREAMS, task.targets(stored), found, strict=True):
        assert torch.equal(ours, theirs), name
    other = replace(stored, images=replace(stored.images, tokens=torch.full((3, 4), 7)))
    assert task.targets(other).image.tolist() == [7] * len(IMAGES)
    assert torch.equal(task.targets(other).pair_image, found.pair_image)


def test_a_model_with_patches_of_14_pixels_gets_16_x_16_targets_of_a_tokenizer_with_16() -> None:
    """Pictures of 224 pixels; the tokenizer was made for 14 x 14 patches, and sees them at 256 pixels."""
    torch.manual_seed(0)
    tokenizer = Vqkd(replace(TOKENIZER, encoder=replace(TOKENIZER.encoder, image_size=(224, 224))))
    with_noise(tokenizer)
    config = replace(CONFIG, image_size=(224, 224), patch_size=14)
    task = MaskedDataModelingTask(Beit3ForMaskedDataModeling(config, codebook_size=CODES), tokenizer)
    smooth = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1
    images = torch.nn.functional.interpolate(smooth, size=(224, 224), mode="nearest")
    corruption = torch.zeros(2, 256, dtype=torch.bool)
    corruption[0, 255] = corruption[1, 16] = True
    texts = MaskedText(**hidden_text(2, TEXTS[:2]))
    batch = MaskedBatch(
        images=MaskedImages(images=images, corruption=corruption),
        texts=texts,
        pairs=MaskedPairs(images=images, corruption=corruption, **hidden_text(2, PAIR_TEXTS)),
    )
    tokens = task.visual_tokenizer(images)
    assert tokens.shape == (2, 256) and len(tokens.unique()) > 1
    view = torch.nn.functional.interpolate(images, size=(256, 256), mode="bicubic", antialias=True)
    assert torch.equal(tokens, tokenizer.encode(view.clamp(-1, 1)))
    assert task.targets(batch).image.tolist() == [tokens[0, 255].item(), tokens[1, 16].item()]
    assert task.training_step(batch).loss.isfinite()
