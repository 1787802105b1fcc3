"""A small true run of masked data modelling in float64, whole or in parts, on any ranks."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from imglish.data.buckets import cut_into_buckets
from imglish.data.loader import Loaded
from imglish.evaluation.evaluate import evaluate
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import IGNORE, Bucket, MaskedBatch, MaskedImages, MaskedPairs, MaskedText
from imglish.tasks.masked_data_modeling import MaskedDataModelingTask, MaskedTargets
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks
from imglish.train.ema import Ema
from imglish.train.logging import RunLog, SkippedLog
from imglish.train.loop import LoopConfig, train
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import gathered, parallelize, whole_weights
from imglish.train.state import TrainState
from tests.tasks.test_masked_data_modeling import CODES, TOKENIZER
from tests.tasks.tiny import CONFIG, MASK, with_noise

NUM_STEPS = 4
ROWS = {"images": 8, "texts": 8, "pairs": 4}
LENGTHS = {"texts": torch.tensor([2, 3, 3, 4, 5, 5, 6, 6]), "pairs": torch.tensor([3, 5, 5, 6])}
ALONE = Ranks(0, 1, torch.device("cpu"))
OPTIMIZER = OptimizerConfig(lr=1e-2, weight_decay=0.1)


@dataclass(frozen=True)
class Run:
    """How a run is spread; ``stop`` is the step at which a signal reaches its last rank, 0 for none."""

    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    micro_steps: int = 1
    stop: int = 0
    in_background: bool = False
    activation_checkpointing: bool = False
    compiled: bool = False
    evaluated: bool = False


class SmallTask(MaskedDataModelingTask):
    """The task with the tokenizer's pictures in float32, and a signal at a given step."""

    stop = 0

    def targets(self, batch: MaskedBatch) -> MaskedTargets:
        images, pairs = batch.images, batch.pairs
        return super().targets(
            replace(
                batch,
                images=replace(images, images=images.images.float()),
                pairs=replace(pairs, images=pairs.images.float()),
            )
        )

    def begin_step(self, step: int) -> None:
        if self.stop and step == self.stop - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def batch_of(micro_step: int, rank: int, parts: int, per_update: int) -> MaskedBatch:
    """Part ``rank`` of ``parts`` of a batch; its rows hide from none to nearly all."""
    step, offset = divmod(micro_step, per_update)
    g = torch.Generator().manual_seed(step)
    shares = {
        name: slice(rows * (offset * parts + rank) // (parts * per_update),
                    rows * (offset * parts + rank + 1) // (parts * per_update))
        for name, rows in ROWS.items()
    }  # fmt: skip

    def pictures(name: str) -> dict[str, Tensor]:
        rows = ROWS[name]
        images = torch.rand(rows, 3, 32, 32, generator=g, dtype=torch.float64) * 2 - 1
        corruption = torch.rand(rows, 4, generator=g) < torch.linspace(0, 0.9, rows)[:, None]
        return {"images": images[shares[name]], "corruption": corruption[shares[name]]}

    def texts(name: str) -> dict[str, Tensor]:
        rows = ROWS[name]
        ids = torch.randint(4, MASK, (rows, 6), generator=g)
        padding = torch.arange(6) >= LENGTHS[name][:, None]
        hidden = (torch.rand(rows, 6, generator=g) < torch.linspace(0, 0.9, rows)[:, None]) & ~padding
        fields = {
            "token_ids": ids.masked_fill(hidden, MASK),
            "padding": padding,
            "targets": ids.masked_fill(~hidden, IGNORE),
        }
        return {key: value[shares[name]] for key, value in fields.items()}

    def buckets(name: str) -> tuple[Bucket, ...]:
        return cut_into_buckets(LENGTHS[name][shares[name]].tolist(), 2)

    answers = torch.tensor([IGNORE, 9, IGNORE, 11])[shares["pairs"]]
    return MaskedBatch(
        images=MaskedImages(**pictures("images")),
        texts=MaskedText(**texts("texts"), buckets=buckets("texts")),
        pairs=MaskedPairs(**pictures("pairs"), **texts("pairs"), answers=answers, buckets=buckets("pairs")),
    )


def go(run: Run, folder: Path, ranks: Ranks = ALONE) -> None:
    """Train, or go on with what lies in the folder; leaves ``weights.pt`` where it comes to its end."""
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER)
    with_noise(tokenizer)
    model = Beit3ForMaskedDataModeling(CONFIG, codebook_size=CODES).double()
    task = SmallTask(model, tokenizer)
    task.stop = run.stop if ranks.rank == ranks.world_size - 1 else 0
    settings = TrainConfig(
        num_steps=NUM_STEPS, grad_accumulation=run.micro_steps, precision="fp32", ema_decay=0.5, log_every=1,
        evaluate_every=2 if run.evaluated else 0, save_every=2, max_grad_norm=1.0,
    )  # fmt: skip
    wrapped = task.model = parallelize(
        model, run.strategy, ranks, activation_checkpointing=run.activation_checkpointing,
        compiled=run.compiled,
    )  # fmt: skip
    state = TrainState(model, build_optimizer(model, OPTIMIZER), Ema(model, settings.ema_decay))
    checkpoints = Checkpoints(folder / "checkpoints", keep=2, background=run.in_background)
    checkpoints.load_latest(state, ranks)

    def score() -> Mapping[str, float]:
        # Rank 0 has three batches, the others one: nothing may be exchanged batch by batch.
        mine = [0, 1, 2] if ranks.is_main else [2 + ranks.rank]
        loaded = (Loaded(batch_of(number, 0, 1, 1), ()) for number in mine)
        with gathered(wrapped):
            return evaluate(task, loaded, ranks.device)

    if run.evaluated:
        score()  # before anything was computed
    batches = (
        Loaded(batch_of(micro_step, ranks.rank, ranks.world_size, run.micro_steps), ())
        for micro_step in range(state.step * run.micro_steps, NUM_STEPS * run.micro_steps)
    )
    log = None
    if ranks.is_main:
        log = RunLog(folder, title="small", num_steps=NUM_STEPS, start=state.step, tensorboard=False)
    loop = LoopConfig(
        train=settings, optimizer=OPTIMIZER, schedule=ScheduleConfig(warmup_steps=2), global_batch_size=8
    )
    with log or nullcontext():
        done = train(
            task, state, batches, loop, ranks=ranks, checkpoints=checkpoints,
            log=log, skipped=SkippedLog(folder, ranks), evaluate=score,
        )  # fmt: skip
    assert done == (run.stop == 0)
    if done:
        weights = {name: tensor.clone() for name, tensor in whole_weights(wrapped).items()}
        assert state.ema is not None
        model.load_state_dict(state.ema.weights)
        average = whole_weights(wrapped)
        if ranks.is_main:
            torch.save({"weights": weights, "average": average}, folder / "weights.pt")
