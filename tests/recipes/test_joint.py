"""A joint run from its settings to its answers, and which batch is whose."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from imglish import Predictor
from imglish.config.core import from_yaml, to_yaml
from imglish.data.loader import Loaded
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import load_run
from imglish.recipes.assemble import train_recipe
from imglish.recipes.assembly.joint import TurnsPlan
from imglish.recipes.config import JointTask, RunConfig
from imglish.recipes.scoring import evaluate_recipe
from imglish.recipes.world_heads import world_heads
from imglish.structures.batch import Batch


class Numbered:
    """Batches that are their own numbers."""

    def batch(self, micro_step: int) -> Loaded[Batch]:
        number: object = micro_step
        return Loaded(number, ())  # type: ignore[arg-type]


@pytest.mark.parametrize("micro_steps", [1, 2])
def test_tasks_take_turns_and_each_reads_its_batches_in_order(micro_steps: int) -> None:
    turns = {"a": 3, "b": 1, "c": 2}
    plan = TurnsPlan(plans=dict.fromkeys(turns, Numbered()), turns=turns, grad_accumulation=micro_steps)
    found = [plan.batch(number).batch for number in range(6 * 5 * micro_steps)]
    for name, count in turns.items():
        assert [one.batch for one in found if one.part == name] == list(range(5 * count * micro_steps))
    for first in range(0, len(found), micro_steps):  # micro steps of an update are of one task
        assert len({one.part for one in found[first : first + micro_steps]}) == 1
    updates = [one.part for one in found[::micro_steps]]
    for first in range(0, len(updates), 6):
        assert Counter(updates[first : first + 6]) == turns
    assert (
        len({updates[first] for first in range(0, len(updates), 6)}) > 1
    )  # what is logged every so many steps


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("joint") / "world"
    write_world(WorldConfig(), root, num_train=24, num_validation=4)
    return root


def short(world: Path, num_steps: int = 13) -> RunConfig:
    """A round of the World model's heads, with small batches and the least classes of answers."""
    config = world_heads(world=world, num_steps=num_steps)
    task = config.task
    assert isinstance(task, JointTask)
    parts = {name: replace(part, batch_size=2) for name, part in task.parts.items()}
    train = replace(config.train, num_steps=num_steps, log_every=1, save_every=0, device="cpu")
    data = replace(config.data, num_validation=2)
    return replace(config, task=replace(task, **parts), train=train, data=data)


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("runs") / "heads"
    return folder, train_recipe(short(world), folder)


def test_a_joint_run_is_trained_scored_and_used(world: Path, run: tuple[Path, dict[str, float]]) -> None:
    folder, scores = run
    assert {"vqa/accuracy", "caption/cider", "retrieval/average", "classification/top_1_accuracy",
            "semantic/mean_iou", "box/ap", "mask/ap"} <= scores.keys()  # fmt: skip
    assert evaluate_recipe(short(world), folder) == scores
    picture = world / "images" / "validation" / "00000000.png"
    predictor = Predictor(folder)
    assert predictor.abilities() == Predictor("world").abilities()
    assert isinstance(predictor.caption(picture), str) and len(predictor.answer(picture, "how many?")) == 3
    assert predictor.segment(picture).classes.shape == (64, 64)
    assert from_yaml(RunConfig, to_yaml(short(world)), "there and back") == short(world)


def test_a_run_goes_on_from_another_joint_run(
    world: Path, run: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    config = replace(short(world, num_steps=1), init=str(run[0]))
    train_recipe(replace(config, optimizer=replace(config.optimizer, lr=1e-9)), tmp_path / "next")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "next", run[0]))
    for name, tensor in theirs.items():
        if "running" not in name and "batches" not in name:  # statistics move with any step
            torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_a_damaged_joint_run_is_refused_in_a_line(run: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "config.yaml").write_text((run[0] / "config.yaml").read_text())
    weights = load_file(run[0] / "model.safetensors")
    save_file(
        {n: w for n, w in weights.items() if n != "parts.vqa.head.output.bias"}, folder / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match="answers.txt: no such file"):
        load_run(folder)
    for listed in run[0].glob("*/*.txt"):
        (folder / listed.parent.name).mkdir(exist_ok=True)
        (folder / listed.parent.name / listed.name).write_text(listed.read_text())
    with pytest.raises(CheckpointError, match=r"parts\.vqa\.head\.output\.bias"):
        load_run(folder)


def test_tasks_that_would_encode_a_picture_by_themselves_are_refused(world: Path, tmp_path: Path) -> None:
    config = short(world)
    task = config.task
    assert isinstance(task, JointTask) and task.vqa is not None and task.segmentation is not None
    assert task.image_classification is not None and task.detection is not None and task.retrieval is not None
    adapter = replace(task.segmentation.adapter, components="all")
    wrong = {
        "vqa.picture_alone must be true": replace(task, vqa=replace(task.vqa, picture_alone=False)),
        "segmentation.the ViT must stay": replace(
            task, segmentation=replace(task.segmentation, adapter=adapter)
        ),
        "image_classification.pictures must be model": replace(
            task, image_classification=replace(task.image_classification, pictures="imagenet")
        ),
        "retrieval.model differs": replace(
            task, retrieval=replace(task.retrieval, model=replace(task.model, width=64))
        ),
    }
    for words, changed in wrong.items():
        with pytest.raises(ConfigError, match=words):
            train_recipe(replace(config, task=changed), tmp_path / "run")
    with pytest.raises(ValueError, match="at least two tasks"):
        JointTask(model=task.model, vqa=task.vqa)
    with pytest.raises(ValueError, match="turns names nlvr2"):
        replace(task, turns={"nlvr2": 2})
