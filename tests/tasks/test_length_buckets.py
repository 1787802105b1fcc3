"""Masked data modelling with texts padded bucket by bucket: the same losses and gradients, less waste."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imglish.data.pretraining import ImageSample, PairSample, TextSample, collate_masked
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling
from imglish.structures.batches import IGNORE, MaskedBatch
from imglish.tasks.masked_data_modeling import STREAMS, MaskedDataModelingTask, wasted_tokens
from tests.tasks.test_masked_data_modeling import build, unused
from tests.tasks.tiny import MASK, scores

SUMMED_ELSEWHERE = 1e-10  # float64; buckets change the order of sums
TEXTS, PAIRS = (7, 3, 5, 3, 8, 3), (4, 8, 3, 6, 4)  # lengths, not in order


def samples(texts: tuple[int, ...] = TEXTS, pairs: tuple[int, ...] = PAIRS) -> dict[str, list[Any]]:
    """Three pictures, and texts and pairs of given lengths, something hidden in each."""
    rng = np.random.default_rng(0)

    def picture(number: int) -> ImageSample:
        image = torch.from_numpy(rng.integers(0, 256, (3, 32, 32), dtype=np.uint8))
        tokens = torch.from_numpy(rng.integers(0, 16, 4))
        return ImageSample(image, torch.arange(4) == number % 4, number, tokens)

    def text(length: int, *, asks: bool = False) -> TextSample:
        ids = [int(each) for each in rng.integers(4, MASK, length)]
        place = int(rng.integers(length))
        targets = [IGNORE] * length
        targets[place] = ids[place]
        ids[place] = MASK
        return TextSample(ids, targets, int(rng.integers(4, MASK)) if asks else IGNORE)

    return {
        "images": [picture(number) for number in range(3)],
        "texts": [text(length) for length in texts],
        "pairs": [PairSample(picture(n), text(length, asks=n % 2 == 0)) for n, length in enumerate(pairs)],
    }


def exact(batch: MaskedBatch) -> MaskedBatch:
    images, pairs = batch.images, batch.pairs
    return replace(
        batch,
        images=replace(images, images=images.images.double()),
        pairs=replace(pairs, images=pairs.images.double()),
    )


def bucketed(count: int, found: dict[str, list[Any]] | None = None) -> MaskedBatch:
    return exact(collate_masked(found or samples(), text_buckets=count, pair_buckets=count))


def double() -> MaskedDataModelingTask:
    task = build()
    task.model.double()
    return task


def learned(batch: MaskedBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    task = double().train()
    out = task.training_step(batch)
    out.loss.backward()
    gradients = {name: p.grad for name, p in task.model.named_parameters() if p.grad is not None}
    return out.logs, gradients


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_buckets_change_neither_losses_nor_gradients(count: int) -> None:
    logs, gradients = learned(bucketed(1))
    ours, found = learned(bucketed(count))
    assert found.keys() == gradients.keys() and max(g.abs().max() for g in gradients.values()) > 1e-3
    for name in logs.keys() - {"wasted_tokens"}:
        torch.testing.assert_close(ours[name], logs[name], rtol=0, atol=SUMMED_ELSEWHERE)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=SUMMED_ELSEWHERE, msg=name)
    assert ours["wasted_tokens"] < logs["wasted_tokens"]


def test_rows_are_sorted_with_all_that_belongs_to_them() -> None:
    found = samples()
    plain, pairs = bucketed(1, found).pairs, bucketed(3, found).pairs
    order = torch.tensor([2, 0, 4, 3, 1])  # of PAIRS, shortest first, equal ones as they came
    assert plain.answers is not None and plain.tokens is not None
    for name in ("images", "corruption", "token_ids", "padding", "targets", "answers", "tokens"):
        assert torch.equal(getattr(pairs, name), getattr(plain, name)[order]), name
    texts = bucketed(3, found).texts
    assert (~texts.padding).sum(1).tolist() == sorted(TEXTS)


def test_each_bucket_is_encoded_once_and_a_full_one_without_a_mask() -> None:
    task = double()
    calls: list[tuple[bool, tuple[int, ...], bool]] = []
    assert isinstance(task.model, Beit3ForMaskedDataModeling)

    def note(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = args[1] if len(args) > 1 else named.get("token_ids")
        if ids is not None:
            calls.append((len(args) > 1, tuple(ids.shape), named["padding"] is not None))

    task.model.encoder.register_forward_pre_hook(note, with_kwargs=True)
    task.training_step(bucketed(3))
    assert calls == [
        (False, (3, 3), False), (False, (1, 5), False), (False, (2, 8), True),
        (True, (3, 4), True), (True, (1, 6), False), (True, (1, 8), False),
    ]  # fmt: skip


def test_wasted_tokens_are_the_padded_ones_among_all_that_are_encoded() -> None:
    vision = (3 + len(PAIRS)) * (1 + 4)
    words = sum(TEXTS) + sum(PAIRS)
    whole = vision + 8 * (len(TEXTS) + len(PAIRS))
    assert wasted_tokens(bucketed(1)) == pytest.approx((whole - vision - words) / whole)
    assert wasted_tokens(bucketed(3)) == pytest.approx(2 / (vision + words + 2))
    assert double().training_step(bucketed(3)).logs["wasted_tokens"].item() == pytest.approx(
        wasted_tokens(bucketed(3))
    )
    unknown = bucketed(1)
    unknown = replace(
        unknown, texts=replace(unknown.texts, buckets=()), pairs=replace(unknown.pairs, buckets=())
    )
    assert wasted_tokens(unknown) == wasted_tokens(bucketed(1))


@pytest.mark.parametrize("gone", ["images", "texts", "pairs"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_stream_without_a_quota_costs_nothing_and_leaves_the_others_alone(gone: str, count: int) -> None:
    found = samples()
    whole = double()
    logs = whole.training_step(bucketed(count, found)).logs
    del found[gone]
    batch, task = bucketed(count, found), double()
    calls: list[int] = []
    assert isinstance(task.model, Beit3ForMaskedDataModeling)
    task.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    out = task.training_step(batch)
    out.loss.backward()
    lost = {"images": {"image"}, "texts": {"text"}, "pairs": set(STREAMS[2:])}[gone]
    for stream in STREAMS:
        assert out.logs[f"loss_{stream}"] == (0 if stream in lost else logs[f"loss_{stream}"])
        assert task.counts(batch)[stream] == 0 if stream in lost else task.counts(batch)[stream] > 0
    assert len(calls) == sum(1 if name == "images" else count for name in found)
    assert not {name for name in unused(task) if "head" in name}
    assert out.loss.isfinite()
    assert set(scores(task, batch)) == {
        f"{stream}/{kind}" for stream in set(STREAMS) - lost for kind in ("accuracy", "unigram", "count")
    }
