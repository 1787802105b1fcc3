"""``imglish predict`` asks finished runs about pictures from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.cli.main import main
from imglish.data.world.annotate import CLASSES
from imglish.data.world.files import read_world
from imglish.data.world.language import captions
from imglish.data.world.questions import questions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from imglish.inference.predictor import Predictor
from imglish.text.training import train_tokenizer
from tests.architecture.source_tree import ROOT
from tests.architecture.test_documents import blocks
from tests.inference.tiny_weights import write_files
from tests.recipes.tiny_runs import LOOP, error_line, segmenting

NUM_TRAIN = 12
RUNS = {  # as the demo calls them
    "vqa": ["vqa_demo", "--task.min-answer-count", "2"],
    "retrieval": ["retrieval_demo"],
    "captioning": ["captioning_demo", "--task.max-text-tokens", "8"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "world"
    write_world(WorldConfig(), root, num_train=NUM_TRAIN, num_validation=4)
    return root


@pytest.fixture(scope="module")
def runs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four tiny runs, as the demo leaves them."""
    folder = tmp_path_factory.mktemp("runs")
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(40)]
    texts = [text for scene in scenes for text in captions(scene)]
    texts += [question.text for scene in scenes for question in questions(scene)]
    train_tokenizer(texts, folder / "text.spm", vocab_size=100)
    reading = ["--text-tokenizer", str(folder / "text.spm"), "--task.model.vocab-size", "128"]
    short = ["--train.num-steps", "1", "--data.num-validation", "4"]
    for name, recipe in RUNS.items():
        data = ["--data.root", str(world), "--out", str(folder / name)]
        assert main(["train", recipe[0], *LOOP, *recipe[1:], *reading, *data, *short]) == 0
    assert main([*segmenting(world, folder / "segmentation"), *short]) == 0
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official-layout files of every use."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def pictures(world: Path) -> list[str]:
    return [str(path) for path in sorted(read_world(world).images("validation").iterdir())]


def predict(source: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    option = "--run" if source.is_dir() else "--weights"
    assert main(["predict", option, str(source), *arguments]) == 0
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


def test_classes_come_from_a_classifier_or_from_names(
    files: Path, runs: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = predict(files / "image_classification.pth", capsys, *pictures[:2], "--classify")
    expected = Predictor(files / "image_classification.pth").classify(pictures[:2], num_classes=3)
    told = [", ".join(f"{label.name} ({label.probability:.0%})" for label in row) for row in expected]
    assert lines == [f"{picture}: {row}" for picture, row in zip(pictures[:2], told, strict=True)]
    asked = ["--classify", "--classes", "red star, fish,green tree", "--num-best", "2", "--json"]
    found = json.loads("".join(predict(runs, capsys, pictures[0], *asked)))
    labels = Predictor(runs).classify(pictures[0], ["red star", "fish", "green tree"], 2)
    assert [entry["name"] for entry in found["pictures"][0]["classes"]] == [label.name for label in labels]


def test_pictures_are_compared_with_texts_and_judged(
    files: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["a red star", "a fish"]
    lines = predict(files / "retrieval.pth", capsys, *pictures[:2], "--match", *texts)
    cosines = Predictor(files / "retrieval.pth").match(pictures[:2], texts)
    assert lines == [
        f"{picture}: a red star ({row[0]:.3f}), a fish ({row[1]:.3f})"
        for picture, row in zip(pictures[:2], cosines, strict=True)
    ]
    (line,) = predict(files / "nlvr2.pth", capsys, *pictures[:2], "--judge", "both are red")
    probability = Predictor(files / "nlvr2.pth").judge(pictures[0], pictures[1], "both are red")
    assert line == f"{probability:.1%} true: both are red"


def test_everything_can_be_read_by_a_machine(
    runs: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "st\N{LATIN SMALL LETTER A WITH DIAERESIS}r.png"
    Image.open(pictures[0]).save(picture)
    asked = ["--caption", "--question", "what?", "--search", "a star", "--match", "a", "b"]
    many = [str(picture), *pictures * 3]  # more than are opened at once
    found = json.loads("".join(predict(runs, capsys, *many, *asked, "--json", "--num-best", "2")))
    segmented = ["--segment", str(tmp_path / "maps"), "--json"]
    shares = json.loads("".join(predict(runs, capsys, str(picture), *segmented)))
    assert [entry["picture"] for entry in found["pictures"]] == many
    first, same = found["pictures"][:2]
    assert isinstance(first["caption"], str) and first["caption"] == same["caption"]
    assert [set(answer) for answer in first["answers"]] == [{"text", "probability"}] * 2
    assert [entry["text"] for entry in first["matches"]] == ["a", "b"]
    assert len(found["search"]) == 2 and found["search"][0]["picture"] in many
    entry = shares["pictures"][0]["segmentation"]
    assert Path(entry["file"]).is_file() and sum(entry["shares"].values()) == pytest.approx(1)


def test_weights_that_cannot_do_it_name_some_that_can(
    files: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--weights", str(files / "vqa.pth"), pictures[0], "--caption"]) == 1
    error = error_line(capsys.readouterr().err)
    assert "holds weights of vqa; this needs one of captioning" in error
    assert main(["predict", "--weights", "beit3_base_patch16_480_vqq", pictures[0], "--caption"]) == 1
    assert "did you mean 'beit3_base_patch16_480_vqa'?" in capsys.readouterr().err
    command = ["predict", "--weights", str(files / "vqa.pth"), pictures[0], "--question", "what?"]
    assert main([*command, "--search", "a star"]) == 1
    shown = capsys.readouterr()
    assert "this needs one of retrieval" in error_line(shown.err) and not shown.out  # before anything is said


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
    for folder in (world, *(runs / name for name in [*RUNS, "segmentation"])):
        (demo / folder.name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in blocks(ROOT / "README.md", "python") if "runs/demo" in code]
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["names"] == CLASSES
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--caption"], "name at least one picture"),
        (["x/a.png", "y/a.png", "--segment", "out"], "two pictures have the same name"),
        (["a.png", "--caption", "--num-best", "0"], "num_best must be at least 1; got 0"),
        (["a.png", "--captoin"], "--caption"),
        (["a.png", "--caption", "--run", "a", "--weights", "b"], "give --run or --weights, not both"),
        (["a.png", "--classes", "a,b"], "--classes goes with --classify"),
        (["a.png", "--classify", "--classes", "a,,b"], "has an empty name; expected names such as cat,dog"),
        (["a.png", "--judge", "both are red"], "about two pictures, left and right; got 1"),
    ],
)
def test_a_wrong_command_says_what_is_missing(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_asked_for_nothing_the_model_in_the_package_says_what_it_can(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where no demo was run
    picture = world / "images" / "validation" / "00000000.png"
    assert main(["predict", str(picture), "--draw", str(tmp_path / "drawn"), "--json"]) == 0
    shown = capsys.readouterr()
    (told,) = json.loads(shown.out)["pictures"]
    assert told.keys() == {"picture", "caption", "classes", "objects"} and told["objects"]
    assert "knows nothing else" in shown.err
    assert (tmp_path / "drawn" / "00000000_drawn_objects.png").is_file()


def test_a_run_that_says_nothing_by_itself_tells_what_to_ask(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--run", str(runs / "vqa"), "a.png"]) == 1
    assert (
        "says nothing of a picture by itself; ask what its weights were trained for"
        in capsys.readouterr().err
    )


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
