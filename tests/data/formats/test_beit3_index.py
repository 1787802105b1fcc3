from __future__ import annotations

import json
from pathlib import Path

import pytest

from imglish.data.formats.beit3_index import (
    IndexedQuestion,
    IndexedStatement,
    IndexedText,
    read_class_index,
    read_nlvr2_index,
    read_text_index,
    read_vqa_index,
)
from imglish.data.formats.image_folder import LabelledPicture
from imglish.errors import DataFormatError

TEXT = {"image_path": "a.jpg", "text_segment": [75, 82, 27], "image_id": 100}
STATEMENT = {
    "image_path": "a.jpg",
    "image2_path": "more/c.jpg",
    "text_segment": [84],
    "label": 1,
    "identifier": "dev-3-1-0",
}
QUESTION = {
    "image_path": "b.jpg",
    "text_segment": [14, 56],
    "labels": [1, 0],
    "scores": [0.6, 1.0],
    "qid": 20,
}
PICTURE = {"image_path": "more/c.jpg", "label": 7}


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "split.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_every_kind_of_index_is_read(tmp_path: Path, pictures: Path) -> None:
    a, b, c = (pictures / name for name in ("a.jpg", "b.jpg", "more/c.jpg"))
    unwritten = TEXT | {"text_segment": None}
    assert read_text_index(write(tmp_path, TEXT, unwritten), pictures) == (
        IndexedText(a, (75, 82, 27), 100),
        IndexedText(a, None, 100),
    )
    found = read_nlvr2_index(write(tmp_path, STATEMENT, STATEMENT | {"label": 0}), pictures)
    assert found[0] == IndexedStatement(a, c, (84,), True, "dev-3-1-0") and not found[1].label
    unanswered = QUESTION | {"labels": [], "scores": []}
    assert read_vqa_index(write(tmp_path, QUESTION, unanswered), pictures) == (
        IndexedQuestion(20, b, (14, 56), (1, 0), (0.6, 1.0)),
        IndexedQuestion(20, b, (14, 56), (), ()),
    )
    assert read_class_index(write(tmp_path, PICTURE), pictures) == (LabelledPicture(c, 7),)


def test_only_a_split_of_questions_may_be_empty(tmp_path: Path, pictures: Path) -> None:
    assert read_vqa_index(write(tmp_path), pictures) == ()
    for read in (read_text_index, read_nlvr2_index, read_class_index):
        with pytest.raises(DataFormatError, match=r"split\.jsonl: has no lines; expected BEiT-3 index"):
            read(write(tmp_path), pictures)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_path": "gone.jpg"}, "line 1 is about picture 'gone.jpg', which .* does not have"),
        ({"text_segment": []}, "line 1 has an empty text_segment"),
        ({"text_segment": None}, "no list of whole numbers from 0 on at key 'text_segment'"),
        ({"text_segment": [1, -2]}, "no list of whole numbers from 0 on at key 'text_segment'"),
        ({"text_segment": [True]}, "no list of whole numbers from 0 on at key 'text_segment'"),
        ({"labels": "01"}, "no list of whole numbers from 0 on at key 'labels'"),
        ({"scores": [0.6]}, "at key 'scores', not a list of 2 numbers"),
        ({"scores": [0.6, 0.0]}, r"has scores \[0\.6, 0\.0\], not all in \(0, 1\]"),
        ({"scores": [0.6, 1.2]}, r"has scores \[0\.6, 1\.2\], not all in \(0, 1\]"),
        ({"qid": "20"}, "at key 'qid', not a whole number"),
    ],
)
def test_a_damaged_question_is_named(
    tmp_path: Path, pictures: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(DataFormatError, match=words):
        read_vqa_index(write(tmp_path, QUESTION | changes), pictures)


def test_labels_have_their_range(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(DataFormatError, match="line 1 has label 2, not 0 or 1"):
        read_nlvr2_index(write(tmp_path, STATEMENT | {"label": 2}), pictures)
    with pytest.raises(DataFormatError, match="line 1 has label -1, not a class number"):
        read_class_index(write(tmp_path, PICTURE | {"label": -1}), pictures)
    with pytest.raises(DataFormatError, match="has no key 'image2_path'"):
        read_nlvr2_index(write(tmp_path, TEXT), pictures)
