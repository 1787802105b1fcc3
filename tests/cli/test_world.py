"""``imglish world`` writes what its options say."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from imglish.cli.main import main
from imglish.data.world.files import read_world


def test_a_world_is_written_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w"
    options = [
        "--train",
        "4",
        "--validation",
        "3",
        "--compositional",
        "2",
        "--seed",
        "5",
        "--size",
        "96",
        "--level",
        "full",
    ]
    assert main(["world", "--out", str(out), *options, "--workers", "1"]) == 0
    assert capsys.readouterr().out == f"{out}: 4 train, 3 validation, 2 compositional\n"
    files = read_world(out)
    assert dict(files.counts) == {"train": 4, "validation": 3, "compositional": 2}
    assert (files.config.seed, files.config.picture_size, files.config.level) == (5, 96, "full")


def test_another_world_is_replaced_only_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["world", "--out", str(tmp_path / "w"), "--train", "2", "--validation", "2", "--workers", "1"]
    command += ["--compositional", "0"]
    assert main(command) == 0
    assert main([*command, "--seed", "1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"imglish: error: {tmp_path / 'w'}: holds another World")
    assert error.count("\n") == 1
    assert main([*command, "--seed", "1", "--overwrite"]) == 0
    assert read_world(tmp_path / "w").config.seed == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "20"], "picture_size must lie between 64 and 256; got 20"),
        (["--train", "1"], "train must be at least 2; got 1"),
        (["--compositional", "1"], "compositional must be 0 or at least 2; got 1"),
        (["--workers", "-1"], "workers must be at least 0; got -1"),
        (["--level", "esay"], "invalid choice 'esay'"),
        (["--sede", "1"], "--seed"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_written(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["world", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_samples_are_pictures_with_something_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["world", "--sample", "--out", str(tmp_path)]) == 0
    commands = capsys.readouterr().out.splitlines()
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(commands) == len(pictures) == 12
    for command, picture in zip(commands, pictures, strict=True):
        _, name, path, option, question = shlex.split(command)
        assert (name, path, option) == ("predict", str(picture), "--question") and question.endswith("?")
