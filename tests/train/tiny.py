"""A tiny true run, started as a process of its own: trained, killed, resumed, or split over ranks.

python -m tests.train.tiny OUT [--pause] [--batch N] [--no-dropout] [--background]
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.data.loader import SinglePlan, Source, prefetch
from imglish.errors import DataFormatError
from imglish.structures.batches import ImageBatch
from imglish.tasks.base import StepOutput
from imglish.train.checkpoint import Checkpoints, save_weights
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import join_ranks
from imglish.train.ema import Ema
from imglish.train.logging import RunLog, SkippedLog
from imglish.train.loop import LoopConfig, train
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import parallelize
from imglish.train.state import TrainState


@dataclass(frozen=True)
class Blobs:
    """Noise with a rule to learn; every tenth sample is damaged."""

    def __len__(self) -> int:
        return 50

    def get(self, index: int, rng: np.random.Generator) -> Tensor:
        if index % 10 == 3:
            raise DataFormatError(f"sample {index} is damaged")
        noise = np.random.default_rng(index).normal(size=8) + 0.1 * rng.normal(size=8)
        return torch.tensor(noise, dtype=torch.float32)


def collate(samples: object) -> ImageBatch:
    rows = torch.stack(list(samples))  # type: ignore[call-overload]
    return ImageBatch(images=rows, sample_ids=torch.arange(len(rows)))


class Rule(nn.Module):
    """Learn the sign of a sum."""

    def __init__(self, dropout: float, pause: bool) -> None:
        super().__init__()
        self.model: nn.Module = nn.Sequential(
            nn.Linear(8, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 1)
        )
        self.pause = pause

    def training_step(self, batch: ImageBatch) -> StepOutput:
        if self.pause:
            time.sleep(0.05)
        target = (batch.images.sum(dim=1) > 0).float()
        loss = F.binary_cross_entropy_with_logits(self.model(batch.images)[:, 0], target)
        return StepOutput(loss, {"loss": loss.detach()})

    def counts(self, batch: ImageBatch) -> None:
        return None

    def begin_step(self, step: int) -> None:
        pass

    def after_step(self) -> None:
        pass


def main(words: list[str]) -> None:
    out = Path(words[0])
    batch = int(words[words.index("--batch") + 1]) if "--batch" in words else 8
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = Rule(0.0 if "--no-dropout" in words else 0.3, pause="--pause" in words)
    settings = TrainConfig(
        num_steps=40,
        grad_accumulation=2,
        ema_decay=0.9,
        save_every=5,
        log_every=1,
        num_workers=1,
        tensorboard=False,
    )
    optimizer = OptimizerConfig(lr=1e-2)
    with join_ranks("cpu") as ranks:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"process_{ranks.rank}").write_text(str(os.getpid()))
        model = task.model
        state = TrainState(model, build_optimizer(model, optimizer), Ema(model, settings.ema_decay))
        torch.manual_seed(ranks.rank)
        checkpoints = Checkpoints(out / "checkpoints", keep=2, background="--background" in words)
        checkpoints.load_latest(state, ranks)
        task.model = parallelize(model, "auto", ranks)
        source = Source(dataset=Blobs(), per_rank=batch // 2 // ranks.world_size, seed=0)
        plan = SinglePlan(source=source, collate=collate, rank=ranks.rank, world_size=ranks.world_size)
        batches = prefetch(plan, state.step * 2, settings.num_steps * 2, settings.num_workers)
        loop = LoopConfig(
            train=settings,
            optimizer=optimizer,
            schedule=ScheduleConfig(warmup_steps=5),
            global_batch_size=batch,
        )
        log = (
            RunLog(out, title="tiny", num_steps=40, start=state.step, tensorboard=False)
            if ranks.is_main
            else None
        )
        skipped = SkippedLog(out, ranks, start=state.step)
        train(task, state, batches, loop, ranks=ranks, checkpoints=checkpoints, log=log, skipped=skipped)
        if ranks.is_main and state.step == 40 and state.ema is not None:
            save_weights(model.state_dict(), out / "final.safetensors")
            save_weights(state.ema.weights, out / "ema.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
