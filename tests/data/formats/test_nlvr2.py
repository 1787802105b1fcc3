from __future__ import annotations

import json
from pathlib import Path

import pytest

from imglish.data.formats.nlvr2 import Nlvr2Record, read_nlvr2
from imglish.errors import DataFormatError

LINE = {"identifier": "dev-3-1-2", "sentence": "Two dogs.", "label": "False", "synset": "dog", "query": "q"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "7").mkdir(parents=True)
    for name in ("dev-3-1", "7/train-10-0"):
        for side in (0, 1):
            (folder / f"{name}-img{side}.png").write_bytes(b"x")
    return folder


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "split.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_statements_name_the_two_pictures_of_their_identifier(tmp_path: Path, images: Path) -> None:
    train = LINE | {"identifier": "train-10-0-1", "label": "True", "directory": 7}
    assert read_nlvr2(write(tmp_path, LINE, train), images) == (
        Nlvr2Record(
            "dev-3-1-2", images / "dev-3-1-img0.png", images / "dev-3-1-img1.png", "Two dogs.", False
        ),
        Nlvr2Record(
            "train-10-0-1",
            images / "7/train-10-0-img0.png",
            images / "7/train-10-0-img1.png",
            "Two dogs.",
            True,
        ),
    )


def test_hidden_labels_are_none(tmp_path: Path, images: Path) -> None:
    line = {key: value for key, value in LINE.items() if key != "label"}
    assert read_nlvr2(write(tmp_path, line), images)[0].label is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": "true"}, "line 1 has label 'true', not 'True' or 'False'"),
        ({"label": True}, "has true at key 'label', not a string"),
        ({"identifier": "dev"}, "has identifier 'dev'"),
        ({"identifier": "dev-3-1-img0.png"}, "has identifier 'dev-3-1-img0.png'"),
        ({"identifier": "dev-4-1-0"}, "line 1 is about picture 'dev-4-1-img0.png', which .* does not have"),
        ({"directory": 8}, "8/dev-3-1-img0.png"),
        ({"sentence": None}, "has null at key 'sentence'"),
    ],
)
def test_a_wrong_line_is_refused(
    tmp_path: Path, images: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(DataFormatError, match=words):
        read_nlvr2(write(tmp_path, LINE | changes), images)


def test_an_empty_and_a_cut_file_are_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(DataFormatError, match="has no lines"):
        read_nlvr2(write(tmp_path), images)
    path = write(tmp_path, LINE, LINE)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataFormatError, match="not valid json at line 2"):
        read_nlvr2(path, images)
