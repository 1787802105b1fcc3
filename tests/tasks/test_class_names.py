from __future__ import annotations

import torch

from imglish.metrics.accuracy import ClassAccuracy
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.structures.batches import ClassificationBatch
from imglish.tasks.class_names import ClassNamesTask

CONFIG = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=30, max_text_tokens=8, width=32, depth=1, num_heads=2,
    feed_forward_width=32, init="scaled",
)  # fmt: skip
NAMES = torch.tensor([[0, 5, 2], [0, 6, 2], [0, 7, 2], [0, 8, 2], [0, 9, 2]])


def build(**settings: int | float) -> ClassNamesTask:
    torch.manual_seed(0)
    padding = torch.zeros_like(NAMES, dtype=torch.bool)
    return ClassNamesTask(
        Beit3ForRetrieval(CONFIG), ClassAccuracy(), token_ids=NAMES, padding=padding, **settings
    )


def batch() -> ClassificationBatch:
    torch.manual_seed(1)
    labels = torch.tensor([1, 3, 3])
    return ClassificationBatch(images=torch.rand(3, 3, 32, 32) * 2 - 1, labels=labels, sample_ids=labels * 7)


def test_a_few_steps_teach_the_names_of_a_batch() -> None:
    task = build(smoothing=0.0)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        out = task.training_step(batch())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.3 * losses[0]
    task.eval()
    task.evaluation_step(batch())
    assert task.metrics.compute()["classification/top_1_accuracy"] == 1


def test_the_names_of_the_batch_always_compete() -> None:
    task = build(max_names=3)
    for _ in range(10):
        names, places = task._draw_names(torch.tensor([1, 3, 3]))
        assert len(names) == 3 == len(names.unique()) and names[places].tolist() == [1, 3, 3]
    names, places = task._draw_names(torch.tensor([0, 1, 2, 4]))  # more classes than may compete
    assert names[places].tolist() == [0, 1, 2, 4] == names.tolist()


def test_scoring_after_training_sees_the_new_names() -> None:
    task = build().eval()
    task.evaluation_step(batch())
    before = task._names
    task.train().eval()
    assert before is not None and task._names is None
