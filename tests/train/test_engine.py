from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from imglish.data.loader import Loaded, SinglePlan, Source, prefetch
from imglish.errors import CheckpointError, DataFormatError
from imglish.structures.batches import ImageBatch
from imglish.tasks.base import StepOutput
from imglish.train.checkpoint import Checkpoints, load_strictly
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks
from imglish.train.ema import Ema
from imglish.train.logging import RunLog, SkippedLog, read_log
from imglish.train.loop import LoopConfig, NonFiniteLossError, train
from imglish.train.optimizer import build_optimizer, layer_scale
from imglish.train.schedule import learning_rate
from imglish.train.state import TrainState
from tests.train.tiny import Blobs, Rule, collate

ONE = Ranks(0, 1, torch.device("cpu"))


def plan(per_rank: int = 6, rank: int = 0, world_size: int = 1) -> SinglePlan:  # type: ignore[type-arg]
    return SinglePlan(
        source=Source(dataset=Blobs(), per_rank=per_rank, seed=3),
        collate=collate,
        rank=rank,
        world_size=world_size,
    )


def test_an_epoch_has_every_sample_once_in_another_order_each_time() -> None:
    from imglish.data.loader import shuffled

    orders = [[shuffled(place, 37, (0, 0, epoch)) for place in range(37)] for epoch in range(3)]
    assert all(sorted(order) == list(range(37)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_workers_give_the_same_batches_as_none() -> None:
    alone = [loaded.batch.images for loaded in prefetch(plan(), 2, 6)]
    helped = [loaded.batch.images for loaded in prefetch(plan(), 2, 6, num_workers=2)]
    assert len(alone) == len(helped) == 4
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_ranks_share_the_batch_of_one() -> None:
    whole = plan(per_rank=6).batch(4).batch.images
    parts = [plan(per_rank=3, rank=rank, world_size=2).batch(4).batch.images for rank in range(2)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)


class _Broken:
    def __len__(self) -> int:
        return 5

    def get(self, index: int, rng: object) -> object:
        raise DataFormatError(f"sample {index} is gone")


def test_a_data_set_without_a_good_sample_is_an_error() -> None:
    source = Source(dataset=_Broken(), per_rank=2, seed=0)
    with pytest.raises(DataFormatError, match="5 samples in a row are damaged"):
        SinglePlan(source=source, collate=collate).batch(0)


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine() -> None:
    optimizer, schedule = OptimizerConfig(lr=1.0), ScheduleConfig(warmup_steps=5, final_lr=0.0)
    rates = [learning_rate(step, 25, optimizer, schedule) for step in range(25)]
    assert rates[:6] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    assert rates[15] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01


def test_vectors_and_exceptions_are_not_decayed_and_layers_learn_slower() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = build_optimizer(
        model,
        OptimizerConfig(lr=1.0),
        exceptions={"1.weight"},
        scale=lambda name: 0.5 if name[0] == "0" else 1.0,
    )
    found = {
        (group["lr_scale"], group["weight_decay"]): sum(p.numel() for p in group["params"])
        for group in optimizer.param_groups
    }
    assert found == {(0.5, 0.05): 4, (0.5, 0.0): 2, (1.0, 0.0): 6}
    assert layer_scale(3, 12, 0.9) == pytest.approx(0.9**10)


def test_the_average_moves_towards_the_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, 0.9)
    nn.init.ones_(model.weight)
    ema.update(model)
    assert ema.weights["weight"].item() == pytest.approx(0.1)


def test_weights_of_another_architecture_are_refused_by_name() -> None:
    with pytest.raises(
        CheckpointError, match=r"run belongs to another architecture: missing bias; weight is \(3, 2\)"
    ):
        load_strictly(nn.Linear(2, 2), {"weight": torch.zeros(3, 2)}, where="run")


class _Explodes(Rule):
    def training_step(self, batch: object) -> object:  # type: ignore[override]
        out = super().training_step(batch)  # type: ignore[arg-type]
        return out._replace(loss=out.loss * float("nan"))


class _Weighs(Rule):
    """One term over what the batch tells, one over what only the step finds: little in the first batch."""

    def counts(self, batch: ImageBatch) -> dict[str, float]:  # type: ignore[override]
        return {"told": 2.5 * len(batch.images)}

    def training_step(self, batch: ImageBatch) -> StepOutput:
        found = self.model(batch.images)[:, 0].square().sum()
        count = batch.images.square().sum() * (0.001 if batch.sample_ids[0] == 0 else 1.0)
        return StepOutput(found, {}, {"told": found, "seen": 3 * found}, {"seen": count})


def test_terms_are_divided_by_what_the_update_or_the_micro_step_has(tmp_path: Path) -> None:
    task, draw = _Weighs(0.0, pause=False), torch.Generator().manual_seed(0)
    batches = [
        ImageBatch(
            images=torch.randn(3 + number, 8, generator=draw), sample_ids=torch.arange(number, 3 + 2 * number)
        )
        for number in range(2)
    ]
    sums = torch.stack([task.model(batch.images)[:, 0].square().sum() for batch in batches])
    counts = torch.tensor([1.0, float(batches[1].images.square().sum())])  # the first is less, taken as 1
    told, seen = sums.sum() / (2.5 * 7), (3 * sums / counts).mean()
    wanted = torch.autograd.grad(told + seen, list(task.model.parameters()))
    log = RunLog(tmp_path, title="", num_steps=1, tensorboard=False)
    train(
        task, TrainState(task.model, build_optimizer(task.model, OptimizerConfig()), None),
        (Loaded(batch, ()) for batch in batches),
        LoopConfig(
            train=TrainConfig(num_steps=1, grad_accumulation=2, log_every=1, max_grad_norm=0.0),
            optimizer=OptimizerConfig(), schedule=ScheduleConfig(), global_batch_size=7,
        ),
        ranks=ONE, checkpoints=Checkpoints(tmp_path, 1), log=log, skipped=SkippedLog(tmp_path, ONE),
    )  # fmt: skip
    (line,) = read_log(tmp_path / "metrics.jsonl")
    norm = torch.cat([gradient.flatten() for gradient in wanted]).norm()
    assert line["loss_told"] == pytest.approx(told.item(), rel=1e-5)
    assert line["loss_seen"] == pytest.approx(seen.item(), rel=1e-5)
    assert line["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_loss_that_is_no_number_stops_or_is_left_out(policy: str, tmp_path: Path) -> None:
    task = _Explodes(0.0, pause=False)
    before = [p.detach().clone() for p in task.model.parameters()]
    state = TrainState(task.model, build_optimizer(task.model, OptimizerConfig()), None)
    config = LoopConfig(
        train=TrainConfig(num_steps=3, on_nonfinite=policy, tensorboard=False),  # type: ignore[arg-type]
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(),
        global_batch_size=6,
    )

    def go() -> bool:
        return train(
            task,
            state,
            prefetch(plan(), 0, 3),
            config,
            ranks=ONE,
            checkpoints=Checkpoints(tmp_path, 1),
            log=None,
            skipped=SkippedLog(tmp_path, ONE),
        )

    if policy == "stop":
        with pytest.raises(NonFiniteLossError, match="step 1 is not a number"):
            go()
    else:
        assert go()
        assert state.step == 3 and (tmp_path / "step_00000003").is_dir()  # the end is saved, skipped or not
    assert all(torch.equal(a, b) for a, b in zip(before, task.model.parameters(), strict=True))


@pytest.mark.parametrize("slow", ["data", "step"])
def test_the_log_tells_the_share_of_time_that_data_is_waited_for(slow: str, tmp_path: Path) -> None:
    task = Rule(0.0, pause=slow == "step")  # 50 ms a step

    def batches() -> Iterator[Loaded[ImageBatch]]:
        for step in range(4):
            if slow == "data":
                time.sleep(0.05)
            yield plan().batch(step)

    config = LoopConfig(
        train=TrainConfig(num_steps=4, log_every=2),
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(),
        global_batch_size=6,
    )
    with RunLog(tmp_path, title="waiting", num_steps=4, tensorboard=False) as log:
        train(
            task, TrainState(task.model, build_optimizer(task.model, OptimizerConfig()), None), batches(),
            config, ranks=ONE, checkpoints=Checkpoints(tmp_path, 1), log=log,
            skipped=SkippedLog(tmp_path, ONE),
        )  # fmt: skip
    second = read_log(tmp_path / "metrics.jsonl")[1]["waiting"]  # the first steps warm up
    assert 0.5 < second < 1 if slow == "data" else 0 <= second < 0.5
