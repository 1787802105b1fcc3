"""What goes wrong on one rank is dealt with by all of them together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from imglish.data.loader import SinglePlan, Source, prefetch
from imglish.errors import CheckpointError
from imglish.structures.batches import ImageBatch
from imglish.tasks.base import StepOutput
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks
from imglish.train.logging import SkippedLog
from imglish.train.loop import LoopConfig, NonFiniteLossError, train
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import parallelize, whole_weights
from imglish.train.state import TrainState
from tests.distributed.ranks import NUM_RANKS, on_two_ranks
from tests.train.test_checkpoint import full_disk
from tests.train.tiny import Blobs, Rule, collate

STRATEGIES: tuple[Literal["ddp", "fsdp2"], ...] = ("ddp", "fsdp2")


class Sick(Rule):
    """A rule, wide enough to fill a disk, whose loss is no number in its second step on the last rank."""

    sick = False

    def __init__(self) -> None:
        super().__init__(0.0, pause=False)
        self.model = nn.Sequential(nn.Linear(8, 512), nn.GELU(), nn.Linear(512, 1))
        self.steps = 0

    def training_step(self, batch: ImageBatch) -> StepOutput:
        self.steps += 1
        out = super().training_step(batch)
        return out._replace(loss=out.loss * float("nan")) if self.sick and self.steps == 2 else out


def start(strategy: Literal["ddp", "fsdp2"], ranks: Ranks) -> tuple[Sick, TrainState]:
    torch.manual_seed(0)
    task = Sick()
    model = task.model
    task.model = parallelize(model, strategy, ranks)
    return task, TrainState(model, build_optimizer(model, OptimizerConfig()), None)


def run(task: Sick, state: TrainState, policy: Literal["stop", "skip"], folder: Path, ranks: Ranks) -> bool:
    config = LoopConfig(
        train=TrainConfig(num_steps=3, on_nonfinite=policy), optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(), global_batch_size=8,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    source = Source(dataset=Blobs(), per_rank=4, seed=0)
    plan = SinglePlan(source=source, collate=collate, rank=ranks.rank, world_size=ranks.world_size)
    return train(
        task, state, prefetch(plan, 0, 3), config, ranks=ranks, checkpoints=Checkpoints(folder, 1), log=None,
        skipped=SkippedLog(folder, ranks),
    )  # fmt: skip


def meet_faults(ranks: Ranks, folder: Path) -> None:
    found: dict[str, object] = {}
    for strategy in STRATEGIES:
        for policy in ("stop", "skip"):
            task, state = start(strategy, ranks)
            task.sick = ranks.rank == NUM_RANKS - 1
            try:
                run(task, state, policy, folder / f"{strategy} {policy}", ranks)
                found[f"{strategy} {policy}"] = "went on"
            except NonFiniteLossError as error:
                found[f"{strategy} {policy}"] = f"{state.step} {error}"
            finite = all(bool(tensor.isfinite().all()) for tensor in whole_weights(task.model).values())
            found[f"{strategy} {policy} finite"] = finite
        for background in (False, True):
            name = f"{strategy} background" if background else f"{strategy} disk"
            task, state = start(strategy, ranks)
            run(task, state, "stop", folder / name, ranks)
            state.step = 4
            checkpoints = Checkpoints(folder / name, 1, background=background)
            try:
                if ranks.is_main:
                    checkpoints.save(state, ranks)
                else:
                    with full_disk():
                        checkpoints.save(state, ranks)
                found[name] = "saved"
            except CheckpointError as error:
                found[name] = str(error)
            _, again = start(strategy, ranks)
            found[f"{name} loads"] = checkpoints.load_latest(again, ranks) and again.step
    (folder / f"{ranks.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("faults")
    on_two_ranks(meet_faults, made)
    return made


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rank", range(NUM_RANKS))
def test_a_loss_that_is_no_number_on_one_rank_stops_or_is_left_out_on_all(
    folder: Path, strategy: str, rank: int
) -> None:
    found = json.loads((folder / f"{rank}.json").read_text())
    assert found[f"{strategy} stop"].startswith("1 the loss of step 2 is not a number")
    assert found[f"{strategy} skip"] == "went on"
    assert found[f"{strategy} stop finite"] and found[f"{strategy} skip finite"]


@pytest.mark.parametrize("kind", ["disk", "background"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_full_disk_of_one_rank_fails_on_all_and_loses_nothing(
    folder: Path, strategy: str, kind: str
) -> None:
    for rank in range(NUM_RANKS):
        found = json.loads((folder / f"{rank}.json").read_text())
        assert "the checkpoint can not be written (" in found[f"{strategy} {kind}"]
        assert "step_00000003, is kept. Make room and go on with --resume" in found[f"{strategy} {kind}"]
        assert found[f"{strategy} {kind} loads"] == 3
    left = [path.name for path in (folder / f"{strategy} {kind}").iterdir() if path.is_dir()]
    assert left == ["step_00000003"]
