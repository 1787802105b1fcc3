from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imglish.data.loader import SinglePlan, Source, prefetch
from imglish.errors import CheckpointError
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks
from imglish.train.ema import Ema
from imglish.train.logging import SkippedLog
from imglish.train.loop import LoopConfig, train
from imglish.train.optimizer import build_optimizer
from imglish.train.state import TrainState
from tests.train.tiny import Blobs, Rule, collate

ONE = Ranks(0, 1, torch.device("cpu"))
ROOM = 4096  # bytes; the layers' weights alone are twice that
BOTH = pytest.mark.parametrize("background", [False, True], ids=["waited for", "in the background"])


def state(seed: int = 0, *, averaged: bool = True, width: int = 32) -> TrainState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    made = TrainState(model, build_optimizer(model, OptimizerConfig()), Ema(model, 0.5) if averaged else None)
    update(made)
    return made


def update(state: TrainState) -> None:
    F.softplus(state.model(torch.randn(4, 64))).sum().backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.ema is not None:
        state.ema.update(state.model)
    state.step += 1


def numbers(state: TrainState) -> list[torch.Tensor]:
    """All that a state holds, in order."""
    assert state.ema is not None
    moments = [
        moment for group in state.optimizer.param_groups for p in group["params"]
        for moment in state.optimizer.state[p].values()
    ]  # fmt: skip
    return [
        tensor.clone()
        for tensor in (*state.model.state_dict().values(), *state.ema.weights.values(), *moments)
    ]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond `ROOM`; the write that would fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@BOTH
def test_a_state_comes_back_as_it_was_when_it_was_saved(tmp_path: Path, background: bool) -> None:
    before = state()
    expected = numbers(before)
    checkpoints = Checkpoints(tmp_path, 2, background=background)
    checkpoints.save(before, ONE, needed=False)
    update(before)  # what is written meanwhile must not change
    draws = torch.rand(3)
    checkpoints.wait(ONE)
    after = state(seed=1)
    assert Checkpoints(tmp_path, 2).load_latest(after, ONE)
    assert after.step == 1
    assert_same(numbers(after), expected)
    torch.manual_seed(0)
    again = state()
    update(again)
    assert torch.equal(torch.rand(3), draws)  # the same draws had led here


@BOTH
def test_the_latest_are_kept_and_only_whole_ones_are_there(tmp_path: Path, background: bool) -> None:
    current = state()
    with Checkpoints(tmp_path, 2, background=background) as checkpoints:
        for step in range(1, 5):
            current.step = step
            checkpoints.save(current, ONE, needed=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000003", "step_00000004"]


@BOTH
def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, background: bool, caplog: pytest.LogCaptureFixture
) -> None:
    current = state()
    checkpoints = Checkpoints(tmp_path, 1, background=background)
    checkpoints.save(current, ONE)
    expected = numbers(current)
    update(current)
    with full_disk():
        with pytest.raises(CheckpointError) as caught:
            checkpoints.save(current, ONE)
        with caplog.at_level(logging.ERROR):
            checkpoints.save(current, ONE, needed=False)
            checkpoints.wait(ONE, needed=False)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/step_00000002: the checkpoint can not be written (")
    assert "MiB are free)" in line and "\n" not in line
    assert line.endswith("the last good one, step_00000001, is kept. Make room and go on with --resume")
    assert "training goes on" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    again = state(seed=1)
    assert Checkpoints(tmp_path, 1).load_latest(again, ONE)
    assert_same(numbers(again), expected)
    checkpoints.save(current, ONE)  # there is room again
    assert [path.name for path in checkpoints.complete()] == ["step_00000002"]


class _DiskFills(Rule):
    """A wider rule, whose disk is full from its third step to the end of ``last``."""

    checkpoints: Checkpoints | None = None

    def __init__(self, last: int) -> None:
        super().__init__(0.0, pause=False)
        self.model = nn.Sequential(nn.Linear(8, 512), nn.GELU(), nn.Linear(512, 1))
        self.last, self.limits = last, resource.getrlimit(resource.RLIMIT_FSIZE)

    def begin_step(self, step: int) -> None:
        assert self.checkpoints is not None
        self.checkpoints.wait(ONE, needed=False)  # or it would depend on chance what the limit meets
        full = 2 <= step < self.last
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, self.limits[1]) if full else self.limits)


@BOTH
@pytest.mark.parametrize("last", [5, 6])
def test_training_goes_on_while_the_disk_is_full_and_fails_at_the_end_only(
    tmp_path: Path, background: bool, last: int, caplog: pytest.LogCaptureFixture
) -> None:
    task = _DiskFills(last)
    config = LoopConfig(
        train=TrainConfig(num_steps=6, save_every=2, tensorboard=False),
        optimizer=OptimizerConfig(), schedule=ScheduleConfig(), global_batch_size=4,
    )  # fmt: skip
    plan = SinglePlan(source=Source(dataset=Blobs(), per_rank=4, seed=0), collate=collate)
    checkpoints = task.checkpoints = Checkpoints(tmp_path / "checkpoints", 3, background=background)
    current = TrainState(task.model, build_optimizer(task.model, OptimizerConfig()), None)

    def go() -> bool:
        return train(
            task, current, prefetch(plan, 0, 6), config, ranks=ONE, checkpoints=checkpoints, log=None,
            skipped=SkippedLog(tmp_path, ONE),
        )  # fmt: skip

    try:
        if last == 6:
            with pytest.raises(CheckpointError, match="the last good one, step_00000002, is kept"):
                go()
        else:
            assert go()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, task.limits)
    assert current.step == 6 and "step_00000004: the checkpoint can not be written" in caplog.text
    assert [path.name for path in checkpoints.complete()] == ["step_00000002", "step_00000006"][: 7 - last]


def corrupt(checkpoint: Path) -> None:
    """Keep the sizes of its files and nothing else."""
    for path in checkpoint.glob("*.distcp"):
        path.write_bytes(b"?" * path.stat().st_size)


def test_what_lies_in_a_damaged_checkpoint_is_taken_from_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    current = state()
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(current, ONE)
    expected = numbers(current)
    update(current)
    checkpoints.save(current, ONE)
    corrupt(tmp_path / "step_00000002")
    again = state(seed=1)
    assert checkpoints.load_latest(again, ONE) and again.step == 1
    assert_same(numbers(again), expected)
    assert "step_00000002 is damaged" in caplog.text
    corrupt(tmp_path / "step_00000001")
    with pytest.raises(
        CheckpointError, match="no checkpoint can be read .*; remove the folder to start anew"
    ):
        checkpoints.load_latest(again, ONE)


def test_a_checkpoint_without_the_share_of_a_rank_is_passed_over_and_never_started_anew_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    current, checkpoints = state(), Checkpoints(tmp_path, 2)
    for _ in range(2):
        checkpoints.save(current, ONE)
        update(current)
    (tmp_path / "step_00000002" / "__0_0.distcp").unlink()
    again = state(seed=1)
    assert checkpoints.load_latest(again, ONE) and again.step == 1
    assert "step_00000002 is damaged" in caplog.text and "__0_0.distcp" in caplog.text
    (tmp_path / "step_00000001" / "__0_0.distcp").unlink()
    with pytest.raises(
        CheckpointError, match=r"no checkpoint can be read \(.*__0_0\.distcp.*remove the folder"
    ):
        checkpoints.load_latest(again, ONE)


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(state(averaged=False), ONE)
    with pytest.raises(
        CheckpointError,
        match=r"belongs to another architecture: 0\.weight is \(32, 64\) instead of \(5, 64\); 0\.bias",
    ):
        checkpoints.load_latest(state(averaged=False, width=5), ONE)
    with pytest.raises(CheckpointError, match="has no averaged weights; resume with train.ema_decay 0"):
        checkpoints.load_latest(state(), ONE)


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "step_00000007").mkdir()
    (tmp_path / "step_00000007" / "checkpoint.json").write_text('{"format": 1, "step": 7}')
    with pytest.raises(CheckpointError, match=r"written by another version \(format 1, not 2\); start anew"):
        Checkpoints(tmp_path, 2).load_latest(state(), ONE)


def test_draws_of_other_ranks_start_anew_the_same_each_time(tmp_path: Path) -> None:
    current = state()
    Checkpoints(tmp_path, 2).save(current, ONE)
    about = tmp_path / "step_00000001" / "checkpoint.json"
    about.write_text(about.read_text().replace('"world_size": 1', '"world_size": 2'))
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        assert Checkpoints(tmp_path, 2).load_latest(current, ONE)
        found.append(torch.rand(4))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
