"""Commands that were written for models with one head, given one with several."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from imglish.cli.main import main
from tests.inference.tiny_weights import pixels


def test_words_are_those_of_the_model_s_own_captioner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels(64, 64)).save("one.png")
    assert main(["visualize", "words", "one.png", "--weights", "world"]) == 0
    assert (tmp_path / "visualized" / "one_words.png").is_file()
    assert main(["visualize", "words", "one.png", "--weights", "world_encoder"]) == 2
    assert "only a captioner finds its own" in capsys.readouterr().err


def test_scoring_it_as_official_weights_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "captioning_demo", "--weights", "world"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "that ships in the package as a run; imglish convert world FOLDER --to pretrained" in told
