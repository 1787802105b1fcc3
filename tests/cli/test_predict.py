"""``imglish predict`` asks finished runs about pictures from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.cli.main import main
from imglish.data.world.annotate import CLASSES
from imglish.data.world.files import read_world
from imglish.data.world.questions import questions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from tests.architecture.source_tree import ROOT
from tests.architecture.test_documents import blocks

NUM_TRAIN = 60  # enough that some answers come up often enough to be classes
TASKS = {
    "vqa": "vqa_demo",
    "retrieval": "retrieval_demo",
    "captioning": "captioning_demo",
    "segmentation": "semantic_segmentation_demo",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "world"
    write_world(WorldConfig(), root, num_train=NUM_TRAIN, num_validation=4)
    return root


@pytest.fixture(scope="module")
def runs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four runs of one step each, as the demo leaves them."""
    folder = tmp_path_factory.mktemp("runs")
    common = (
        "--train.num-steps 1 --train.no-tensorboard --schedule.warmup-steps 0 --task.batch-size 4".split()
    )
    data = ["--data.root", str(world), "--data.num-validation", "4"]
    for name, recipe in TASKS.items():
        assert main(["train", recipe, *common, *data, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture(scope="module")
def pictures(world: Path) -> list[str]:
    return [str(path) for path in sorted(read_world(world).images("validation").iterdir())]


def predict(runs: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["predict", "--run", str(runs), *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_every_picture_gets_a_caption(
    runs: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = predict(runs, capsys, *pictures[:2], "--caption")
    assert [line.partition(": ")[0] for line in lines] == pictures[:2]


def test_answers_are_of_the_vocabulary_and_best_first(
    runs: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = predict(runs, capsys, pictures[0], "--question", "what colour is the star?", "--num-best", "3")
    answers = [part.rpartition(" (") for part in line.partition(": ")[2].split(", ")]
    asked = (
        question
        for index in range(NUM_TRAIN)
        for question in questions(draw_scene(WorldConfig(), "train", index))
    )
    assert {answer for answer, _, _ in answers} <= {question.answer for question in asked}
    probabilities = [int(probability.removesuffix("%)")) for _, _, probability in answers]
    assert len(answers) == 3 and probabilities == sorted(probabilities, reverse=True)


def test_a_search_ranks_the_pictures(
    runs: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        line.split("  ")
        for line in predict(runs, capsys, *pictures, "--search", "a red star", "--num-best", "9")
    ]
    assert sorted(name for _, name in lines) == pictures
    similarities = [float(similarity) for similarity, _ in lines]
    assert similarities == sorted(similarities, reverse=True)


def test_class_maps_have_the_size_of_the_picture_and_leave_it_alone(
    runs: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "wide.png"
    Image.open(pictures[0]).resize((90, 50)).save(picture)
    before = picture.read_bytes()
    (line,) = predict(runs, capsys, str(picture), "--segment", str(tmp_path))
    classes = np.asarray(Image.open(tmp_path / "wide_classes.png"))
    assert classes.shape == (50, 90) and classes.max() < len(CLASSES)
    assert f"{CLASSES[np.bincount(classes.ravel()).argmax()]} " in line
    assert picture.read_bytes() == before


def test_the_example_of_the_readme_runs(
    runs: Path,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    demo = tmp_path / "runs" / "demo"
    demo.mkdir(parents=True)
    for folder in (world, *(runs / name for name in TASKS)):
        (demo / folder.name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "README.md", "python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["names"] == CLASSES
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png"], "say what to do"),
        (["--caption"], "name at least one picture"),
        (["x/a.png", "y/a.png", "--segment", "out"], "two pictures have the same name"),
        (["a.png", "--caption", "--num-best", "0"], "num_best must be at least 1; got 0"),
        (["a.png", "--captoin"], "--caption"),
    ],
)
def test_a_wrong_command_says_what_is_missing(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_missing_or_damaged_picture_is_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG not really")
    for path in (tmp_path / "missing.png", damaged):
        assert main(["predict", "--run", str(runs), str(path), "--caption"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"imglish: error: {path}: ") and error.count("\n") == 1


def test_a_folder_without_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--run", str(tmp_path), "a.png", "--caption"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"imglish: error: {tmp_path} holds no finished run") and error.count("\n") == 1
