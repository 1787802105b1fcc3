"""``imglish visualize`` draws with the weights in the package, of pictures that are given or drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.cli.main import main
from tests.inference.tiny_weights import pixels


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels(40, 60)).save("own.png")
    return tmp_path


def test_words_of_a_question_are_drawn_and_their_numbers_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["words", "own.png", "--text", "what colour is the star?", "--arrays", "--out", "seen"]
    assert main(["visualize", *asked]) == 0
    assert capsys.readouterr().out.split() == ["seen/own_words.png", "seen/own_words.npz"]
    arrays = np.load("seen/own_words.npz")
    assert arrays["words"].tolist() == ["what", "colour", "is", "the", "star", "?"]
    assert arrays["weights"].shape == (4, 4, 6, 4, 4)
    with Image.open("seen/own_words.png") as image:
        assert image.width > 7 * 160  # pictures as wide as they were


def test_without_a_picture_the_world_is_drawn(here: Path) -> None:
    assert main(["visualize", "attention", "--query", "1,2", "--heads"]) == 0
    assert main(["visualize", "words"]) == 0
    assert main(["visualize", "features"]) == 0
    drawn = {path.name for path in (here / "visualized").iterdir()}
    kinds = ("attention", "words", "features")
    assert drawn == {f"world_{number}_{kind}.png" for number in (0, 1) for kind in kinds}


def test_the_gallery_tells_how_much_of_the_codebook_is_used(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["visualize", "codebook", "own.png", "--num-tokens", "3", "--arrays"]) == 0
    out = capsys.readouterr().out
    assert "of 256 tokens in use, perplexity" in out
    assert np.load("visualized/codebook.npz")["usage"].shape == (256,)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["wrods"], "did you mean 'words'"),
        (["words", "own.png"], "--text TEXT"),
        (["attention", "own.png", "--query", "all"], "expected class, mean, or a patch"),
        (["attention", "own.png", "sub/own.png"], "two pictures have the same name"),
        (["codebook", "--num-tokens", "0"], "must be at least 1"),
        (["features", "--out", "own.png"], "own.png is a file"),
        (["attention", "missing.png"], "missing.png"),
        (["words", "own.png", "--text", "a", "--weights", "wrold"], "did you mean 'world'"),
    ],
)
def test_mistakes_are_told(
    here: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["visualize", *arguments]) in (1, 2)
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert told in shown


def test_help_names_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize"]) == 0
    out = capsys.readouterr().out
    assert all(kind in out for kind in ("attention", "words", "codebook", "features"))
