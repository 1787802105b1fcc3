from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from imglish.data.formats.table import (
    as_image_folder,
    picture_lines,
    read_caption_table,
    read_label_table,
    read_question_table,
    read_statement_table,
    table_kind,
)
from imglish.data.vocabulary import AnswerVocabulary
from imglish.errors import DataFormatError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 3)).save(tmp_path / "pictures" / f"{name}.png")
    return tmp_path


def json_table(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def csv_table(path: Path, *rows: list[str], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def test_captions_of_a_picture_are_joined(folder: Path) -> None:
    table = json_table(
        folder / "t.jsonl",
        {"image": "pictures/a.png", "text": "one"},
        {"image": "pictures/b.png", "text": ["two", "three"]},
        "",
        {"image": "pictures/a.png", "text": " four "},
    )
    first, second = read_caption_table(table).strict()
    assert first.path == folder / "pictures" / "a.png"
    assert [sentence.text for sentence in first.sentences] == ["one", "four"]
    assert [sentence.text for sentence in second.sentences] == ["two", "three"]
    ids = [s.sentence_id for record in (first, second) for s in record.sentences]
    assert ids == [0, 1, 2, 3] and (first.image_id, second.image_id) == (0, 1)


def test_one_answer_counts_fully_and_several_by_their_number(folder: Path) -> None:
    table = json_table(
        folder / "t.jsonl",
        {"image": "pictures/a.png", "question": "what?", "answer": "cat"},
        {"image": "pictures/a.png", "question": "who?", "answer": ["cat", "dog", "dog"]},
        {"image": "pictures/b.png", "question": "where?"},
    )
    one, several, unknown = read_question_table(table).strict()
    vocabulary = AnswerVocabulary(("cat", "dog"))
    assert one.annotation is not None and several.annotation is not None and unknown.annotation is None
    assert vocabulary.scores([a.text for a in one.annotation.answers]).tolist() == [1.0, 0.0]
    scores = vocabulary.scores([a.text for a in several.annotation.answers])
    assert scores.tolist() == pytest.approx([0.3, 0.6]) and several.annotation.most_common == "dog"
    assert one.image_id == several.image_id != unknown.image_id


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_statements_and_labels_from_separated_values(folder: Path, suffix: str, delimiter: str) -> None:
    statements = csv_table(
        folder / f"s{suffix}",
        ["image", "image2", "text", "label"],
        ["pictures/a.png", "pictures/b.png", "both, and more", "True"],
        ["pictures/b.png", "pictures/c.png", "none", "0"],
        ["pictures/b.png", "pictures/c.png", "unknown", ""],
        delimiter=delimiter,
    )
    records = read_statement_table(statements).strict()
    assert [record.label for record in records] == [True, False, None]
    assert records[0].sentence == "both, and more" and records[0].right.name == "b.png"
    labels = csv_table(
        folder / f"l{suffix}",
        ["image", "label"],
        ["pictures/a.png", "dog"],
        ["pictures/b.png", "cat"],
        delimiter=delimiter,
    )
    classes = as_image_folder(read_label_table(labels).strict())
    assert classes.classes == ("cat", "dog") and [record.label for record in classes.records] == [1, 0]


def test_every_wrong_line_is_named_with_its_reason(folder: Path) -> None:
    table = json_table(
        folder / "t.jsonl",
        {"image": "pictures/a.png", "text": "good"},
        {"image": "pictures/none.png", "text": "x"},
        {"image": "pictures/a.png"},
        {"image": "pictures/a.png", "text": "  "},
        {"image": "pictures/a.png", "text": 7},
        "{half",
        "[1]",
    )
    read = read_caption_table(table)
    assert len(read.samples) == 1
    assert [problem.line for problem in read.problems] == [2, 3, 4, 5, 6, 7]
    said = [problem.message for problem in read.problems]
    for message, word in zip(
        said,
        [
            "does not exist",
            "has no 'text'",
            "is empty",
            "is 7, not a text",
            "not valid json",
            "not a json object",
        ],
        strict=True,
    ):
        assert word in message
    with pytest.raises(DataFormatError, match=r"6 wrong lines, first line 2: .*imglish data check"):
        read.strict()


def test_a_label_outside_the_training_classes_is_refused(folder: Path) -> None:
    table = csv_table(folder / "l.csv", ["image", "label"], ["pictures/a.png", "cow"])
    with pytest.raises(DataFormatError, match=r"line 2: label 'cow' is none of the 2 classes"):
        read_label_table(table, ("cat", "dog")).strict()


def test_a_line_with_too_many_fields_is_wrong(folder: Path) -> None:
    table = csv_table(folder / "c.csv", ["image", "text"], ["pictures/a.png", "a", "b"])
    (problem,) = read_caption_table(table).problems
    assert problem.line == 2 and "more fields than the 2" in problem.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,text\nx.png", "line 2: has 1 fields, fewer than the 2 named columns"),
        ("image,text\n.,x", "line 2: image '.' is a folder, not a picture"),
        ("image,text\nno/x.png,x", "line 2: image 'no/x.png' does not exist: there is no folder .*no"),
        ("image,text\nx.png,x", "line 2: image 'x.png' does not exist .looked for .*x.png"),
        ('image,text\nx.png,"x', "line 2: image 'x.png' does not exist"),
        ("image,image\na,b", "has two columns 'image'"),
    ],
)
def test_wrong_lines_of_separated_values_say_why(folder: Path, content: str, message: str) -> None:
    path = folder / "t.csv"
    path.write_text(content)
    with pytest.raises(DataFormatError, match=message):
        read_caption_table(path).strict()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "pictures/a.png", "text": []}, "'text' is an empty list"),
        ({"image": "pictures/a.png", "text": ["x", 3]}, "'text' is 3, not a text: put it in quotes"),
        ({"image": True, "text": "x"}, "'image' is true, not a text$"),
    ],
)
def test_wrong_values_of_json_lines_say_why(folder: Path, row: object, message: str) -> None:
    (problem,) = read_caption_table(json_table(folder / "t.jsonl", row)).problems
    assert re.search(message, problem.message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"", "not a table"),
        ("t.csv", b"image,text\n\xff\xfe,x", "not UTF-8"),
        ("t.jsonl", b"", "has no readable line; expected one sample a line"),
        ("t.jsonl", b"{a\n{b", "has no readable line; line 1: not valid json at column 2"),
        ("t.jsonl", b'{"picture": 1}', "has the columns picture; expected image, text .captions"),
        ("t.csv", b"image,caption\na,b", "has the columns image, caption; expected"),
        ("t.csv", b"picture,text\na,b", "has the columns picture, text; expected"),
        ("t.csv", b"image,image2,label\na,b,1", "has the columns image, image2, label; expected"),
        ("t.csv", b"Image,text\na,b", r"\. 'Image' is not 'image': write it so"),
        ("t.csv", b"image;text\na;b", r"\. Its fields are parted by semicolons: save it with commas"),
        ("t.csv", b"image\ttext\na\tb", r"\. Its fields are parted by tabs: name it \.tsv"),
        ("t.csv", b"image,text\n", "has no readable line"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFormatError, match=message):
        table_kind(tmp_path / name)
    with pytest.raises(DataFormatError, match="no such file"):
        table_kind(tmp_path / "missing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataFormatError, match="cannot be read"):
        table_kind(tmp_path / "folder.csv")


def test_pictures_come_with_the_first_line_that_names_them(folder: Path) -> None:
    table = json_table(
        folder / "t.jsonl", {"image": "a.png", "image2": "b.png"}, "{", {"image": "b.png", "image2": "c.png"}
    )
    assert picture_lines(table) == {folder / "a.png": 1, folder / "b.png": 1, folder / "c.png": 3}
