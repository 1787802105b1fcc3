"""What a check of tables says of lines that are wrong, and of what is good to know before training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from imglish.cli.main import main
from imglish.data.vocabulary import AnswerVocabulary
from imglish.recipes.check_data import CheckOptions, TableCheck, check_table
from imglish.text.training import train_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 3)).save(tmp_path / f"{name}.png")
    return tmp_path


def table(path: Path, *rows: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check(path: Path, options: CheckOptions | None = None, *train: TableCheck) -> TableCheck:
    trained = {found.kind: found for found in train}
    return check_table(path, options or CheckOptions(), trained=trained, progress=lambda done, total: None)


def test_every_picture_is_decoded_once_and_a_bad_one_counts_for_its_first_line(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"not a picture")
    path = table(
        folder / "t.jsonl",
        {"image": "a.png", "image2": "b.png", "text": "x", "label": True},
        {"image": "b.png", "image2": "a.png", "text": "y", "label": "maybe"},
        {"image": "b.png", "image2": "a.png", "text": "y"},
    )
    done: list[tuple[int, int]] = []
    found = check_table(
        path, CheckOptions(), trained={}, progress=lambda number, total: done.append((number, total))
    )
    assert (found.kind, found.num_samples, len(found.pictures)) == ("statements", 2, 2)
    assert done == [(1, 2), (2, 2)]
    picture, label = found.problems
    assert picture.line == 1 and "b.png" in picture.message
    assert label.line == 2 and "not true or false" in label.message
    assert found.notes == ("statements without a label: 1; they can be judged, not trained on",)
    undecoded = check(path, CheckOptions(decode=False))
    assert [problem.line for problem in undecoded.problems] == [2]


def test_labels_that_the_training_table_does_not_have_are_wrong(folder: Path) -> None:
    train = check(table(folder / "t.jsonl", {"image": "a.png", "label": "cat"}))
    other = table(folder / "v.jsonl", {"image": "a.png", "label": "cow"}, {"image": "b.png", "label": "cat"})
    found = check(other, None, train)
    assert [(problem.line, problem.message) for problem in found.problems] == [
        (1, "label 'cow' is none of the 1 classes of the training table")
    ]
    assert check(other).problems == ()


def test_answers_are_held_against_a_vocabulary_or_the_training_table(folder: Path) -> None:
    AnswerVocabulary(("cat", "2")).save(folder / "answers.txt")
    path = table(
        folder / "t.jsonl",
        {"image": "a.png", "question": "what?", "answer": "cat"},
        {"image": "a.png", "question": "what?", "answer": ["dog", "cow"]},
        {"image": "a.png", "question": "what?", "answer": ["dog", "cat"]},
        {"image": "a.png", "question": "what?"},
    )
    found = check(path, CheckOptions(answers=folder / "answers.txt"))
    assert [(problem.line, problem.message) for problem in found.problems] == [
        (2, "'answer' 'dog', 'cow' is none of the 2 known answers")
    ]
    assert found.notes == (
        "questions without an answer: 1, the first in line 4; they can be asked, not trained on",
    )
    other = check(
        table(folder / "v.jsonl", {"image": "b.png", "question": "what?", "answer": "Zebra."}), None, found
    )
    assert other.problems == () and other.notes == (
        f"questions with an answer that {path} never gives: 1, the first in line 1 ('zebra')",
    )


def test_what_becomes_of_rare_answers_is_told(folder: Path) -> None:
    rows = [{"image": "a.png", "question": "what?", "answer": answer} for answer in ("two", "2", "dog")]
    found = check(table(folder / "t.jsonl", *rows), CheckOptions(min_answer_count=2))
    assert found.notes == (
        "different answers: 2; 1 of them occur 2 times or more (--task.min-answer-count), and answer 2 of 3 "
        "questions",
    )


def test_texts_that_a_run_would_cut_are_told(folder: Path) -> None:
    rows = [{"image": "a.png", "text": "one two"}, {"image": "b.png", "text": ["one", "one two three"]}]
    path = table(folder / "t.jsonl", *rows)
    assert check(path).notes == ()
    assert check(path, CheckOptions(max_text_tokens=4)).notes == (
        "lines with a text of more than 2 words, which a run cuts (--task.max-text-tokens): 1; the longest, "
        "line 2, has 3",
    )
    # One piece for each letter and space: "one two three" has 14 with the one that begins every text.
    text = folder / "letters.spm"
    train_tokenizer(["one two three"] * 5, text, vocab_size=12)
    (note,) = check(path, CheckOptions(max_text_tokens=4, text_tokenizer=text)).notes
    assert "more than 2 tokens" in note and "): 2; the longest, line 2, has " in note
    assert int(note.rpartition(" ")[2]) > 3


def test_pictures_of_training_among_those_to_score_are_told(folder: Path) -> None:
    train = check(table(folder / "t.jsonl", {"image": "a.png", "text": "x"}, {"image": "b.png", "text": "x"}))
    found = check(table(folder / "v.jsonl", {"image": "a.png", "text": "y"}), None, train)
    assert found.notes == (f"pictures that {train.path} has too: 1; scores on them flatter",)


def test_the_shell_shows_lines_counts_and_goes_on_to_the_next_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = table(folder / "good.jsonl", {"image": "a.png", "label": "cat"})
    bad = table(
        folder / "bad.jsonl", *({"image": "b.png", "label": label} for label in ("cow", "cat", "dog", ""))
    )
    missing, captions = folder / "missing.csv", table(folder / "c.jsonl", {"image": "c.png", "text": "x"})
    arguments = ["data", "check", *map(str, (good, missing, bad, captions)), "--show", "1"]
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"{good}: 1 labels about 1 pictures",
        "  note: classes: 1; lines of the rarest: 1",
        f"{missing}: no such file; expected a table: check the path",
        f"{bad}: 1 labels about 1 pictures",
        "  line 1: label 'cow' is none of the 1 classes of the training table",
        "  and 2 more (--show)",
        "  note: classes: 1; lines of the rarest: 1",
        f"{captions}: 1 captions about 1 pictures",
    ]
    assert shown.err == "imglish: error: 4 problems in 2 of 4 tables; mend or remove what is listed above\n"
    assert main(["data", "check", str(good)]) == 0


@pytest.mark.parametrize("option", ["--max-text-tokens=2", "--min-answer-count=0", "--show=-1"])
def test_impossible_options_are_refused(folder: Path, option: str) -> None:
    path = table(folder / "t.jsonl", {"image": "a.png", "text": "x"})
    assert main(["data", "check", str(path), option]) == 2
