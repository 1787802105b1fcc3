"""Training the World model, and packing it into the package: fp16 weights, configs, tokenizer, a card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.hub.load import embedded_folder
from imglish.hub.packed_weights import pack_weights
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import JointTask, RunConfig
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import evaluate_recipe
from imglish.recipes.world import (
    WORLD_RUNS,
    world_contrastive,
    world_masked_data_modeling,
    world_visual_tokenizer,
    world_yes_no,
)
from imglish.recipes.world_heads import world_heads
from imglish.train.logging import read_log

PARTS = {"encoder": "yes_no", "visual_tokenizer": "visual_tokenizer"}
_NUM_SCENES, _NUM_SCORED = 20_000, 500  # of the heads
_HEADS = "\n## The heads\n"  # where their part of the card begins
# What the card tells of the heads, by the names of their scores; shares in percent.
_SCORES = {
    "vqa/accuracy": "answers: soft accuracy",
    "caption/things_named": "captions: things named with shape and colour",
    "caption/cider": "captions: CIDEr, times 100",
    "retrieval/text_recall_at_1": f"picture to text, R@1 of {_NUM_SCORED}",
    "retrieval/image_recall_at_1": f"text to picture, R@1 of {_NUM_SCORED}",
    "classification/top_1_accuracy": "classes: the shape of a single thing",
    "semantic/mean_iou": "class maps: mean IoU",
    "semantic/mean_iou_things": "class maps: mean IoU of things",
    "box/ap": "objects: box AP",
    "mask/ap": "objects: mask AP",
}


def train_world(runs: Path = WORLD_RUNS) -> dict[str, float]:
    """Train the stages of the World model one after the other; a finished stage is not done again.

    Four lead to the encoder, the fifth to its heads, on scenes that it draws into the folder ``data``.

    Run:      imglish train world
    Needs:    2 CPU cores, about 85 minutes when nothing else runs on them.

    Returns:
        The scores of the last stage. `embed_world` and `embed_heads` pack the weights.
    """
    train_recipe(world_contrastive(), runs / "contrastive", resume=True)
    train_recipe(world_visual_tokenizer(runs=runs), runs / "visual_tokenizer", resume=True)
    train_recipe(world_masked_data_modeling(runs=runs), runs / "masked_data_modeling", resume=True)
    train_recipe(world_yes_no(runs=runs), runs / "yes_no", resume=True)
    data = runs / "data"
    if not data.is_dir():
        write_world(WorldConfig(), data, num_train=_NUM_SCENES, num_validation=_NUM_SCORED)
    heads = world_heads(world=data, init=str(runs / "yes_no"))
    return train_recipe(heads, runs / "heads", resume=True)


def embed_world(runs: Path = WORLD_RUNS, into: Path | None = None) -> Path:
    """Copy the finished stages of the World model into the package, in fp16.

    Args:
        runs: Folder of the four stages.
        into: Where the folders ``encoder`` and ``visual_tokenizer`` go; the package by default.

    Raises:
        CheckpointError: A stage is not finished.
    """
    into = into or embedded_folder()
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


def embed_heads(run: Path, into: Path | None = None) -> Path:
    """Copy the finished run of the heads into the package, a byte a number, and score what was copied.

    Args:
        run: Folder of a `world_heads`; its World must still be there.
        into: Where the folder ``heads`` goes, beside that of the encoder, whose text tokenizer it reads with;
            the package by default.

    Raises:
        CheckpointError: The run is not finished.
        DataFormatError: Its World is not there.
    """
    into = into or embedded_folder()
    source, target = RunFolder(run), RunFolder(into / "heads")
    packed = pack_weights(source.weights())
    for folder in (RunFolder(run / "packed"), target):
        folder.create()
        save_file({name: tensor.contiguous() for name, tensor in packed.items()}, folder.weights_path)
        shutil.copyfile(source.config_path, folder.config_path)
        for listed in sorted([*run.glob("*/answers.txt"), *run.glob("*/classes.txt")]):
            if listed.parent.name != "packed":
                own = RunFolder(folder.path / listed.parent.name)
                own.create()
                shutil.copyfile(listed, own.path / listed.name)
    shutil.copyfile(source.text_path, RunFolder(run / "packed").text_path)
    config = source.config()
    scores = evaluate_recipe(config, run / "packed")
    card = into / "card.md"
    before = card.read_text(encoding="utf-8").partition(_HEADS)[0] if card.is_file() else ""
    card.write_text(before + _HEADS + _heads_card(config, scores), encoding="utf-8")
    return target.path


def _heads_card(config: RunConfig, scores: Mapping[str, float]) -> str:
    """What the heads are, how they were made, and how they score."""
    assert isinstance(config.task, JointTask)
    turns = ", ".join(f"{name} {config.task.turns.get(name, 1)}" for name in config.task.parts)
    rows = "".join(f"| {words} | {100 * scores[name]:.1f} |\n" for name, words in _SCORES.items())
    return f"""
Answers, captions, retrieval, classes, class maps, boxes and masks on one encoder, which sees a picture
once for all of them. Made by `imglish train world_heads --data.root world` from the encoder in
{config.train.num_steps} updates, which the tasks took in turn (in a round {turns}), seed {config.train.seed}.
Stored in a byte a number; these are the scores of what is stored, on {_NUM_SCORED} scenes that no
training saw:

| percent | |
|---|---|
{rows}"""


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
