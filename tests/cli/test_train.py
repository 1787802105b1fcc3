"""``imglish train`` and ``imglish evaluate`` on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from imglish.cli.main import main
from imglish.data.world.language import captions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.recipes.run_folder import RunFolder
from imglish.text.training import train_tokenizer

RECIPE = "world_contrastive"
TINY = (
    "--train.num-steps 2 --train.log-every 1 --train.num-workers 0 --train.no-tensorboard "
    "--schedule.warmup-steps 1 --task.batch-size 4 --data.num-validation 8 --task.model.width 16 "
    "--task.model.depth 1 --task.model.num-fusion-layers 0 --task.model.num-heads 2 "
    "--task.model.feed-forward-width 16"
).split()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a tiny run, with a text tokenizer of its own: the recipe's takes seconds to train."""
    path = tmp_path_factory.mktemp("text") / "tiny.spm"
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(100)]
    train_tokenizer([text for scene in scenes for text in captions(scene)], path, vocab_size=100)
    return [*TINY, "--text-tokenizer", str(path)]


@pytest.fixture(scope="module")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", RECIPE, *tiny, "--out", str(out)]) == 0
    return out


def test_the_run_has_the_settings_of_the_command_line(trained: Path) -> None:
    config = RunFolder(trained).config()
    assert config.name == RECIPE
    assert (config.train.num_steps, config.train.tensorboard, config.task.batch_size) == (2, False, 4)


def test_a_finished_run_can_be_scored_again(
    tiny: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", RECIPE, *tiny, "--out", str(trained), "--resume"]) == 0
    finished = capsys.readouterr().out
    assert main(["evaluate", str(trained)]) == 0
    scores = capsys.readouterr().out
    assert scores.splitlines()[0] == str(trained)
    assert "recall_at_1" in scores
    assert sorted(scores.split()) == sorted(finished.split())


def test_a_folder_that_holds_a_run_is_not_trained_over(
    tiny: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", RECIPE, *tiny, "--out", str(trained)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"imglish: error: {trained} holds a run already") and error.count("\n") == 1


def test_other_settings_do_not_resume(
    tiny: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", RECIPE, *tiny, "--out", str(trained), "--resume", "--task.model.depth", "2"]
    assert main(command) == 1
    assert "task.model.depth = 1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "world_contrastve"],
            "there is no recipe 'world_contrastve'; did you mean 'world_contrastive'?",
        ),
        (["evaluate", "world_contrastve"], "no recipe 'world_contrastve'; did you mean 'world_contrastive'?"),
        (["train", RECIPE, "--train.num-stpes", "3"], "--train.num-steps INT"),
        (["train", RECIPE, "--train.num-steps", "0"], "num_steps must be at least 1; got 0"),
    ],
)
def test_mistakes_are_answered_with_the_nearest_thing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_with_an_unknown_setting_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train: {num_stpes: 3}")
    assert main(["train", RECIPE, "--config", str(path)]) == 1
    message = f"{path}: train.num_stpes is not a setting; did you mean train.num_steps?"
    assert capsys.readouterr().err == f"imglish: error: {message}\n"


def test_a_folder_without_a_run_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path)]) == 1
    assert f"{tmp_path} is no run folder" in capsys.readouterr().err


def test_the_overview_lists_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    assert f"\n  {RECIPE} " in capsys.readouterr().out


def test_another_kind_of_data_brings_its_own_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", RECIPE, "--data.kind", "folder", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--data.root" in shown and "--data.world.seed" not in shown
