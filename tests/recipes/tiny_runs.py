"""Commands that train tiny models on a small World, for tests that damage what they read or write."""

from __future__ import annotations

from pathlib import Path

from imglish.cli.main import main
from imglish.data.world.language import captions
from imglish.data.world.questions import questions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from imglish.text.training import train_tokenizer

NUM_TRAIN, NUM_VALIDATION = 12, 6
LOOP = (
    "--init= --task.batch-size 4 --train.num-steps 2 --train.log-every 1 --train.num-workers 0 "
    "--train.no-tensorboard --train.device cpu --schedule.warmup-steps 0 "
    "--task.model.width 8 --task.model.depth 1 --task.model.num-fusion-layers 0 --task.model.num-heads 2 "
    "--task.model.feed-forward-width 8"
).split()
ADAPTER = (
    "--task.adapter.num-interactions 1 --task.adapter.stem-width 8 --task.adapter.num-heads 2 "
    "--task.segmenter.neck-width 8 --task.segmenter.head-width 8"
).split()
PREFIX = "imglish: error: "


def make_runs(root: Path) -> Path:
    """Write a small World, a text tokenizer, a finished run of questions and one of segmentation."""
    write_world(WorldConfig(), root / "world", num_train=NUM_TRAIN, num_validation=NUM_VALIDATION)
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(40)]
    texts = [text for scene in scenes for text in captions(scene)]
    texts += [question.text for scene in scenes for question in questions(scene)]
    train_tokenizer(texts, root / "text.spm", vocab_size=100)
    assert main(asking(root, root / "world", root / "runs" / "vqa")) == 0
    assert main(segmenting(root / "world", root / "runs" / "segmentation")) == 0
    return root


def asking(root: Path, world: Path, out: Path, *more: str) -> list[str]:
    """The command that trains a tiny model for questions."""
    command = ["train", "vqa_demo", "--data.root", str(world), "--text-tokenizer", str(root / "text.spm")]
    settings = ["--task.model.vocab-size", "128", "--task.min-answer-count", "2", "--out", str(out)]
    return [*command, *LOOP, *settings, *more]


def segmenting(world: Path, out: Path, *more: str) -> list[str]:
    """The command that trains a tiny segmenter."""
    command = ["train", "semantic_segmentation_demo", "--data.root", str(world)]
    return [*command, *LOOP, *ADAPTER, "--out", str(out), *more]


def pairing(root: Path, world: Path, out: Path, *more: str) -> list[str]:
    """The command that trains a tiny dual encoder on shards."""
    command = ["train", "world_contrastive", "--data.kind", "folder", "--data.root", str(world)]
    settings = ["--text-tokenizer", str(root / "text.spm"), "--task.model.vocab-size", "128"]
    return [*command, *LOOP, *settings, "--out", str(out), *more]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error_line(shown: str) -> str:
    """The one line that a failed command ends with, without what every such line begins with."""
    lines = shown.splitlines()
    assert sum(PREFIX in line for line in lines) == 1 and lines[-1].startswith(PREFIX), lines
    assert "Traceback" not in shown
    return lines[-1].removeprefix(PREFIX)
