"""A finished run that is resumed gives back its scores, whatever became of the file or the checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from imglish.cli.main import main
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from tests.recipes.tiny_runs import contents, segmenting


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small World and a finished run on it, with averaged weights."""
    root = tmp_path_factory.mktemp("resume")
    write_world(WorldConfig(), root / "world", num_train=4, num_validation=3)
    assert main(command(root, root / "run")) == 0
    return root


def command(root: Path, out: Path, *more: str) -> list[str]:
    return segmenting(root / "world", out, "--train.ema-decay", "0.5", *more)


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "run", tmp_path / "run"))


def test_a_finished_run_is_left_alone(root: Path, run: Path) -> None:
    before = contents(run)
    assert main(command(root, run, "--resume")) == 0
    assert contents(run) == before


def test_more_steps_than_a_finished_run_had_are_said_to_train_nothing(
    root: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(run)
    assert main(command(root, run, "--resume", "--train.num-steps", "9")) == 0
    assert contents(run) == before
    assert f"more steps train it no further: begin a new run with --init {run}" in caplog.text


HALF = b'{"semantic/mean_iou": 0.'


@pytest.mark.parametrize(
    ("damage", "checkpoints"),
    [
        (b"", True),
        (HALF, True),
        (b"[]\n", True),
        (b'{"\xff": 1}', True),
        (None, True),
        (HALF, False),
        (None, False),
    ],
)
def test_damaged_or_lost_scores_are_made_again(
    root: Path, run: Path, damage: bytes | None, checkpoints: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    if damage is None:
        (run / "scores.json").unlink()
    else:
        (run / "scores.json").write_bytes(damage)
    if not checkpoints:
        shutil.rmtree(run / "checkpoints")
    capsys.readouterr()
    assert main(command(root, run, "--resume")) == 0
    shown = capsys.readouterr().err
    assert (f"{run}/scores.json is damaged (" in shown) == (damage is not None)
    # Nothing was trained again, which would give the same weights at another time.
    after = contents(run)
    assert after["metrics.jsonl"] == before["metrics.jsonl"]
    assert after["model.safetensors"] == before["model.safetensors"]
    assert json.loads(after["scores.json"]) == json.loads(before["scores.json"])
    assert not list(run.glob("*.partial"))
