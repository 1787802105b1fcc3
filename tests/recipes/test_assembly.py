"""Every task joined with a small World: a batch trains, the validation split is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imglish.data.world.language import captions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError
from imglish.evaluation.evaluate import evaluate
from imglish.models.beit3.config import Beit3Config
from imglish.recipes.assemble import assemble, in_short, in_steps
from imglish.recipes.assembly.base import Shares, Splits
from imglish.recipes.config import (
    Augment,
    CaptioningTask,
    ClassNamesTask,
    ContrastiveTask,
    ImageClassificationTask,
    MaskedDataModelingTask,
    Nlvr2Task,
    RetrievalTask,
    RunConfig,
    TaskConfig,
    VqaTask,
)
from imglish.recipes.data_config import FolderData
from imglish.recipes.run_folder import RunFolder
from imglish.text.training import train_tokenizer
from imglish.train.config import ScheduleConfig, TrainConfig

MODEL = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=128, max_text_tokens=64, width=16, depth=1, num_heads=2,
    feed_forward_width=16, init="scaled",
)  # fmt: skip
EVERY_CHANGE = Augment(crop_scale=0.5, flip=0.5, rand_augment=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("assembly")
    write_world(WorldConfig(), root / "world", num_train=24, num_validation=8, num_compositional=2, workers=1)
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(60)]
    train_tokenizer([text for scene in scenes for text in captions(scene)], root / "text.spm", vocab_size=100)
    return root


def run_of(folder: Path, task: TaskConfig) -> RunConfig:
    data = FolderData(root=folder / "world")
    return RunConfig(name="test", task=task, data=data, text_tokenizer=str(folder / "text.spm"))


TASKS = {
    "vqa/accuracy": VqaTask(model=MODEL, min_answer_count=2, batch_size=4, augment=EVERY_CHANGE),
    "retrieval/rejected_colour_swaps": RetrievalTask(model=MODEL, batch_size=4, augment=EVERY_CHANGE),
    "caption/cider": CaptioningTask(
        model=MODEL, batch_size=4, num_beams=2, max_text_tokens=12, augment=EVERY_CHANGE
    ),
    "nlvr2/consistency": Nlvr2Task(model=MODEL, batch_size=4, augment=EVERY_CHANGE),
    "classification/top_5_accuracy": ImageClassificationTask(model=MODEL, batch_size=4),
    "classification/top_1_accuracy": ClassNamesTask(model=MODEL, batch_size=4, max_names=6),
}


@pytest.mark.parametrize(("score", "task"), TASKS.items(), ids=lambda value: getattr(value, "kind", ""))
def test_a_batch_trains_and_the_validation_split_is_scored(
    folder: Path, tmp_path: Path, score: str, task: TaskConfig
) -> None:
    torch.manual_seed(0)
    assembly = assemble(run_of(folder, task), RunFolder(tmp_path), Shares())
    loaded = assembly.plan.batch(0)
    out = assembly.task.training_step(loaded.batch)
    out.loss.backward()
    assert out.loss.isfinite() and not loaded.skipped
    scores = evaluate(assembly.task, assembly.evaluation(Shares()), torch.device("cpu"))
    scores |= assembly.finish() if assembly.finish is not None else {}
    assert 0 <= scores[score] and scores[score] == scores[score]


def test_a_batch_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    for task in TASKS.values():
        plan = assemble(run_of(folder, task), RunFolder(tmp_path), Shares()).plan
        first, again = plan.batch(1).batch, plan.batch(1).batch
        pictures = "left" if task.kind == "nlvr2" else "images"
        torch.testing.assert_close(getattr(first, pictures), getattr(again, pictures), rtol=0, atol=0)


def test_mixed_pictures_have_shares_of_two_classes(folder: Path, tmp_path: Path) -> None:
    task = TASKS["classification/top_5_accuracy"]
    batch = assemble(run_of(folder, task), RunFolder(tmp_path), Shares()).plan.batch(0).batch
    assert batch.soft_labels is not None
    torch.testing.assert_close(batch.soft_labels.sum(dim=1), torch.ones(4))
    floor = 0.1 / batch.soft_labels.shape[1]
    assert ((batch.soft_labels > floor + 1e-6).sum(dim=1) <= 2).all()


def test_epochs_count_whole_batches(folder: Path, tmp_path: Path) -> None:
    config = replace(
        run_of(folder, RetrievalTask(model=MODEL, batch_size=50)),
        train=TrainConfig(num_epochs=3),
        schedule=ScheduleConfig(warmup_epochs=0.5),
    )
    # 24 scenes with five captions each: two whole batches of 50.
    steps = in_steps(config, assemble(config, RunFolder(tmp_path), Shares()))
    assert (steps.train.num_steps, steps.schedule.warmup_steps) == (6, 1)
    large = replace(config, task=RetrievalTask(model=MODEL, batch_size=1000))
    with pytest.raises(ConfigError, match="only 120 training samples"):
        in_steps(large, assemble(large, RunFolder(tmp_path), Shares()))


def test_chunks_of_both_contrastive_tasks_reach_the_loss(folder: Path, tmp_path: Path) -> None:
    for task in (
        RetrievalTask(model=MODEL, batch_size=4, chunk_size=2),
        ContrastiveTask(model=MODEL, batch_size=4, chunk_size=2),
    ):
        assembly = assemble(run_of(folder, task), RunFolder(tmp_path), Shares())
        assert getattr(assembly.task, "chunk_size", None) == 2


def test_only_what_is_scored_is_read_where_nothing_is_trained(folder: Path, tmp_path: Path) -> None:
    """Scores of the compositional split, with the scene graphs of that split."""
    for name, task in TASKS.items():
        splits = Splits(train=False, scored="test")
        assembly = assemble(run_of(folder, task), RunFolder(tmp_path), Shares(), splits)
        assert assembly.plan is None and not assembly.unscored
        scores = evaluate(assembly.task, assembly.evaluation(Shares()), torch.device("cpu"))
        scores |= assembly.finish() if assembly.finish is not None else {}
        assert 0 <= scores[name], name


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (
        lambda: CaptioningTask(num_beams=0),
        lambda: CaptioningTask(mask_share=7),
        lambda: VqaTask(max_text_tokens=2),
        lambda: FolderData(num_validation=-3),
        lambda: MaskedDataModelingTask(clean_share=1.5),
        lambda: ImageClassificationTask(cutmix=0),
    ):
        with pytest.raises(ValueError, match=r"must (be|lie)"):
            wrong()


def test_few_names_are_told_and_many_are_counted_by_their_parts() -> None:
    assert in_short([]) == "nothing"
    assert in_short(["head.weight", "head.bias"]) == "head.weight, head.bias"
    many = [f"neck.layers.{i}.weight" for i in range(7)] + ["head.classifier.weight", "head.classifier.bias"]
    assert in_short(many) == "neck.layers (7), head.classifier (2)"
