"""A whole tiny pretraining of the World by its recipe: pictures, texts and pairs; also a process of its own.

python -m tests.train.whole_run WORLD OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from imglish.data.world.language import captions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from imglish.models.beit3.config import Beit3Config
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import MaskedDataModelingTask, RunConfig
from imglish.recipes.data_config import FolderData
from imglish.text.training import train_tokenizer
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

NUM_STEPS = 4
MODEL = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=128, max_text_tokens=64, width=16, depth=1, num_heads=2,
    feed_forward_width=16, init="scaled",
)  # fmt: skip


def write(root: Path) -> None:
    """A small World and a text tokenizer."""
    write_world(WorldConfig(), root / "world", num_train=12, num_validation=4, workers=1)
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(60)]
    train_tokenizer([text for scene in scenes for text in captions(scene)], root / "text.spm", vocab_size=100)


def config_of(root: Path, num_workers: int = 0) -> RunConfig:
    """Four steps of two micro steps; every step is saved, and kept."""
    return RunConfig(
        name="whole",
        task=MaskedDataModelingTask(
            model=MODEL, visual_tokenizer="world", num_images=4, num_texts=4, num_pairs=8, min_block=1
        ),
        data=FolderData(root=root / "world"),
        text_tokenizer=str(root / "text.spm"),
        train=TrainConfig(
            num_steps=NUM_STEPS, grad_accumulation=2, device="cpu", ema_decay=0.5, log_every=1, save_every=1,
            keep_checkpoints=NUM_STEPS, num_workers=num_workers, tensorboard=False,
        ),
        optimizer=OptimizerConfig(lr=1e-2),
        schedule=ScheduleConfig(warmup_steps=2),
    )  # fmt: skip


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    train_recipe(config_of(Path(words[0])), Path(words[1]), resume=True)


if __name__ == "__main__":
    main(sys.argv[1:])
