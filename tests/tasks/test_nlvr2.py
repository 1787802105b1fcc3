from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from imglish.data.formats.nlvr2 import read_nlvr2
from imglish.data.nlvr2 import Nlvr2Dataset, collate_nlvr2, number_statements
from imglish.data.transforms.image import ImageTransform
from imglish.metrics.accuracy import Nlvr2Accuracy
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.structures.batches import Nlvr2Batch
from imglish.tasks.nlvr2 import Nlvr2Task
from imglish.text.tokenizer import TextTokenizer
from imglish.text.training import train_tokenizer
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

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # attention kernels sum in another order for another length
LABELS = (1, 0, 0, 1)


def build() -> Nlvr2Task:
    torch.manual_seed(0)
    return Nlvr2Task(Beit3ForNlvr2(CONFIG), Nlvr2Accuracy())


def always_true() -> Nlvr2Task:
    """A model that says of every statement that it is true, at odds of e^4 to 1."""
    task = build()
    assert isinstance(task.model, Beit3ForNlvr2)
    output = task.model.head.output
    with torch.no_grad():
        output.weight.zero_()
        output.bias.copy_(torch.tensor([-2.0, 2.0]))
    return task


def statements() -> Nlvr2Batch:
    """Two statements, each about two pairs of pictures."""
    padding = no_padding(4)
    padding[1, 4:] = True
    return Nlvr2Batch(
        left=pictures(8)[:4],
        right=pictures(8)[4:],
        token_ids=words(4).masked_fill(padding, PAD),
        padding=padding,
        labels=torch.tensor(LABELS),
        statement_ids=torch.tensor([3, 3, 8, 8]),
        sample_ids=torch.tensor([10, 11, 12, 13]),
    )


def test_a_step_gives_a_finite_loss_and_logs_it() -> None:
    out = build().train().training_step(statements())
    assert out.loss.isfinite() and out.loss.ndim == 0
    assert out.logs.keys() == {"loss", "accuracy"}
    torch.testing.assert_close(out.logs["loss"], out.loss.detach())
    assert not any(value.requires_grad for value in out.logs.values())


def test_the_loss_is_that_of_the_right_judgement() -> None:
    task, batch = build().eval(), statements()
    with_noise(task.model)
    false, true = task.model(batch.left, batch.right, batch.token_ids, batch.padding).unbind(dim=1)
    # Two classes: minus the logarithm of one over one plus the odds of the other.
    costs = torch.where(batch.labels == 1, (1 + (false - true).exp()).log(), (1 + (true - false).exp()).log())
    out = task.training_step(batch)
    torch.testing.assert_close(out.loss, costs.mean())
    right = [bool(t > f) == bool(label) for f, t, label in zip(false, true, LABELS, strict=True)]
    assert out.logs["accuracy"].item() == pytest.approx(sum(right) / 4)


def test_one_stands_for_true() -> None:
    task, batch = always_true(), statements()
    all_true, all_false = (replace(batch, labels=torch.full((4,), label)) for label in (1, 0))
    assert task.training_step(all_true).loss.item() == pytest.approx(math.log1p(math.exp(-4)), rel=1e-5)
    assert task.training_step(all_false).loss.item() == pytest.approx(math.log1p(math.exp(4)), rel=1e-5)
    assert task.training_step(all_true).logs["accuracy"] == 1
    assert scores(task, all_true) == {"nlvr2/accuracy": 1.0, "nlvr2/consistency": 1.0}
    assert scores(task, all_false) == {"nlvr2/accuracy": 0.0, "nlvr2/consistency": 0.0}


def test_true_in_the_file_is_true_in_the_score(tmp_path: Path) -> None:
    told = ("True", "False", "True", "True", "True")
    for pair in ("dev-0-0", "dev-0-1", "dev-1-0"):
        for side in (0, 1):
            Image.new("RGB", (32, 32), (90 * side, 40, 10)).save(tmp_path / f"{pair}-img{side}.png")
    names = ("dev-0-0-0", "dev-0-1-0", "dev-0-0-1", "dev-0-1-1", "dev-1-0-0")
    entries = [
        {"identifier": name, "sentence": "one picture is red", "label": label}
        for name, label in zip(names, told, strict=True)
    ]
    (tmp_path / "dev.json").write_text("\n".join(map(json.dumps, entries)))
    train_tokenizer(["one picture is red", "both are blue"] * 20, tmp_path / "text.spm", vocab_size=24)
    records = read_nlvr2(tmp_path / "dev.json", tmp_path)
    dataset = Nlvr2Dataset(
        records=records,
        transform=ImageTransform(size=(32, 32)),
        tokenizer=TextTokenizer(tmp_path / "text.spm"),
        max_tokens=8,
        statement_ids=number_statements(records),
    )
    batch = collate_nlvr2([dataset.get(index, np.random.default_rng(0)) for index in range(5)])
    assert int(batch.token_ids.max()) < CONFIG.vocab_size
    # Four of five are true, and two of three statements are true of all their pairs.
    assert scores(always_true(), batch) == pytest.approx(
        {"nlvr2/accuracy": 4 / 5, "nlvr2/consistency": 2 / 3}
    )


def test_left_is_not_right() -> None:
    task, batch = build().eval(), statements()
    with_noise(task.model)
    swapped = replace(batch, left=batch.right, right=batch.left)
    assert abs(task.training_step(swapped).loss - task.training_step(batch).loss) > 1e-4
    both = replace(batch, right=batch.left)  # the right pictures count too
    assert abs(task.training_step(both).loss - task.training_step(batch).loss) > 1e-4


def test_padding_of_the_statement_is_ignored() -> None:
    task, batch = build().eval(), statements()
    with_noise(task.model)
    loss = task.training_step(batch).loss
    other = replace(batch, token_ids=batch.token_ids.masked_fill(batch.padding, 17))
    torch.testing.assert_close(task.training_step(other).loss, loss, rtol=0, atol=0)
    longer = replace(
        batch,
        token_ids=F.pad(batch.token_ids, (0, 2), value=PAD),
        padding=F.pad(batch.padding, (0, 2), value=True),
    )
    torch.testing.assert_close(task.training_step(longer).loss, loss, rtol=RELATIVE, atol=ABSOLUTE)
    seen = replace(batch, padding=no_padding(4))
    assert abs(task.training_step(seen).loss - loss) > 1e-4


def test_a_few_steps_lower_the_loss_and_judge_the_statements() -> None:
    task, batch = build(), statements()
    losses = fit(task, batch, 30)
    assert losses[-1] < 0.3 * losses[0]
    assert scores(task, batch) == {"nlvr2/accuracy": 1.0, "nlvr2/consistency": 1.0}
    opposite = replace(batch, labels=1 - batch.labels)
    assert scores(task, opposite) == {"nlvr2/accuracy": 0.0, "nlvr2/consistency": 0.0}


def test_the_metric_knows_which_pairs_a_statement_is_about() -> None:
    task, batch = build(), statements()
    fit(task, batch, 30)
    one_wrong = replace(batch, labels=torch.tensor([1, 0, 0, 0]))
    assert scores(task, one_wrong) == {"nlvr2/accuracy": 0.75, "nlvr2/consistency": 0.5}
    of_one = replace(one_wrong, statement_ids=torch.full((4,), 3))
    assert scores(task, of_one) == {"nlvr2/accuracy": 0.75, "nlvr2/consistency": 0.0}


def test_a_judgement_scored_twice_counts_once() -> None:
    task, batch = build(), statements()
    fit(task, batch, 30)
    once = scores(task, batch)
    task.evaluation_step(replace(batch, labels=1 - batch.labels))
    assert task.metrics.compute() == once


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), statements())
