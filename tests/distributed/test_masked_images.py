"""Masked image modelling on two ranks beside one process with the whole batch, by the loop itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from imglish.data.loader import Loaded
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import MaskedImages
from imglish.tasks.masked_image_modeling import MaskedImageModelingTask
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks
from imglish.train.logging import SkippedLog
from imglish.train.loop import LoopConfig, train
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import parallelize, whole_weights
from imglish.train.state import TrainState
from tests.distributed.ranks import on_two_ranks
from tests.tasks.test_masked_image_modeling import AGGREGATION, CODES, CONFIG, TOKENIZER
from tests.tasks.tiny import with_noise

NUM_STEPS = 3
# Hidden patches of each picture, as uneven as those of BEiT's own masks: the ranks count 1 and 8 of them.
HIDDEN = (0, 1, 4, 4)
# Sums of float64 in another order, through three updates of Adam.
RELATIVE, ABSOLUTE = 1e-7, 1e-9
OPTIMIZER = OptimizerConfig(lr=1e-2, weight_decay=0.1)


class InFloat64(MaskedImageModelingTask):
    """The task with the tokenizer's pictures in float32."""

    def targets(self, batch: MaskedImages) -> Tensor:
        return super().targets(replace(batch, images=batch.images.float()))


def batch_of(step: int, ranks: Ranks) -> Loaded[MaskedImages]:
    g = torch.Generator().manual_seed(step)
    images = torch.rand(len(HIDDEN), 3, 32, 32, generator=g, dtype=torch.float64) * 2 - 1
    corruption = torch.stack([torch.arange(4) < count for count in HIDDEN])
    share = len(HIDDEN) // ranks.world_size
    mine = slice(ranks.rank * share, (ranks.rank + 1) * share)
    return Loaded(MaskedImages(images=images[mine], corruption=corruption[mine]), ())


def go(ranks: Ranks, folder: Path) -> None:
    """Train a few steps; the main rank leaves the weights."""
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER)
    with_noise(tokenizer)
    model = ViTForMaskedImageModeling(CONFIG, codebook_size=CODES, aggregation=AGGREGATION).double()
    task = InFloat64(model, tokenizer, pictures="imagenet")
    task.model = parallelize(model, "auto", ranks)
    settings = TrainConfig(num_steps=NUM_STEPS, precision="fp32", max_grad_norm=0.1, log_every=1)
    train(
        task,
        TrainState(model, build_optimizer(model, OPTIMIZER), None),
        (batch_of(step, ranks) for step in range(NUM_STEPS)),
        LoopConfig(train=settings, optimizer=OPTIMIZER, schedule=ScheduleConfig(), global_batch_size=4),
        ranks=ranks,
        checkpoints=Checkpoints(folder / "checkpoints", keep=1),
        log=None,
        skipped=SkippedLog(folder, ranks),
        evaluate=None,
    )
    weights = whole_weights(task.model)
    if ranks.is_main:
        torch.save(weights, folder / "weights.pt")


def test_two_ranks_that_hide_unlike_numbers_of_patches_train_as_one(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    go(Ranks(0, 1, torch.device("cpu")), alone)
    on_two_ranks(go, together)
    expected, found = (torch.load(folder / "weights.pt") for folder in (alone, together))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=RELATIVE, atol=ABSOLUTE, msg=name)
