from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3.heads import Beit3ForVqa
from imglish.structures.batches import VqaBatch
from imglish.tasks.vqa import VqaTask
from tests.tasks.tiny import (
    CONFIG,
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
NUM_ANSWERS = 5
BEST = (0, 1, 2, 3)


def build() -> VqaTask:
    torch.manual_seed(0)
    return VqaTask(Beit3ForVqa(CONFIG, num_answers=NUM_ANSWERS), VqaAccuracy(("colour", "count")))


def vqa_batch() -> VqaBatch:
    """Four questions; each answer is somewhat right for one and partly right for the next."""
    answers = torch.zeros(4, NUM_ANSWERS)
    for row, best in enumerate(BEST):
        answers[row, best], answers[row, best + 1] = 1.0, 0.3
    padding = no_padding(4)
    padding[2, 4:] = True
    return VqaBatch(
        images=pictures(4),
        token_ids=words(4).masked_fill(padding, PAD),
        padding=padding,
        answers=answers,
        question_types=torch.tensor([0, 1, 0, -1]),
        sample_ids=torch.tensor([10, 11, 12, 13]),
    )


def test_a_step_gives_a_finite_loss_and_logs_it() -> None:
    out = build().train().training_step(vqa_batch())
    assert out.loss.isfinite() and out.loss.ndim == 0
    assert out.logs.keys() == {"loss", "accuracy"}
    torch.testing.assert_close(out.logs["loss"], out.loss.detach())
    assert not any(value.requires_grad for value in out.logs.values())


def test_the_loss_asks_of_each_answer_whether_it_is_right() -> None:
    task, batch = build().eval(), vqa_batch()
    logits = task.model(batch.images, batch.token_ids, batch.padding)
    out = task.training_step(batch)
    p = logits.sigmoid()
    each = -(batch.answers * p.log() + (1 - batch.answers) * (1 - p).log())
    torch.testing.assert_close(out.loss, each.sum(dim=1).mean())
    chosen = [batch.answers[row, best].item() for row, best in enumerate(logits.argmax(dim=1).tolist())]
    assert out.logs["accuracy"].item() == pytest.approx(sum(chosen) / 4)


def test_padding_of_the_question_is_ignored() -> None:
    task, batch = build().eval(), vqa_batch()
    with_noise(task.model)
    loss = task.training_step(batch).loss
    other = replace(batch, token_ids=batch.token_ids.masked_fill(batch.padding, 17))
    torch.testing.assert_close(task.training_step(other).loss, loss, rtol=0, atol=0)
    longer = replace(
        batch,
        token_ids=F.pad(batch.token_ids, (0, 2), value=PAD),
        padding=F.pad(batch.padding, (0, 2), value=True),
    )
    torch.testing.assert_close(task.training_step(longer).loss, loss, **ROUNDING)
    seen = replace(batch, padding=no_padding(4))
    assert abs(task.training_step(seen).loss - loss) > 1e-4


def test_a_few_steps_lower_the_loss_and_find_the_answers() -> None:
    task, batch = build(), vqa_batch()
    losses = fit(task, batch, 30)
    after = scores(task, batch)
    # It cannot fall below 0.61, the entropy of each question's answer that is right to 0.3.
    assert 0.61 < losses[-1] < 0.3 * losses[0]
    assert after == {"vqa/accuracy": 1.0, "vqa/accuracy/colour": 1.0, "vqa/accuracy/count": 1.0}


def test_the_metric_scores_the_most_probable_answer_of_each_question_by_type() -> None:
    task, batch = build().eval(), vqa_batch()
    fit(task, batch, 30)
    moved = replace(batch, answers=batch.answers.roll(-1, dims=1))  # what was best is now partly right
    moved.answers[1] = 0.0
    assert scores(task, moved) == pytest.approx(
        {"vqa/accuracy": 0.3 * 3 / 4, "vqa/accuracy/colour": 0.3, "vqa/accuracy/count": 0.0}
    )


def test_a_question_scored_twice_counts_once() -> None:
    task, batch = build(), vqa_batch()
    fit(task, batch, 30)
    once = scores(task, batch)
    task.evaluation_step(replace(batch, answers=torch.zeros_like(batch.answers)))
    assert task.metrics.compute() == once


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), vqa_batch())
