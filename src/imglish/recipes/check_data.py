"""Going through own data before training: every line of a table, every picture it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.table import (
    Problem,
    read_caption_table,
    read_label_table,
    read_question_table,
    read_statement_table,
    table_kind,
)
from imglish.data.pictures import read_picture
from imglish.errors import DataFormatError


@dataclass(frozen=True, slots=True)
class TableCheck:
    """What a table holds and what is wrong with it.

    Args:
        kind: "captions", "questions", "statements" or "labels".
        num_samples: Samples that can be used.
        num_pictures: Different pictures they name.
        problems: Wrong lines, and (as line 0) pictures that do not decode.
    """

    kind: str
    num_samples: int
    num_pictures: int
    problems: tuple[Problem, ...]


def check_table(path: Path, *, decode: bool = True, progress: Callable[[int, int], None]) -> TableCheck:
    """Check a table.

    Args:
        path: A JSONL, CSV or TSV file.
        decode: True decodes every picture.
        progress: Called with the number of pictures done and of all.

    Raises:
        DataFormatError: The file is missing or no table.
    """
    kind = table_kind(path)
    count, pictures, problems = _summary(path, kind)
    found = list(problems)
    for number, picture in enumerate(pictures if decode else (), start=1):
        try:
            read_picture(picture)
        except DataFormatError as error:
            found.append(Problem(0, str(error)))
        progress(number, len(pictures))
    return TableCheck(kind, count, len(pictures), tuple(found))


def _summary(path: Path, kind: str) -> tuple[int, list[Path], tuple[Problem, ...]]:
    """Number of samples, their pictures without repetition, wrong lines."""
    if kind == "captions":
        captions = read_caption_table(path)
        sentences = sum(len(record.sentences) for record in captions.samples)
        return sentences, _distinct(r.path for r in captions.samples), captions.problems
    if kind == "questions":
        questions = read_question_table(path)
        return len(questions.samples), _distinct(r.path for r in questions.samples), questions.problems
    if kind == "statements":
        statements = read_statement_table(path)
        pictures = _distinct(p for r in statements.samples for p in (r.left, r.right))
        return len(statements.samples), pictures, statements.problems
    labels = read_label_table(path)
    return len(labels.samples), _distinct(picture for picture, _ in labels.samples), labels.problems


def _distinct(paths: Iterator[Path]) -> list[Path]:
    return list(dict.fromkeys(paths))
