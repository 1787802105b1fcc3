from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.models.beit3.heads import Beit3ForCaptioning
from imglish.ops.attention import prefix_causal_mask
from imglish.structures.batches import IGNORE, CaptionBatch
from imglish.structures.tokens import TokenLayout
from imglish.tasks.captioning import CaptioningTask
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

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # attention kernels sum in another order for another length


def build(*, smoothing: float = 0.1, drop_worst: float = 0.0) -> CaptioningTask:
    torch.manual_seed(0)
    model = Beit3ForCaptioning(CONFIG)
    return CaptioningTask(model, smoothing=smoothing, drop_worst=drop_worst, drop_after=10)


def caption_batch() -> CaptionBatch:
    """Four captions of six words; words 2 and 4 of each are hidden, the last caption ends early."""
    ids = words(4)
    targets = torch.full_like(ids, IGNORE)
    targets[:, [2, 4]] = ids[:, [2, 4]]
    padding = no_padding(4)
    padding[3, 4:] = True
    targets[3, 4] = IGNORE
    hidden = torch.where(targets == IGNORE, ids, MASK).masked_fill(padding, PAD)
    return CaptionBatch(
        images=pictures(4), token_ids=hidden, padding=padding, targets=targets, image_ids=torch.arange(4)
    )


def logits_of(task: CaptioningTask, batch: CaptionBatch) -> Tensor:
    """Logits of every word, (B, T, V)."""
    everywhere = torch.ones_like(batch.padding)
    logits: Tensor = task.model(batch.images, batch.token_ids, batch.padding, everywhere)
    return logits.view(*batch.token_ids.shape, -1)


def test_a_step_gives_a_finite_loss_and_logs_it() -> None:
    out = build().train().training_step(caption_batch())
    assert out.loss.isfinite() and out.loss.ndim == 0
    assert out.logs.keys() == {"loss_caption", "accuracy"}
    torch.testing.assert_close(out.logs["loss_caption"], out.loss.detach())
    assert not any(value.requires_grad for value in out.logs.values())


def test_only_hidden_words_count() -> None:
    task, batch = build(smoothing=0.0).eval(), caption_batch()
    places = [(0, 2), (0, 4), (1, 2), (1, 4), (2, 2), (2, 4), (3, 2)]
    logits = logits_of(task, batch)
    each = [F.cross_entropy(logits[place][None], batch.targets[place][None]) for place in places]
    out = task.training_step(batch)
    torch.testing.assert_close(out.loss, torch.stack(each).mean(), **ROUNDING)
    found = [int(logits[place].argmax() == batch.targets[place]) for place in places]
    assert out.logs["accuracy"].item() == pytest.approx(sum(found) / 7)


def test_targets_are_smoothed() -> None:
    task, batch = build(smoothing=0.3).eval(), caption_batch()
    hidden = batch.targets != IGNORE
    logits, targets = logits_of(task, batch)[hidden], batch.targets[hidden]
    soft = torch.full_like(logits, 0.3 / 29).scatter(1, targets[:, None], 0.7)
    expected = F.kl_div(F.log_softmax(logits, 1), soft, reduction="batchmean")
    torch.testing.assert_close(task.training_step(batch).loss, expected)


def test_late_in_training_the_worst_words_are_dropped() -> None:
    task, batch = build(smoothing=0.0, drop_worst=0.5).eval(), caption_batch()
    hidden = batch.targets != IGNORE
    each = F.cross_entropy(logits_of(task, batch)[hidden], batch.targets[hidden], reduction="none")
    whole, best = each.mean(), each.sort().values[:3].mean()  # half of seven, rounded down
    torch.testing.assert_close(task.training_step(batch).loss, whole)
    for step, expected in ((5, whole), (20, best), (5, whole)):  # a run may be resumed from before
        task.begin_step(step)
        out, counts = task.training_step(batch), task.counts(batch)
        torch.testing.assert_close(out.loss, expected)
        assert counts == {"caption": 3 if expected is best else 7} and out.sums is not None
        torch.testing.assert_close(out.sums["caption"] / counts["caption"], expected)


def test_unless_asked_for_no_word_is_ever_dropped() -> None:
    task, batch = build().eval(), caption_batch()
    early = task.training_step(batch).loss
    task.begin_step(10**6)
    assert torch.equal(task.training_step(batch).loss, early)


def test_later_words_cannot_change_the_logits_of_a_word() -> None:
    task, batch = build().eval(), caption_batch()
    with_noise(task.model)
    before = logits_of(task, batch)
    for position in range(1, 6):
        changed = batch.token_ids.clone()
        changed[:3, position] = (changed[:3, position] - 4 + 5) % 25 + 4
        after = logits_of(task, replace(batch, token_ids=changed))
        torch.testing.assert_close(after[:3, :position], before[:3, :position], rtol=0, atol=0)
        # Words from there on see the change.
        assert (after - before)[:3, position:].abs().amax(dim=2).min() > 1e-4


def test_words_see_the_whole_picture_and_no_other() -> None:
    task, batch = build().eval(), caption_batch()
    with_noise(task.model)
    before = logits_of(task, batch)
    for rows, columns in ((slice(16), slice(16)), (slice(16, 32), slice(16, 32))):  # first and last patch
        images = batch.images.clone()
        images[1, :, rows, columns] *= -1
        changed = (logits_of(task, replace(batch, images=images)) - before).abs().amax(dim=2)
        assert changed[1].min() > 1e-4
        assert not changed[[0, 2, 3]].any()


def test_captioning_is_the_encoder_with_a_prefix_causal_mask() -> None:
    """Also where a word in the middle is padded, which later words would see but for its mask."""
    task, batch = build().eval(), caption_batch()
    model = with_noise(task.model)
    assert isinstance(model, Beit3ForCaptioning)
    batch.padding[0, 1] = True
    layout = TokenLayout(num_vision=5, num_text=6)
    encoded = model.encoder(
        batch.images, batch.token_ids, padding=batch.padding, attention_mask=prefix_causal_mask(layout)
    )
    torch.testing.assert_close(logits_of(task, batch), model.text_head(encoded.text), **ROUNDING)


def test_what_stands_under_the_padding_is_ignored() -> None:
    task, batch = build().eval(), caption_batch()
    with_noise(task.model)
    other = batch.token_ids.masked_fill(batch.padding, 17)
    assert not torch.equal(other, batch.token_ids)
    torch.testing.assert_close(
        task.training_step(replace(batch, token_ids=other)).loss,
        task.training_step(batch).loss,
        rtol=0,
        atol=0,
    )


def test_more_padding_changes_nothing() -> None:
    task, batch = build().eval(), caption_batch()
    with_noise(task.model)
    longer = replace(
        batch,
        token_ids=F.pad(batch.token_ids, (0, 2), value=PAD),
        padding=F.pad(batch.padding, (0, 2), value=True),
        targets=F.pad(batch.targets, (0, 2), value=IGNORE),
    )
    torch.testing.assert_close(task.training_step(longer).loss, task.training_step(batch).loss, **ROUNDING)


def test_a_few_steps_lower_the_loss_and_find_the_words() -> None:
    task, batch = build(), caption_batch()
    before = scores(task, batch)
    losses = fit(task, batch, 30)
    after = scores(task, batch)
    assert losses[-1] < 0.3 * losses[0]
    assert before["caption/accuracy"] < 0.5 and after["caption/accuracy"] == 1.0
    assert before["caption/count"] == after["caption/count"] == 7


def test_batches_add_up_in_the_metric() -> None:
    task, batch = build(), caption_batch()
    task.eval()
    task.evaluation_step(batch)
    task.evaluation_step(batch)
    assert task.metrics.compute()["caption/count"] == 14


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), caption_batch())
