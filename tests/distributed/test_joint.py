"""Tasks that take turns on one encoder: two ranks train as one process with the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imglish.data.loader import Loaded
from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForVqa
from imglish.models.joint import JointModel
from imglish.structures.batches import JointBatch
from imglish.tasks.captioning import CaptioningTask
from imglish.tasks.joint import JointTask
from imglish.tasks.vqa import VqaTask
from imglish.train.distributed import Ranks
from imglish.train.logging import read_log
from imglish.train.parallelize import parallelize
from tests.distributed.ranks import on_two_ranks
from tests.distributed.test_tasks import ALONE, TOLERANCE, Strategy, captions, part, train_spread
from tests.tasks import test_vqa
from tests.tasks.tiny import CONFIG, with_noise

NUM_STEPS = 4
FUSING = replace(CONFIG, split_attention=False, sub_norm=False, num_fusion_layers=1)


def build() -> JointTask:
    torch.manual_seed(0)
    tasks = {
        "vqa": VqaTask(
            Beit3ForVqa(FUSING, num_answers=test_vqa.NUM_ANSWERS, picture_alone=True),
            VqaAccuracy(("colour", "count")),
        ),
        "captioning": CaptioningTask(Beit3ForCaptioning(FUSING, picture_alone=True)),
    }
    model = JointModel(Beit3Encoder(FUSING), {name: task.model for name, task in tasks.items()})
    return JointTask(model, tasks)


def go(folder: Path, ranks: Ranks = ALONE, strategy: Strategy = "auto") -> None:
    """Train a few steps, the tasks in turn; the main rank leaves weights and a log."""
    task = build()
    with_noise(task.model)
    model = task.model.double()
    task.model = parallelize(model, strategy, ranks)
    whole = {"vqa": test_vqa.vqa_batch(), "captioning": captions()}

    def batches() -> Iterator[Loaded[JointBatch]]:
        for step in range(NUM_STEPS):
            name = list(whole)[step % 2]
            yield Loaded(JointBatch(part=name, batch=part(whole[name], ranks.rank, ranks.world_size)), ())

    train_spread(task, model, batches(), folder, ranks, NUM_STEPS)


def on_two(ranks: Ranks, folder: Path) -> None:
    for strategy in ("ddp", "fsdp2"):
        go(folder / strategy, ranks, strategy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("joint")
    go(made / "alone")
    on_two_ranks(on_two, made)
    return made


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_ranks_train_in_turn_as_one_process(folder: Path, strategy: str) -> None:
    expected, found = (torch.load(folder / way / "weights.pt") for way in ("alone", strategy))
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=TOLERANCE, atol=TOLERANCE, msg=key)
    theirs, ours = (read_log(folder / way / "metrics.jsonl") for way in ("alone", strategy))
    assert len(ours) == NUM_STEPS
    for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        name = ("vqa/loss", "captioning/loss_caption")[number % 2]
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=TOLERANCE)
        if number % 2 == 0:  # the other is told as a mean over the words of all ranks, under loss_caption
            assert other[name] == pytest.approx(one[name], rel=TOLERANCE)
        else:
            assert other["loss_caption"] == pytest.approx(one["loss_caption"], rel=TOLERANCE)
