"""Predictions in submission formats, and scoring official weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from imglish.cli.main import main
from imglish.data.world.language import captions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.models.beit3.weights import RETRIEVAL_MAP
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import CaptioningTask, Nlvr2Task, RetrievalTask, RunConfig, TaskConfig, VqaTask
from imglish.recipes.data_config import FolderData
from imglish.recipes.predictions import write_predictions
from imglish.recipes.records import captioned, questions, statements
from imglish.recipes.scoring import evaluate_weights
from imglish.text.training import train_tokenizer
from imglish.train.config import TrainConfig

# 64 features have one head in a file that does not say how many there are.
MODEL = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=128, max_text_tokens=64, width=64, depth=1, num_heads=1,
    feed_forward_width=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("predictions")
    write_world(WorldConfig(), root / "world", num_train=16, num_validation=6, num_compositional=4, workers=1)
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(60)]
    train_tokenizer([text for scene in scenes for text in captions(scene)], root / "text.spm", vocab_size=100)
    return root


def config_of(folder: Path, task: TaskConfig) -> RunConfig:
    train = TrainConfig(num_steps=1, tensorboard=False, device="cpu")
    data = FolderData(root=folder / "world")
    return RunConfig(name="test", task=task, data=data, train=train, text_tokenizer=str(folder / "text.spm"))


def predicted(folder: Path, task: TaskConfig, out: Path, split: str) -> str:
    config, done = config_of(folder, task), list[tuple[int, int]]()
    train_recipe(config, out)
    count = write_predictions(config, out, split, out / "answers.out", lambda *place: done.append(place))
    assert done[-1] == (count, count)
    return (out / "answers.out").read_text()


def test_every_question_is_answered_once(folder: Path, tmp_path: Path) -> None:
    task = VqaTask(model=MODEL, min_answer_count=2, batch_size=4)
    answers = json.loads(predicted(folder, task, tmp_path, "test"))
    asked = questions(FolderData(root=folder / "world"), "test")
    assert [answer["question_id"] for answer in answers] == [record.question_id for record in asked]
    known = {json.loads(line)["answer"] for line in (tmp_path / "answers.txt").read_text().splitlines()}
    assert {answer["answer"] for answer in answers} <= known


def test_every_picture_gets_a_caption(folder: Path, tmp_path: Path) -> None:
    task = CaptioningTask(model=MODEL, num_beams=2, max_text_tokens=8, batch_size=4)
    written = json.loads(predicted(folder, task, tmp_path, "validation"))
    records = captioned(FolderData(root=folder / "world"), "validation")
    assert [entry["image_id"] for entry in written] == [record.image_id for record in records]
    assert all(isinstance(entry["caption"], str) for entry in written)


def test_every_statement_is_judged(folder: Path, tmp_path: Path) -> None:
    lines = predicted(folder, Nlvr2Task(model=MODEL, batch_size=4), tmp_path, "validation").splitlines()
    records = statements(FolderData(root=folder / "world"), "validation")
    assert [line.rpartition(",")[0] for line in lines] == [record.identifier for record in records]
    assert {line.rpartition(",")[2] for line in lines} <= {"True", "False"}


def test_a_task_without_a_submission_format_is_refused(folder: Path, tmp_path: Path) -> None:
    task = RetrievalTask(model=MODEL, batch_size=4)
    with pytest.raises(ConfigError, match="a run of retrieval has no submission format"):
        predicted(folder, task, tmp_path, "validation")
    assert not (tmp_path / "answers.out").exists()


def test_official_weights_are_scored_on_the_data_of_a_recipe(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "official.pth"
    torch.save({"model": RETRIEVAL_MAP.to_official(Beit3ForRetrieval(MODEL).state_dict())}, weights)
    scores = evaluate_weights(config_of(folder, RetrievalTask(model=MODEL)), str(weights))
    assert 0 <= scores["retrieval/image_recall_at_1"] <= scores["retrieval/image_recall_at_10"] == 1
    command = ["evaluate", "retrieval_demo", "--weights", str(weights), "--data.root", str(folder / "world")]
    assert main([*command, "--text-tokenizer", str(folder / "text.spm")]) == 1
    assert "another architecture" in capsys.readouterr().err
