"""Damaged data sets stop a run with one line; damaged samples are left out, counted and listed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from imglish.cli.main import main
from imglish.data.shards import ShardSet, write_shard
from imglish.data.world.files import WorldFiles, read_world
from tests.recipes.tiny_runs import asking, contents, error_line, make_runs, pairing, segmenting

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


def skipped(run: Path) -> list[str]:
    """The lines about left-out samples; as many as the log counts."""
    lines = (run / "skipped.log").read_text(encoding="utf-8").splitlines()
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["num_skipped"] == len(lines)
    return lines


# Data sets


def cut(path: Path) -> None:
    """Leave a third of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def without_questions(path: Path) -> None:
    """Leave a questions file without questions."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"questions": []}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda world: cut(world.questions("train")), "questions_train.json: not valid json at line"),
        (lambda world: cut(world.annotations("validation")), "annotations_validation.json: not valid json"),
        (lambda world: cut(world.settings), "world.json: not valid json"),
        (lambda world: world.questions("train").unlink(), "questions_train.json: is missing from the World"),
        (lambda world: world.settings.unlink(), "holds no World (no world.json); write one with"),
        (
            lambda world: without_questions(world.questions("train")),
            "the file has no questions; expected VQA",
        ),
        (
            lambda world: (world.images("train") / "00000003.png").unlink(),
            "about picture '00000003.png', which",
        ),
    ],
)
def test_damaged_annotations_stop_a_run_before_it_starts(
    root: Path,
    world: WorldFiles,
    tmp_path: Path,
    fails: Fails,
    damage: Callable[[WorldFiles], None],
    message: str,
) -> None:
    damage(world)
    assert message in fails(*asking(root, world.root, tmp_path / "out"))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_masks_without_pictures_and_pictures_without_masks_are_named(
    world: WorldFiles, tmp_path: Path, fails: Fails
) -> None:
    first = sorted(world.masks("train").iterdir())[0]
    first.unlink()
    picture = world.mask_images("train") / first.name
    message = fails(*segmenting(world.root, tmp_path / "1"))
    assert message.startswith(f"{picture}: has no mask; expected {first}")
    for path in (*world.masks("train").iterdir(), *world.mask_images("train").iterdir()):
        path.unlink()
    message = fails(*segmenting(world.root, tmp_path / "2"))
    assert message.startswith(f"{world.mask_images('train')}: has no pictures in it")


def test_zero_shards_are_said_to_be_missing(
    root: Path, world: WorldFiles, tmp_path: Path, fails: Fails
) -> None:
    for path in world.shards("pairs", "train"):
        path.unlink()
    message = fails(*pairing(root, world.root, tmp_path / "out"))
    assert message.startswith(f"{world.root}/shards has no pairs-train-*.tar; write the World with")


# Bad samples in training


def test_bad_pictures_and_unknown_answers_are_left_out_counted_and_listed(
    root: Path, world: WorldFiles, tmp_path: Path
) -> None:
    first, second = sorted(world.images("train").iterdir())[:2]
    first.write_bytes(b"a text in place of a picture")
    second.write_bytes(second.read_bytes()[:200])
    out = tmp_path / "out"
    assert main(asking(root, world.root, out, "--train.num-steps", "12", "--task.batch-size", "16")) == 0
    lines = skipped(out)
    assert all(line.startswith("step ") for line in lines)
    for message in (
        f"{first}: is no picture",
        f"{second}: does not decode",
        "is in the vocabulary of",
    ):
        assert any(message in line for line in lines), message
    assert (out / "model.safetensors").is_file() and (out / "scores.json").is_file()


def test_masks_that_do_not_fit_are_left_out_counted_and_listed(world: WorldFiles, tmp_path: Path) -> None:
    masks = sorted(world.masks("train").iterdir())
    Image.new("L", (32, 64), 1).save(masks[0])
    Image.new("L", (64, 64), 200).save(masks[1])
    Image.new("RGB", (64, 64), "red").save(masks[2])
    Image.new("L", (32, 32), 1).save(masks[3])
    small = world.mask_images("train") / masks[3].name
    Image.new("RGB", (32, 32)).save(small)
    out = tmp_path / "out"
    assert main(segmenting(world.root, out, "--train.num-steps", "6")) == 0
    lines = skipped(out)
    for message in (
        f"{masks[0]}: is 64 high and 32 wide, but its picture is 64 high and 64 wide",
        f"{masks[1]}: has the value 200; expected 1 to ",
        f"{masks[2]}: has channels R+G+B; expected one channel",
        f"{small}: is 32 high and 32 wide; expected 64 high and 64 wide",
    ):
        assert any(message in line for line in lines), message


def test_bad_shard_samples_are_left_out_counted_and_listed(
    root: Path, world: WorldFiles, tmp_path: Path
) -> None:
    (shard,) = world.shards("pairs", "train")
    whole = ShardSet([shard])
    samples = []
    for index in range(len(whole)):
        sample = {name: data for name, data in whole[index].items() if isinstance(data, bytes)}
        if index == 0:
            sample["txt"] = b"caf\xe9"
        elif index == 1:
            sample["png"] = b"no picture"
        elif index == 2:
            del sample["txt"]
        samples.append((f"{index:08d}", sample))
    write_shard(shard, samples)
    out = tmp_path / "out"
    assert main(pairing(root, world.root, out, "--train.num-steps", "4")) == 0
    lines = skipped(out)
    for message in (
        "00000000.txt: not UTF-8",
        "00000001.png: is no picture",
        "00000002: the sample has no text",
    ):
        assert any(f"{shard}: {message}" in line for line in lines), message


def test_damaged_validation_pictures_are_left_out_of_the_scores_and_counted(
    root: Path, world: WorldFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = sorted(world.images("validation").iterdir())[0]
    first.write_bytes(b"")
    out = tmp_path / "out"
    assert main(asking(root, world.root, out)) == 0
    shown = capsys.readouterr()
    asked = json.loads(world.questions("validation").read_text())["questions"]
    number = sum(question["image_id"] == int(first.stem) for question in asked)
    left_out = f"{number} of {len(asked)} samples are left out of the scores; the first: {first}: is empty"
    assert left_out in shown.err
    assert json.loads((out / "scores.json").read_text())["num_skipped"] == number


def test_damaged_data_does_not_cost_the_run_what_it_has(
    root: Path, world: WorldFiles, run: Path, fails: Fails
) -> None:
    before = contents(run)
    for path in world.images("validation").iterdir():
        path.write_bytes(b"")
    message = fails("evaluate", run, "--data.root", world.root)
    assert message.startswith("all ") and "samples to score are damaged; the first: " in message
    cut(world.questions("train"))
    resumed = asking(root, world.root, run, "--resume", "--data.root", str(world.root))
    assert "data.root" in fails(*resumed)
    assert contents(run) == before
