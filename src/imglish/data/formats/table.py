"""Own data without code: a JSONL or CSV file, one sample a line, paths relative to the file.

    captions      image, text                        one line a caption; lines of a picture are joined
    questions     image, question, answer            answer may be missing, or a list of several people's
    statements    image, image2, text, label         label true or false, may be missing
    labels        image, label                       the name of the picture's class

JSONL has one object a line; CSV (comma) and TSV (tab) have the names in their first line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from imglish.data.formats.image_folder import ImageFolder, LabelledPicture
from imglish.data.formats.karpathy import KarpathyRecord, Sentence
from imglish.data.formats.nlvr2 import Nlvr2Record
from imglish.data.formats.vqa import Answer, AnsweredQuestion, VqaRecord
from imglish.errors import DataFormatError

SUFFIXES = (".jsonl", ".csv", ".tsv")
_COLUMNS = {
    "captions": ("image", "text"),
    "questions": ("image", "question"),
    "statements": ("image", "image2", "text"),
    "labels": ("image", "label"),
}
# The column that tells what a table is for; the first of these that it has decides.
_TELLING = (("question", "questions"), ("image2", "statements"), ("text", "captions"), ("label", "labels"))
_PEOPLE = 10  # one given answer counts as so many people agreeing, and so scores fully
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

Row = Mapping[str, object]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that can not be used (0: the whole file), and why."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class TableRead(Generic[_T]):
    """What the good lines hold, and which lines are wrong."""

    path: Path
    samples: tuple[_T, ...]
    problems: tuple[Problem, ...]

    def strict(self) -> tuple[_T, ...]:
        """The samples of a table without problems.

        Raises:
            DataFormatError: A line is wrong, or there are none.
        """
        if self.problems:
            first = self.problems[0]
            place = f"line {first.line}: " if first.line else ""
            count = f"{len(self.problems)} wrong lines, first " if len(self.problems) > 1 else ""
            raise DataFormatError(
                f"{self.path}: {count}{place}{first.message}; `imglish data check {self.path}` lists all"
            )
        if not self.samples:
            raise DataFormatError(f"{self.path}: has no lines; expected one sample a line")
        return self.samples


class Unreadable(str):
    """What is wrong with a table from some line on, so that no line after it can be read."""


class _RowError(Exception):
    """Why a line can not be used."""


def read_caption_table(path: Path, split: str = "train") -> TableRead[KarpathyRecord]:
    """Captioned pictures; the lines of one picture are joined into one record.

    Args:
        path: The table.
        split: Goes into the records.

    Raises:
        DataFormatError: The file is missing or no table.
    """

    def parse(row: Row, line: int) -> tuple[Path, tuple[str, ...]]:
        return _picture(row, "image", path), _texts(row, "text")

    read = _read(path, parse)
    captions: dict[Path, list[str]] = {}
    for image, texts in read.samples:
        captions.setdefault(image, []).extend(texts)
    sentence_id, records = 0, []
    for image_id, (image, said) in enumerate(captions.items()):
        sentences = tuple(Sentence(number, text) for number, text in enumerate(said, start=sentence_id))
        sentence_id += len(sentences)
        records.append(KarpathyRecord(image_id, image, split, sentences))
    return TableRead(path, tuple(records), read.problems)


def read_question_table(path: Path) -> TableRead[VqaRecord]:
    """Questions about pictures, with answers where there are any; errors as in `read_caption_table`."""
    images: dict[Path, int] = {}

    def parse(row: Row, line: int) -> VqaRecord:
        image = _picture(row, "image", path)
        question = _text(row, "question")
        answers = _texts(row, "answer") if row.get("answer") not in (None, "", []) else ()
        annotation = None
        if answers:
            people = answers if len(answers) > 1 else answers * _PEOPLE
            annotation = AnsweredQuestion(
                question_type=str(row.get("kind") or ""),
                answer_type="other",
                most_common=max(people, key=people.count),
                answers=tuple(Answer(answer, "yes") for answer in people),
            )
        return VqaRecord(line, images.setdefault(image, len(images)), image, question, annotation)

    return _read(path, parse)


def read_statement_table(path: Path) -> TableRead[Nlvr2Record]:
    """Statements about two pictures; errors as in `read_caption_table`."""

    def parse(row: Row, line: int) -> Nlvr2Record:
        return Nlvr2Record(
            identifier=f"{path.stem}-{line}-0-0",
            left=_picture(row, "image", path),
            right=_picture(row, "image2", path),
            sentence=_text(row, "text"),
            label=_truth(row),
        )

    return _read(path, parse)


def read_label_table(path: Path, classes: tuple[str, ...] | None = None) -> TableRead[tuple[Path, str]]:
    """Pictures with the names of their classes; errors as in `read_caption_table`.

    Args:
        path: The table.
        classes: The names that may occur; any where it is None.
    """

    def parse(row: Row, line: int) -> tuple[Path, str]:
        label = _text(row, "label")
        if classes is not None and label not in classes:
            raise _RowError(f"label {label!r} is none of the {len(classes)} classes of the training table")
        return _picture(row, "image", path), label

    return _read(path, parse)


def as_image_folder(samples: tuple[tuple[Path, str], ...], classes: tuple[str, ...] = ()) -> ImageFolder:
    """Labelled pictures as `read_image_folder` gives them; classes are the sorted names by default."""
    names = classes or tuple(sorted({label for _, label in samples}))
    numbers = {name: number for number, name in enumerate(names)}
    return ImageFolder(names, tuple(LabelledPicture(path, numbers[label]) for path, label in samples))


def table_kind(path: Path) -> str:
    """What a table is for, by its columns: "questions", "statements", "labels" or "captions".

    Raises:
        DataFormatError: The file is no table, has no readable line, or its columns are of none of these.
    """
    reason = "expected one sample a line"
    for line, row in rows_of(path):
        if isinstance(row, str):
            reason = f"line {line}: {row}" if reason.startswith("expected") else reason
            continue
        columns = [str(column) for column in row]
        kind = next((kind for column, kind in _TELLING if column in columns), None)
        # Every line of JSONL has columns of its own: a wrong one is a wrong line, not a wrong table.
        missing = set(_COLUMNS[kind]) - set(columns) if kind and path.suffix.lower() != ".jsonl" else set()
        if kind is None or missing:
            kinds = "; ".join(f"{', '.join(needed)} ({kind})" for kind, needed in _COLUMNS.items())
            raise DataFormatError(
                f"{path}: has the columns {', '.join(columns)}; expected {kinds}{_advice(columns)}"
            )
        return kind
    raise DataFormatError(f"{path}: has no readable line; {reason}")


def picture_lines(path: Path) -> dict[Path, int]:
    """The pictures that a table names, each with the first line that does; errors as in `rows_of`."""
    lines: dict[Path, int] = {}
    for line, row in rows_of(path):
        if not isinstance(row, str):
            names = (row.get(column) for column in ("image", "image2"))
            for name in names:
                if isinstance(name, str):
                    lines.setdefault(path.parent / name.strip(), line)
    return lines


def rows_of(path: Path) -> Iterator[tuple[int, Row | str]]:
    """Line number and values of each line, or (as a text) what is wrong with it.

    Raises:
        DataFormatError: The file is missing, no text, or no table.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataFormatError(f"{path}: not a table; expected a file that ends in {', '.join(SUFFIXES)}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataFormatError(f"{path}: no such file; expected a table: check the path") from None
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}); expected a table") from None
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{path}: not UTF-8 text (byte {error.start}); save the table as UTF-8"
        ) from None
    if path.suffix.lower() == ".jsonl":
        yield from _json_rows(text)
    else:
        yield from _separated_rows(path, text)


def json_row(line: str) -> Row | str:
    """The values of a line of JSONL, or (as a text) what is wrong with it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not valid json at column {error.colno} ({error.msg})"
    except (ValueError, RecursionError) as error:  # thousands of digits, or nested without end
        return f"not usable json ({error})"
    return row if isinstance(row, dict) else "is not a json object"


def _read(path: Path, parse: Callable[[Row, int], _T]) -> TableRead[_T]:
    samples: list[_T] = []
    problems: list[Problem] = []
    for line, row in rows_of(path):
        try:
            if isinstance(row, str):
                raise _RowError(row)
            samples.append(parse(row, line))
        except _RowError as wrong:
            problems.append(Problem(line, str(wrong)))
    return TableRead(path, tuple(samples), tuple(problems))


def _advice(columns: list[str]) -> str:
    """A guess at why columns are not those that are expected; empty where there is none."""
    if len(columns) == 1 and ";" in columns[0]:
        return ". Its fields are parted by semicolons: save it with commas"
    if len(columns) == 1 and "\t" in columns[0]:
        return ". Its fields are parted by tabs: name it .tsv"
    known = {column for needed in _COLUMNS.values() for column in needed}
    for column in columns:
        meant = column.strip().lower()
        if column not in known and meant in known:
            return f". {column!r} is not {meant!r}: write it so"
    return ""


def _separated_rows(path: Path, text: str) -> Iterator[tuple[int, Row | str]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = list(reader.fieldnames or ())
        twice = [column for column in columns if columns.count(column) > 1]
        if twice:
            raise DataFormatError(f"{path}: has two columns {twice[0]!r}; expected one of each: rename one")
        for row in reader:
            given = len(columns) - list(row.values()).count(None)
            if None in row:
                yield reader.line_num, f"has more fields than the {len(columns)} named columns"
            elif given < len(columns):
                yield reader.line_num, f"has {given} fields, fewer than the {len(columns)} named columns"
            else:
                yield reader.line_num, row
    except csv.Error as error:  # the reader cannot go on from here
        problem = f"not readable as {delimiter!r}-separated fields ({error}); a quote may be open"
        yield reader.line_num, Unreadable(problem)


def _json_rows(text: str) -> Iterator[tuple[int, Row | str]]:
    for number, line in enumerate(text.split("\n"), start=1):  # texts may hold other signs of a line's end
        if line.strip():
            yield number, json_row(line)


def _text(row: Row, column: str) -> str:
    if column not in row or row[column] is None:
        raise _RowError(f"has no {column!r}; columns here: {', '.join(map(str, row))}")
    value = row[column]
    if not isinstance(value, str):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        raise _RowError(
            f"{column!r} is {json.dumps(value)[:40]}, not a text" + (": put it in quotes" if number else "")
        )
    if not value.strip():
        raise _RowError(f"{column!r} is empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _RowError(f"{column!r} is no Unicode text: it has half of a surrogate pair")
    return value.strip()


def _texts(row: Row, column: str) -> tuple[str, ...]:
    """One text or, in JSONL, a list of texts."""
    value = row.get(column)
    if isinstance(value, list):
        if not value:
            raise _RowError(f"{column!r} is an empty list")
        return tuple(_text({column: item}, column) for item in value)
    return (_text(row, column),)


def _picture(row: Row, column: str, table: Path) -> Path:
    name = _text(row, column)
    path = table.parent / name
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise _RowError(f"{column} {name!r} is a folder, not a picture")
        if not path.parent.is_dir():
            raise _RowError(f"{column} {name!r} does not exist: there is no folder {path.parent}")
    except OSError as error:  # such as a name too long
        raise _RowError(f"{column} {name[:60]!r}: {error.strerror}") from None
    raise _RowError(f"{column} {name!r} does not exist (looked for {path})")


def _truth(row: Row) -> bool | None:
    label = row.get("label")
    if label is None or label == "":
        return None
    if isinstance(label, bool):
        return label
    truth = _TRUTH.get(str(label).strip().lower())
    if truth is None:
        raise _RowError(f"'label' is {json.dumps(label)[:40]}, not true or false")
    return truth
