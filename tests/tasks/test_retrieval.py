from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from imglish.losses.contrastive import contrastive_loss
from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.structures.batches import ImageTextBatch
from imglish.tasks.retrieval import RetrievalTask
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

ROUNDING = {
    "rtol": 1e-4,
    "atol": 1e-4,
}  # attention sums in another order for another length; times a scale of 14


def build() -> RetrievalTask:
    torch.manual_seed(0)
    return RetrievalTask(Beit3ForRetrieval(CONFIG), RetrievalRecall())


def pair_batch() -> ImageTextBatch:
    padding = no_padding(4)
    padding[1, 4:] = True
    return ImageTextBatch(
        images=pictures(4),
        token_ids=words(4).masked_fill(padding, PAD),
        padding=padding,
        image_ids=torch.tensor([7, 3, 9, 5]),
    )


def test_a_step_gives_a_finite_loss_and_logs_it() -> None:
    out = build().train().training_step(pair_batch())
    assert out.loss.isfinite() and out.loss.ndim == 0
    assert out.logs.keys() == {"loss", "accuracy", "logit_scale"}
    torch.testing.assert_close(out.logs["loss"], out.loss.detach())
    assert out.logs["logit_scale"].item() == pytest.approx(1 / 0.07)
    assert not any(value.requires_grad for value in out.logs.values())


def test_the_loss_asks_both_ways_which_is_the_partner() -> None:
    task, batch = build().eval(), pair_batch()
    with_noise(task.model)
    vision, text, scale = task.model(batch.images, batch.token_ids, batch.padding)
    out = task.training_step(batch)
    each = []
    for row in range(4):
        partner = torch.tensor([row])
        for own, others in ((vision, text), (text, vision)):
            cosines = torch.stack([(own[row] * other).sum() for other in others])
            each.append(F.cross_entropy(scale * cosines[None], partner))
    torch.testing.assert_close(out.loss, torch.stack(each).mean())
    nearest = [int((vision[row] @ text.T).argmax()) == row for row in range(4)]
    assert out.logs["accuracy"].item() == pytest.approx(sum(nearest) / 4)


def test_the_scale_learns() -> None:
    task = build()
    with_noise(task.model)
    task.training_step(pair_batch()).loss.backward()
    gradient = task.model.logit_scale.grad
    assert isinstance(gradient, torch.Tensor) and gradient.item() != 0


def test_padding_of_the_text_is_ignored() -> None:
    task, batch = build().eval(), pair_batch()
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


def test_a_few_steps_lower_the_loss_and_bring_partners_together() -> None:
    task, batch = build(), pair_batch()
    before = scores(task, batch)
    losses = fit(task, batch, 30)
    after = scores(task, batch)
    assert losses[-1] < 0.3 * losses[0]
    assert before["retrieval/text_recall_at_1"] < 1.0
    assert after["retrieval/text_recall_at_1"] == after["retrieval/image_recall_at_1"] == 1.0


def test_the_metric_knows_which_picture_a_text_belongs_to() -> None:
    task, batch = build(), pair_batch()
    fit(task, batch, 30)
    # The first two texts are now said to belong to each other's pictures, which they do not find.
    swapped = replace(batch, token_ids=batch.token_ids[[1, 0, 2, 3]], padding=batch.padding[[1, 0, 2, 3]])
    found = scores(task, swapped)
    assert found["retrieval/text_recall_at_1"] == found["retrieval/image_recall_at_1"] == 0.5


def test_texts_are_found_for_pictures_and_pictures_for_texts() -> None:
    task = build().eval()
    batch = ImageTextBatch(
        images=pictures(32), token_ids=words(32), padding=no_padding(32), image_ids=torch.arange(32)
    )
    with torch.no_grad():
        vision, text, _ = task.model(batch.images, batch.token_ids, batch.padding)
    cosines = (vision @ text.T).tolist()  # a row for each picture
    texts_found = sum(i in sorted(range(32), key=lambda t: -cosines[i][t])[:5] for i in range(32))
    pictures_found = sum(i in sorted(range(32), key=lambda p: -cosines[p][i])[:5] for i in range(32))
    assert texts_found != pictures_found
    found = scores(task, batch)
    assert found["retrieval/text_recall_at_5"] == pytest.approx(texts_found / 32)
    assert found["retrieval/image_recall_at_5"] == pytest.approx(pictures_found / 32)


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), pair_batch())


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_chunks_have_the_gradient_of_the_whole_batch(drop_path: float) -> None:
    torch.manual_seed(0)
    model = Beit3ForRetrieval(replace(CONFIG, depth=2, drop_path=drop_path)).train()
    images, ids = torch.rand(5, 3, 32, 32), torch.randint(4, 29, (5, 6))
    padding = torch.zeros_like(ids, dtype=torch.bool)
    batch = ImageTextBatch(images=images, token_ids=ids, padding=padding, image_ids=torch.arange(5))
    torch.manual_seed(1)
    out = RetrievalTask(model, RetrievalRecall(), chunk_size=2).training_step(batch)
    out.loss.backward()
    chunked = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.manual_seed(1)
    parts = [model(*chunk) for chunk in zip(images.split(2), ids.split(2), padding.split(2), strict=True)]
    vision, text = (torch.cat([part[side] for part in parts]) for side in (0, 1))
    loss = contrastive_loss(vision, text, model.logit_scale.exp())
    loss.backward()
    torch.testing.assert_close(out.loss.detach(), loss.detach())
    assert chunked.keys() == {name for name, p in model.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(chunked[name], parameter.grad, rtol=1e-4, atol=1e-6)
