"""The shell turns every outcome into one line and an exit code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import pytest

from imglish.cli import main as shell
from imglish.cli.main import COMMANDS, Command, main
from imglish.cli.usage import UsageError
from imglish.errors import CheckpointError, ConfigError


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], int]:
    """Runs a command that ends in a given way."""

    def run(error: BaseException | None) -> int:
        def command(arguments: Sequence[str]) -> None:
            if error is not None:
                raise error

        commands = {"train": Command(summary="", run=command, interrupted="run it again with --resume")}
        monkeypatch.setattr(shell, "COMMANDS", commands)
        return main(["train"])

    return run


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: imglish COMMAND" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"imglish {importlib.metadata.version('imglish')}\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("trian", "there is no command 'trian'; did you mean 'train'?"),
        ("xyz", "there is no command 'xyz'; see imglish --help"),
        ("--verison", "there is no option '--verison'; see imglish --help"),
    ],
)
def test_an_unknown_command_is_refused(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument]) == 2
    assert capsys.readouterr().err == f"imglish: error: {message}\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (ConfigError("width 7 is odd"), 1, "imglish: error: width 7 is odd\n"),
        (CheckpointError("x is damaged"), 1, "imglish: error: x is damaged\n"),
        (UsageError("no such recipe"), 2, "imglish: error: no such recipe\n"),
        (FileNotFoundError(2, "No such file", "a.png"), 1, "imglish: error: a.png: No such file\n"),
        (KeyboardInterrupt(), 130, "\nimglish: interrupted; run it again with --resume\n"),
        (SystemExit(2), 2, ""),
        (SystemExit(), 0, ""),
    ],
)
def test_every_outcome_has_its_code_and_line(
    outcome: Callable[[BaseException | None], int],
    error: BaseException | None,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert outcome(error) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("no file is named")])
def test_a_bug_keeps_its_traceback(
    outcome: Callable[[BaseException | None], int], error: BaseException
) -> None:
    with pytest.raises(type(error)):
        outcome(error)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"imglish {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["demo", "world", "predict", "doctor"])
def test_every_command_refuses_unknown_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--no-such-option"]) == 2
    assert "--no-such-option" in capsys.readouterr().err
