"""bf16 over two ranks: the same training as in fp32 to within bf16, from and to the same checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import torch

from imglish.tasks.base import Task
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig
from imglish.train.distributed import Ranks
from imglish.train.ema import Ema
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import clip_gradients, gradient_sync, parallelize, whole_weights
from imglish.train.precision import autocast
from imglish.train.state import TrainState
from tests.distributed.ranks import on_two_ranks
from tests.tasks import test_masked_data_modeling
from tests.tasks.tiny import with_noise

Precision = Literal["fp32", "bf16_params"]
NUM_STEPS = 6
# Two blocks in bf16, which keeps 8 bits, and six steps that follow one another.
BF16 = 0.05


def start(precision: Precision, strategy: Literal["ddp", "fsdp2"], ranks: Ranks) -> tuple[Task, TrainState]:
    task = test_masked_data_modeling.build()
    model = with_noise(task.model)
    task.model = parallelize(model, strategy, ranks, precision=precision)
    return task, TrainState(model, build_optimizer(model, OptimizerConfig(lr=3e-3)), Ema(model, 0.5))


def train(task: Task, state: TrainState, precision: Precision, ranks: Ranks, last: int) -> list[float]:
    """Updates of two micro steps each; the loss of each."""
    losses = []
    while state.step < last:
        for micro_step in range(2):
            with gradient_sync(task.model, last=micro_step == 1):
                with autocast(precision, ranks.device):
                    loss = task.training_step(test_masked_data_modeling.masked_batch()).loss / 2
                loss.backward()
        clip_gradients(state.model.parameters(), 3.0)
        state.optimizer.step()
        state.optimizer.zero_grad()
        assert state.ema is not None
        state.ema.update(state.model)
        state.step += 1
        losses.append(2 * loss.item())
    return losses


def on_two(ranks: Ranks, folder: Path) -> None:
    found: dict[str, object] = {}
    for precision, strategy in (("fp32", "ddp"), ("bf16_params", "fsdp2")):
        task, state = start(precision, strategy, ranks)  # type: ignore[arg-type]
        losses = train(task, state, precision, ranks, NUM_STEPS // 2)  # type: ignore[arg-type]
        Checkpoints(folder / precision, 1).save(state, ranks)
        losses += train(task, state, precision, ranks, NUM_STEPS)  # type: ignore[arg-type]
        weights = whole_weights(task.model)
        found[precision] = losses
        found[f"{precision} is fp32"] = all(w.dtype == torch.float32 for w in weights.values())
        # Stopped there and started again, from its own checkpoint and from that in fp32.
        for saved in dict.fromkeys((precision, "fp32")):  # in the same order on every rank
            again, resumed = start(precision, strategy, ranks)  # type: ignore[arg-type]
            assert Checkpoints(folder / saved, 1).load_latest(resumed, ranks)
            found[f"{saved} to {precision}"] = train(again, resumed, precision, ranks, NUM_STEPS)  # type: ignore[arg-type]
            if saved == precision:
                ends = whole_weights(again.model)
                found[f"{precision} same"] = all(torch.equal(ends[name], w) for name, w in weights.items())
    if ranks.is_main:
        (folder / "found.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    folder = tmp_path_factory.mktemp("bf16")
    on_two_ranks(on_two, folder)
    read: dict[str, list[float]] = json.loads((folder / "found.json").read_text())
    return read


def test_shards_in_bf16_train_as_whole_weights_in_fp32(found: dict[str, list[float]]) -> None:
    precision = "bf16_params"
    assert found[precision] == pytest.approx(found["fp32"], rel=BF16)
    assert found[precision] != found["fp32"] and found[precision][-1] < 0.8 * found[precision][0]
    assert found[f"{precision} is fp32"]


def test_they_go_on_exactly_and_from_a_checkpoint_in_fp32(found: dict[str, list[float]]) -> None:
    precision = "bf16_params"
    rest = found[precision][NUM_STEPS // 2 :]
    assert found[f"{precision} to {precision}"] == rest and found[f"{precision} same"]
    assert found[f"fp32 to {precision}"] == pytest.approx(rest, rel=BF16)
