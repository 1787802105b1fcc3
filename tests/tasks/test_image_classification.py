from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.data.classification import ClassSample, CollateClasses, Mixing
from imglish.metrics.accuracy import ClassAccuracy
from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.structures.batches import ClassificationBatch
from imglish.tasks.image_classification import ImageClassificationTask
from tests.tasks.tiny import (
    CONFIG,
    check_evaluation_leaves_the_model_alone,
    fit,
    pictures,
    scores,
    with_noise,
)

NUM_CLASSES = 7
SMOOTHING = 0.1


def build(smoothing: float = 0.0) -> ImageClassificationTask:
    torch.manual_seed(0)
    model = Beit3ForImageClassification(replace(CONFIG, output_norm=False), num_classes=NUM_CLASSES)
    return ImageClassificationTask(model, ClassAccuracy(), smoothing=smoothing)


def labelled() -> ClassificationBatch:
    """Four pictures of three classes."""
    labels = torch.tensor([2, 6, 2, 0])
    return ClassificationBatch(images=pictures(4), labels=labels, sample_ids=torch.tensor([8, 5, 11, 7]))


def mixed(smoothing: float, seed: int) -> ClassificationBatch:
    """Pictures of class c have one in channel c, zero elsewhere, before they are mixed."""
    samples = [
        ClassSample(torch.eye(3)[label][:, None, None].expand(3, 32, 32), label, number, seed)
        for number, label in enumerate((0, 1, 2, 1))
    ]
    return CollateClasses(mixing=Mixing(num_classes=NUM_CLASSES, smoothing=smoothing))(samples)


def negative_logs(task: ImageClassificationTask, images: Tensor) -> Tensor:
    """Minus the logarithm of each class's probability, by its definition."""
    odds: Tensor = task.model(images).exp()
    return -(odds / odds.sum(dim=1, keepdim=True)).log()


def test_a_step_gives_a_finite_loss_and_logs_it() -> None:
    out = build(SMOOTHING).train().training_step(labelled())
    assert out.loss.isfinite() and out.loss.ndim == 0
    assert out.logs.keys() == {"loss", "accuracy"}
    torch.testing.assert_close(out.logs["loss"], out.loss.detach())
    assert not any(value.requires_grad for value in out.logs.values())


def test_the_loss_is_that_of_the_right_class() -> None:
    task, batch = build().eval(), labelled()
    with_noise(task.model)
    costs = negative_logs(task, batch.images)
    out = task.training_step(batch)
    torch.testing.assert_close(out.loss, (costs[0, 2] + costs[1, 6] + costs[2, 2] + costs[3, 0]) / 4)
    chosen = task.model(batch.images).argmax(dim=1).tolist()
    right = [a == b for a, b in zip(chosen, [2, 6, 2, 0], strict=True)]
    assert out.logs["accuracy"].item() == pytest.approx(sum(right) / 4)


def test_smoothing_spreads_its_mass_over_all_classes() -> None:
    task, batch = build(SMOOTHING).eval(), labelled()
    with_noise(task.model)
    costs = negative_logs(task, batch.images)
    # The right class has the rest and its even share of what is spread.
    shares = torch.full((4, NUM_CLASSES), SMOOTHING / NUM_CLASSES)
    for row, label in enumerate((2, 6, 2, 0)):
        shares[row, label] += 1 - SMOOTHING
    torch.testing.assert_close(task.training_step(batch).loss, (shares * costs).sum(dim=1).mean())


def test_shares_of_classes_take_the_place_of_the_labels_and_are_not_smoothed_again() -> None:
    task, batch = build(SMOOTHING).eval(), labelled()
    with_noise(task.model)
    costs = negative_logs(task, batch.images)
    shares = torch.zeros(4, NUM_CLASSES)
    for row, (most, rest) in enumerate(((1, 2), (6, 0), (3, 4), (5, 0))):
        shares[row, most], shares[row, rest] = 0.75, 0.25
    out = task.training_step(replace(batch, soft_labels=shares))
    expected = 0.75 * (costs[0, 1] + costs[1, 6] + costs[2, 3] + costs[3, 5])
    expected += 0.25 * (costs[0, 2] + costs[1, 0] + costs[2, 4] + costs[3, 0])
    torch.testing.assert_close(out.loss, expected / 4)
    chosen = task.model(batch.images).argmax(dim=1).tolist()
    right = [a == b for a, b in zip(chosen, [1, 6, 3, 5], strict=True)]
    assert out.logs["accuracy"].item() == pytest.approx(sum(right) / 4)


@pytest.mark.parametrize("seed", range(6))
def test_mixed_pictures_have_the_classes_that_are_seen_in_them(seed: int) -> None:
    batch = mixed(0.0, seed)
    assert batch.soft_labels is not None
    seen = batch.images.mean(dim=(2, 3))  # of each class its share of the picture
    torch.testing.assert_close(batch.soft_labels[:, :3], seen)
    assert bool((batch.soft_labels[:, 3:] == 0).all())
    smoothed = mixed(SMOOTHING, seed).soft_labels
    torch.testing.assert_close(smoothed, 0.9 * batch.soft_labels + SMOOTHING / NUM_CLASSES)
    task = build(SMOOTHING).eval()
    costs = negative_logs(task, batch.images)
    loss = task.training_step(mixed(SMOOTHING, seed)).loss
    expected = 0.9 * (seen * costs[:, :3]).sum(dim=1) + SMOOTHING * costs.mean(dim=1)
    torch.testing.assert_close(loss, expected.mean())


def test_pictures_are_overlaid_or_cut_into_each_other() -> None:
    overlaid = [
        bool(((0 < image) & (image < 1)).any()) for image in (mixed(0.0, s).images for s in range(20))
    ]
    assert 4 <= sum(overlaid) <= 16  # each by an even chance


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_its_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"smoothing must lie in \[0, 1\); got {smoothing}"):
        build(smoothing)


def test_a_few_steps_lower_the_loss_and_name_the_pictures() -> None:
    task, batch = build(), labelled()
    assert scores(task, batch)["classification/top_1_accuracy"] < 1.0
    losses = fit(task, batch, 30)
    assert losses[-1] < 0.3 * losses[0]
    assert scores(task, batch) == {"classification/top_1_accuracy": 1.0, "classification/top_5_accuracy": 1.0}


def test_the_metric_scores_each_picture_with_its_label() -> None:
    task, batch = build(), labelled()
    fit(task, batch, 30)
    other = scores(task, replace(batch, labels=torch.tensor([2, 0, 2, 6])))
    assert other["classification/top_1_accuracy"] == 0.5
    # Labels are scored, whatever the shares of a mixed batch say.
    shares = torch.eye(NUM_CLASSES)[[1, 1, 1, 1]]
    assert scores(task, replace(batch, soft_labels=shares))["classification/top_1_accuracy"] == 1.0


def test_a_picture_scored_twice_counts_once() -> None:
    task, batch = build(), labelled()
    fit(task, batch, 30)
    once = scores(task, batch)
    task.evaluation_step(replace(batch, labels=torch.tensor([1, 1, 1, 1])))
    assert task.metrics.compute() == once


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), labelled())
