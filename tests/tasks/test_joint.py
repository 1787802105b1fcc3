from __future__ import annotations

import torch

from imglish.structures.batches import JointBatch
from tests.distributed.test_joint import build
from tests.distributed.test_tasks import captions
from tests.tasks import test_vqa
from tests.tasks.tiny import fit, scores, with_noise

ASKED = JointBatch(part="vqa", batch=test_vqa.vqa_batch())
CAPTIONED = JointBatch(part="captioning", batch=captions())


def test_a_step_is_that_of_the_batchs_task_and_leaves_other_heads_alone() -> None:
    task = build().train()
    out = task.training_step(ASKED)
    assert out.logs.keys() == {"vqa/loss", "vqa/accuracy"} and out.sums is None
    out.loss.backward()
    touched = {name for name, parameter in task.model.named_parameters() if parameter.grad is not None}
    assert {"parts.vqa.head.output.weight", "encoder.vision_embedding.class_token"} <= touched
    assert not any(name.startswith("parts.captioning") for name in touched)


def test_what_a_task_counts_is_counted() -> None:
    task = build().train()
    out = task.training_step(CAPTIONED)
    assert out.sums is not None and out.sums.keys() == {"caption"}
    assert task.counts(CAPTIONED) == {"caption": 10} and task.counts(ASKED) is None


def test_both_tasks_are_learned_by_the_one_encoder() -> None:
    task = build()
    before = task.model.get_parameter("encoder.vision_embedding.positions.weight").detach().clone()
    for batch in (ASKED, CAPTIONED):
        losses = fit(task, batch, 30)
        assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(before, task.model.get_parameter("encoder.vision_embedding.positions.weight"))


def test_scores_are_those_of_every_task() -> None:
    task = build()
    with_noise(task.model)
    task.eval()
    task.metrics.reset()
    for batch in (ASKED, CAPTIONED):
        task.evaluation_step(batch)
    found = task.metrics.compute()
    assert {"vqa/accuracy", "caption/accuracy"} <= found.keys()
    assert found["vqa/accuracy"] == scores(task, ASKED)["vqa/accuracy"]
