from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard

from imglish.errors import ConfigError
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForVqa
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks
from imglish.train.logging import SkippedLog
from imglish.train.loop import LoopConfig, train
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import ShardedModel, parallelize, shard, unwrap
from imglish.train.state import TrainState
from tests.train.tiny import Rule

CONFIG = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=30, max_text_tokens=12, width=32, depth=1, num_heads=2,
    feed_forward_width=64,
)  # fmt: skip


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Ranks]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield Ranks(0, 1, torch.device("cpu"))
    dist.destroy_process_group()


def test_a_model_that_uses_a_part_of_the_encoder_trains_in_parallel(group: Ranks) -> None:
    model = Beit3ForVqa(CONFIG, num_answers=3)  # nothing is masked, so the mask token is left alone
    wrapped = parallelize(model, "ddp", group)
    for _ in range(3):  # the wrapper complains in the step after the one that left something out
        wrapped(torch.rand(2, 3, 32, 32), torch.randint(4, 29, (2, 5))).sum().backward()
    assert unwrap(wrapped) is model and model.head.output.weight.grad is not None


def test_one_device_for_several_ranks_is_refused() -> None:
    with pytest.raises(ValueError, match="there are 2 ranks; use 'ddp'"):
        parallelize(torch.nn.Linear(1, 1), "single", Ranks(0, 2, torch.device("cpu")))


def test_a_model_for_one_device_is_not_sharded() -> None:
    with pytest.raises(ConfigError, match="over several ranks, but there is one; start it with torchrun"):
        shard(torch.nn.Linear(1, 1), [], Ranks(0, 1, torch.device("cpu")))


def test_the_loop_refuses_a_sharded_model(group: Ranks, tmp_path: Path) -> None:
    task = Rule(0.0, pause=False)
    task.model = ShardedModel(fully_shard(task.model))
    config = LoopConfig(
        train=TrainConfig(), optimizer=OptimizerConfig(), schedule=ScheduleConfig(), global_batch_size=1
    )
    with pytest.raises(ConfigError, match="the model is sharded, but checkpoints hold whole models only"):
        train(
            task,
            TrainState(unwrap(task.model), build_optimizer(task.model, OptimizerConfig()), None),
            iter(()),
            config,
            ranks=group,
            checkpoints=Checkpoints(tmp_path, 1),
            log=None,
            skipped=SkippedLog(tmp_path, group),
        )
