"""Whatever a user gets wrong ends in one clear line and an exit code, and nothing already written is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.cli.main import main
from imglish.data.world.files import WorldFiles, read_world
from imglish.inference.predictor import Predictor
from tests.recipes.tiny_runs import PREFIX, asking, contents, error_line, make_runs

Fails = Callable[..., str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small World, a text tokenizer, a finished run of questions and one of segmentation."""
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def world(root: Path, tmp_path: Path) -> WorldFiles:
    """A copy of the World to damage."""
    shutil.copytree(root / "world", tmp_path / "world")
    return read_world(tmp_path / "world")


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    """A copy of the finished run of questions to damage."""
    return Path(shutil.copytree(root / "runs" / "vqa", tmp_path / "run"))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a command that must end in one line, and returns it."""

    def command(*arguments: str | Path, code: int = 1) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code
        return error_line(capsys.readouterr().err)

    return command


# Pictures


def odd_pictures(folder: Path) -> list[Path]:
    """Good pictures of unusual kinds."""
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40))
    pictures = {
        "pixel.png": Image.new("RGB", (1, 1), (9, 9, 9)),
        "line.png": Image.new("RGB", (200, 1), (9, 9, 9)),
        "grey.png": Image.new("L", (40, 30), 99),
        "clear.png": Image.new("RGBA", (40, 30), (200, 0, 0, 100)),
        "print.jpg": Image.new("CMYK", (40, 30), (0, 200, 0, 0)),
        "palette.gif": Image.new("P", (40, 30)),
        "deep.png": deep,
        "turned.jpg": Image.new("RGB", (40, 20), (0, 90, 0)),
    }
    for name, picture in pictures.items():
        picture.save(folder / name, exif=exif if name == "turned.jpg" else b"")
    return [folder / name for name in pictures]


def test_odd_pictures_are_answered_and_segmented_at_their_upright_size(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = odd_pictures(tmp_path)
    asked = ["--question", "what is red?", "--segment", str(tmp_path / "maps")]
    assert main(["predict", "--run", str(root / "runs"), *map(str, pictures), *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(pictures)
    sizes = {path.stem: Image.open(tmp_path / "maps" / f"{path.stem}_classes.png").size for path in pictures}
    assert sizes.pop("turned") == (20, 40)
    assert sizes.pop("pixel") == (1, 1) and sizes.pop("line") == (200, 1)
    assert set(sizes.values()) == {(40, 30)}


def test_a_turned_or_deep_picture_is_answered_as_the_same_one_upright_and_of_eight_bits(
    root: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    upright = Image.fromarray(rng.integers(0, 255, (30, 50, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    grey = rng.integers(0, 255, (30, 50), dtype=np.uint8)
    Image.fromarray(grey.astype(np.uint16) << 8).save(tmp_path / "deep.png")
    predictor = Predictor(root / "runs" / "vqa")
    for name, plain in (("turned.png", upright), ("deep.png", Image.fromarray(grey))):
        expected = predictor.answer(plain, "what is red?")
        assert predictor.answer(tmp_path / name, "what is red?") == expected
        assert predictor.answer(Image.open(tmp_path / name), "what is red?") == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text.png", b"hello, I am a text\n", "is no picture that can be decoded; expected PNG, JPEG"),
        ("empty.png", b"", "is empty; expected a picture: get it again"),
        ("missing.png", None, "no such file; expected a picture: check the path"),
        (".", None, "does not decode (Is a directory); expected a picture"),
    ],
)
@pytest.mark.parametrize("question", [["--question", "what is red?"], ["--segment", "maps"]])
def test_what_is_no_picture_is_one_line(
    root: Path,
    tmp_path: Path,
    fails: Fails,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes | None,
    message: str,
    question: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if data is not None:
        (tmp_path / name).write_bytes(data)
    error = fails("predict", "--run", root / "runs", name, *question)
    assert error.startswith(f"{name}: ") and message in error
    assert not (tmp_path / "maps").exists()


def test_a_picture_that_is_cut_short_keeps_what_was_said_about_the_ones_before(
    root: Path, world: WorldFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    good, cut = sorted(world.images("validation").iterdir())[:2]
    cut.write_bytes(cut.read_bytes()[:300])
    assert main(["predict", "--run", str(root / "runs"), str(good), str(cut), "--question", "what?"]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{good}: ") and shown.out.count("\n") == 1
    assert shown.err == (
        f"{PREFIX}{cut}: does not decode (image file is truncated); expected a picture: get it again\n"
    )


def test_class_maps_do_not_go_into_a_file(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert main(["predict", "--run", str(root / "runs"), "a.png", "--segment", str(notes)]) == 2
    assert "--segment expects a folder" in " ".join(capsys.readouterr().err.split())
    assert notes.read_text() == "mine"


# Runs


def test_a_run_that_is_not_there_or_of_another_task_is_one_line(
    root: Path, tmp_path: Path, fails: Fails
) -> None:
    picture = odd_pictures(tmp_path)[0]
    ask = [picture, "--question", "what?"]
    assert "no such folder; expected a finished run" in fails("predict", "--run", tmp_path / "no", *ask)
    assert "no such folder; expected a finished run" in fails("predict", "--run", picture, *ask)
    assert "holds no finished run" in fails("predict", "--run", tmp_path, *ask)
    message = fails("predict", "--run", root / "runs" / "segmentation", *ask)
    assert "is a run of semantic_segmentation; this needs one of vqa" in message
    assert "is no run folder: it has no config.yaml" in fails("evaluate", tmp_path)
    message = fails("evaluate", picture, code=2)
    assert message.startswith(f"there is no folder and no recipe '{picture}'")


def test_an_unfinished_run_is_refused_everywhere(root: Path, run: Path, tmp_path: Path, fails: Fails) -> None:
    (run / "model.safetensors").unlink()
    picture = odd_pictures(tmp_path)[0]
    message = fails("predict", "--run", run, picture, "--question", "what?")
    assert message.startswith(f"{run} holds no finished run (config.yaml, model.safetensors)")
    unfinished = f"{run} has no model.safetensors: the run is not finished; go on with --resume"
    assert fails("evaluate", run) == unfinished
    start = ["--init", str(run), "--text-tokenizer", ""]
    assert fails(*asking(root, root / "world", tmp_path / "new", *start)) == unfinished


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_weights_that_are_cut_short_are_refused_and_left_alone(
    run: Path, tmp_path: Path, fails: Fails, share: float
) -> None:
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(share * weights.stat().st_size)])
    before = contents(run)
    message = fails("predict", "--run", run, odd_pictures(tmp_path)[0], "--question", "what?")
    assert message.startswith(f"{weights} is damaged (")
    assert fails("evaluate", run).startswith(f"{weights}: missing or damaged safetensors file")
    assert contents(run) == before


def test_weights_of_another_architecture_are_refused(
    root: Path, run: Path, tmp_path: Path, fails: Fails
) -> None:
    message = fails("evaluate", run, "--task.model.feed-forward-width", "16")
    assert "belongs to another architecture" in message and "instead of" in message
    shutil.copy(root / "runs" / "segmentation" / "model.safetensors", run)
    assert "another architecture" in fails("evaluate", run)
    message = fails("predict", "--run", run, odd_pictures(tmp_path)[0], "--question", "what?")
    assert "another architecture: missing" in message


def test_weights_to_start_from_must_fit(root: Path, tmp_path: Path, fails: Fails) -> None:
    vqa = str(root / "runs" / "vqa")
    wider = asking(root, root / "world", tmp_path / "wider", "--init", vqa, "--task.model.width", "16")
    assert "belongs to another architecture: vision_embedding" in fails(*wider)
    start = asking(root, root / "world", tmp_path / "nowhere", "--init", "wrold", "--text-tokenizer", "")
    assert "'wrold': no such folder" in (message := fails(*start)) and "did you mean 'world'?" in message
    segmenter = ["--init", str(root / "runs" / "segmentation"), "--text-tokenizer", ""]
    message = fails(*asking(root, root / "world", tmp_path / "textless", *segmenter))
    assert "segmentation has no text.spm: it is no run that reads text" in message


def test_a_missing_or_damaged_text_tokenizer_is_one_line(
    root: Path, run: Path, tmp_path: Path, fails: Fails
) -> None:
    picture = odd_pictures(tmp_path)[0]
    (run / "text.spm").write_bytes(b"\x0a\x0egarbage" * 30)
    message = f"{run / 'text.spm'}: not a SentencePiece model, or damaged; get the .spm anew"
    assert fails("predict", "--run", run, picture, "--question", "what?") == message
    assert fails("evaluate", run) == message
    (run / "text.spm").unlink()
    missing = fails("predict", "--run", run, picture, "--question", "what?")
    assert missing.startswith(f"{run} has no text.spm, the text tokenizer it was trained with: put it back")
    for number, (name, data, expected) in enumerate(
        [
            ("no.spm", None, "no such file; expected a SentencePiece model"),
            ("empty.spm", b"", "empty file; expected a SentencePiece model"),
            ("bad.spm", b"\xff" * 99, "not a SentencePiece model, or damaged"),
        ]
    ):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        command = asking(root, root / "world", tmp_path / str(number), "--text-tokenizer", str(path))
        assert fails(*command).startswith(f"{path}: {expected}")


# Settings


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "No such file or directory; expected a YAML file with settings: check what --config names"),
        (b"train: {num_stps: 3}", "train.num_stps is not a setting; did you mean train.num_steps?"),
        (b"lr: 3", "lr is not a setting; did you mean optimizer.lr?"),
        (b"train: {num_steps: soon}", "train.num_steps is 'soon'; expected an integer"),
        (b"train: {num_steps: 0}", "train: num_steps must be at least 1; got 0"),
        (b"train: {num_steps: [", "not readable as YAML"),
        (b"- a\n- b\n", "expected a mapping"),
        (b"name: \xff\xfe", "not UTF-8 text: invalid start byte; expected a YAML file with settings"),
        (b"task: {kind: vqq}", "task.kind is 'vqq'"),
    ],
)
def test_a_wrong_file_of_settings_is_one_line_and_nothing_is_written(
    root: Path, tmp_path: Path, fails: Fails, data: bytes | None, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    if data is not None:
        path.write_bytes(data)
    error = fails(*asking(root, root / "world", tmp_path / "out", "--config", str(path)))
    assert error.startswith(f"{path}: ") and message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.rot", "world"], "--data.root PATH"),
        (["--train.num-stpes", "3"], "--train.num-steps INT"),
        (["--config"], "Missing value for argument '--config'"),
        (["--train.num-steps", "many"], "--train.num-steps"),
    ],
)
def test_wrong_options_are_refused_with_a_suggestion(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(asking(root, root / "world", tmp_path / "out", *arguments)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_batch_without_samples_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asking(root, root / "world", tmp_path / "out", "--task.batch-size", "0")) == 2
    assert "batch_size must be at least 1; got 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_is_not_written_over_a_file(root: Path, tmp_path: Path, fails: Fails) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    message = fails(*asking(root, root / "world", notes))
    assert message.startswith(f"{notes}: is or lies in a file; expected a folder for the run")
    assert notes.read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_a_full_disk_is_one_line(root: Path, tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").symlink_to("/dev/full")
    assert "no space is left on the disk" in fails(*asking(root, root / "world", tmp_path / "out"))


# A true process


def test_a_process_whose_worker_finds_only_damage_ends_in_one_line(
    root: Path, world: WorldFiles, tmp_path: Path
) -> None:
    for path in world.images("train").iterdir():
        path.write_bytes(b"no picture")
    command = asking(root, world.root, tmp_path / "out", "--train.num-workers", "1")
    done = subprocess.run(
        [sys.executable, "-m", "imglish", *command], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    error = done.stderr.strip()
    assert error.startswith(PREFIX) and "samples in a row are damaged; the last: " in error
    assert "\n" not in error
