"""Training the World model, and packing it into the package: fp16 weights, configs, tokenizer, a card."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file

from imglish.recipes.assemble import train_recipe
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.world import (
    WORLD_RUNS,
    world_contrastive,
    world_masked_data_modeling,
    world_visual_tokenizer,
    world_yes_no,
)
from imglish.train.logging import read_log

PARTS = {"encoder": "yes_no", "visual_tokenizer": "visual_tokenizer"}


def train_world(runs: Path = WORLD_RUNS) -> dict[str, float]:
    """Train the four stages of the World model one after the other; a finished stage is not done again.

    Run:      imglish train world
    Needs:    2 CPU cores, about 70 minutes when nothing else runs on them.

    Returns:
        The scores of the last stage. `embed_world` packs the weights.
    """
    train_recipe(world_contrastive(), runs / "contrastive", resume=True)
    train_recipe(world_visual_tokenizer(runs=runs), runs / "visual_tokenizer", resume=True)
    train_recipe(world_masked_data_modeling(runs=runs), runs / "masked_data_modeling", resume=True)
    return train_recipe(world_yes_no(runs=runs), runs / "yes_no", resume=True)


def embed_world(runs: Path = WORLD_RUNS, into: Path | None = None) -> Path:
    """Copy the finished stages of the World model into the package, in fp16.

    Args:
        runs: Folder of the four stages.
        into: Where the folders ``encoder`` and ``visual_tokenizer`` go; the package by default.

    Raises:
        CheckpointError: A stage is not finished.
    """
    into = into or Path(str(resources.files("imglish.hub") / "world"))
    for part, stage in PARTS.items():
        source, target = RunFolder(runs / stage), RunFolder(into / part)
        target.path.mkdir(parents=True, exist_ok=True)
        weights = {
            name: tensor.half() if tensor.dtype == torch.float32 else tensor
            for name, tensor in source.weights().items()
        }
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, target.weights_path)
        shutil.copyfile(source.config_path, target.config_path)
        if source.text_path.is_file():
            shutil.copyfile(source.text_path, target.text_path)
    (into / "card.md").write_text(_card(runs), encoding="utf-8")
    return into


def _card(runs: Path) -> str:
    """What the weights are, how they were made, and how they score."""
    lines = [
        "# The World model",
        "",
        "A BEiT-3 of 4 layers and width 128 over 16 patches, and its visual tokenizer, pretrained on drawn",
        "scenes of the World (level easy, 64 x 64 pixels). It knows nothing but the World. MIT licence.",
        "",
        "It has read pictures, texts, and pairs with captions, with questions and answers, or with a",
        "statement about the picture judged by yes or no; single answers and judgements were asked for at",
        "the class token, which the paper's objective does not do.",
        "",
        "Made by `imglish train world` in four stages, on two CPU cores shared with other work:",
        "",
        "| stage | steps | samples | minutes | seed | loss, start to end | scores on validation |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage in ("contrastive", "visual_tokenizer", "masked_data_modeling", "yes_no"):
        folder = RunFolder(runs / stage)
        config, records = folder.config(), read_log(folder.path / "metrics.jsonl")
        losses = [_total_loss(record) for record in records if any(k.startswith("loss") for k in record)]
        scores = json.loads(folder.scores_path.read_text())
        shown = ", ".join(f"{k} {v:.3f}" for k, v in scores.items() if not k.endswith("count"))
        minutes = _minutes([record["time"] for record in records])
        steps = config.train.num_steps
        curve = " > ".join(f"{losses[i]:.2f}" for i in _spread(len(losses)))
        lines.append(
            f"| {stage} | {steps} | {steps * config.task.batch_size} | {minutes:.0f} | {config.train.seed} "
            f"| {curve} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def _total_loss(record: dict[str, float]) -> float:
    return record["loss"] if "loss" in record else sum(v for k, v in record.items() if k.startswith("loss_"))


def _minutes(times: list[float]) -> float:
    """Minutes of training; pauses of over a minute, as between stop and resumption, are left out."""
    return sum(b - a for a, b in pairwise(times) if b - a < 60) / 60


def _spread(count: int) -> list[int]:
    """Five places from first to last."""
    return sorted({round(i * (count - 1) / 4) for i in range(5)})
