"""``imglish demo`` refuses what it cannot do before it writes anything; the whole of it runs in .ci/run."""

from __future__ import annotations

from pathlib import Path

import pytest

from imglish.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "minutes must be at least 1; got 0"),
        (["--minuets", "4"], "--minutes FLOAT"),
        (["--minutes", "soon"], "--minutes"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_written(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
