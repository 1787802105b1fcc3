"""Going through own data before training: every line of a table, every picture it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imglish.data.formats.table import (
    Problem,
    Row,
    picture_lines,
    read_caption_table,
    read_label_table,
    read_question_table,
    read_statement_table,
    rows_of,
    table_kind,
)
from imglish.data.formats.vqa import VqaRecord
from imglish.data.pictures import read_picture
from imglish.data.transforms.answers import normalise_answer
from imglish.data.vocabulary import AnswerVocabulary, load_vocabulary
from imglish.errors import DataFormatError
from imglish.text.tokenizer import TextTokenizer

_ENDS = 2  # every text begins and ends with a token of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class TableCheck:
    """What a table holds and what is wrong with it.

    Args:
        path: The table.
        kind: "captions", "questions", "statements" or "labels".
        num_samples: Samples that can be used.
        pictures: The pictures of these.
        classes: The labels, or the normalised answers, with the number of samples that have them.
        problems: Wrong lines, in their order; pictures that do not decode count for their first line.
        notes: What is no fault, but good to know before training.
    """

    path: Path
    kind: str
    num_samples: int
    pictures: frozenset[Path]
    classes: Counter[str] = field(default_factory=Counter)
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOptions:
    """What a table is held against.

    Args:
        decode: True decodes every picture.
        answers: An ``answer2label.txt``; questions none of whose answers it has are wrong.
        min_answer_count: Answers that occur less often become no classes (``task.min_answer_count``).
        max_text_tokens: Longer texts are cut by a run (``task.max_text_tokens``).
        text_tokenizer: A ``.spm`` file, to count tokens; without one words are counted, which are no more.
    """

    decode: bool = True
    answers: Path | None = None
    min_answer_count: int = 9
    max_text_tokens: int = 64
    text_tokenizer: Path | None = None

    def __post_init__(self) -> None:
        if self.max_text_tokens <= _ENDS or self.min_answer_count < 1:
            raise ValueError(
                f"max_text_tokens {self.max_text_tokens} must be at least {_ENDS + 1}, and min_answer_count "
                f"{self.min_answer_count} at least 1"
            )


def check_table(
    path: Path,
    options: CheckOptions,
    *,
    trained: Mapping[str, TableCheck],
    progress: Callable[[int, int], None],
) -> TableCheck:
    """Check a table.

    Args:
        path: A JSONL, CSV or TSV file.
        options: What it is held against.
        trained: The tables of training by their kinds: labels of this one must be known in that of its kind.
        progress: Called with the number of pictures done and of all.

    Raises:
        DataFormatError: The file is missing or no table, or a file of the options is missing or damaged.
    """
    kind = table_kind(path)
    train = trained.get(kind)
    found = {
        "captions": _captions,
        "questions": _questions,
        "statements": _statements,
        "labels": _labels,
    }[kind](path, options, train)
    problems = [*found.problems, *(_damaged(found, progress) if options.decode else ())]
    notes = [*found.notes, *_long_texts(path, options)]
    if train is not None and (shared := len(found.pictures & train.pictures)):
        notes.append(f"pictures that {train.path} has too: {shared}; scores on them flatter")
    return TableCheck(
        path=path,
        kind=kind,
        num_samples=found.num_samples,
        pictures=found.pictures,
        classes=found.classes,
        problems=tuple(sorted(problems, key=lambda problem: problem.line)),
        notes=tuple(notes),
    )


def _captions(path: Path, options: CheckOptions, train: TableCheck | None) -> TableCheck:
    read = read_caption_table(path)
    return TableCheck(
        path=path,
        kind="captions",
        num_samples=sum(len(record.sentences) for record in read.samples),
        pictures=frozenset(record.path for record in read.samples),
        problems=read.problems,
        notes=(),
    )


def _questions(path: Path, options: CheckOptions, train: TableCheck | None) -> TableCheck:
    read = read_question_table(path)
    answered = [record for record in read.samples if record.annotation is not None]
    problems = list(read.problems)
    if options.answers is not None:
        problems += _unknown_answers(answered, load_vocabulary(options.answers))
    counts = Counter(map(_answer, answered))
    return TableCheck(
        path=path,
        kind="questions",
        num_samples=len(read.samples),
        pictures=frozenset(record.path for record in read.samples),
        classes=counts,
        problems=tuple(problems),
        notes=tuple(_answer_notes(read.samples, counts, options, train)),
    )


def _unknown_answers(answered: list[VqaRecord], vocabulary: AnswerVocabulary) -> Iterator[Problem]:
    for record in answered:
        assert record.annotation is not None
        given = [answer.text for answer in record.annotation.answers]
        if not vocabulary.scores(given).any():
            answers = ", ".join(map(repr, dict.fromkeys(given)))
            yield Problem(
                record.question_id, f"'answer' {answers} is none of the {len(vocabulary)} known answers"
            )


def _answer_notes(
    records: tuple[VqaRecord, ...], counts: Counter[str], options: CheckOptions, train: TableCheck | None
) -> Iterator[str]:
    unanswered = [record for record in records if record.annotation is None]
    if unanswered:
        yield (
            f"questions without an answer: {len(unanswered)}, the first in line "
            f"{unanswered[0].question_id}; they can be asked, not trained on"
        )
    if train is not None:
        new = [r for r in records if r.annotation is not None and _answer(r) not in train.classes]
        if new:
            yield (
                f"questions with an answer that {train.path} never gives: {len(new)}, the first in line "
                f"{new[0].question_id} ({_answer(new[0])!r})"
            )
    elif options.answers is None and counts:
        kept = {answer: count for answer, count in counts.items() if count >= options.min_answer_count}
        yield (
            f"different answers: {len(counts)}; {len(kept)} of them occur {options.min_answer_count} times "
            f"or more (--task.min-answer-count), and answer {sum(kept.values())} of {counts.total()} "
            "questions"
        )


def _statements(path: Path, options: CheckOptions, train: TableCheck | None) -> TableCheck:
    read = read_statement_table(path)
    unlabelled = sum(record.label is None for record in read.samples)
    untold = f"statements without a label: {unlabelled}; they can be judged, not trained on"
    return TableCheck(
        path=path,
        kind="statements",
        num_samples=len(read.samples),
        pictures=frozenset(picture for record in read.samples for picture in (record.left, record.right)),
        problems=read.problems,
        notes=(untold,) if unlabelled else (),
    )


def _labels(path: Path, options: CheckOptions, train: TableCheck | None) -> TableCheck:
    read = read_label_table(path, None if train is None else tuple(train.classes))
    counts = Counter(label for _, label in read.samples)
    return TableCheck(
        path=path,
        kind="labels",
        num_samples=len(read.samples),
        pictures=frozenset(picture for picture, _ in read.samples),
        classes=counts,
        problems=read.problems,
        notes=(f"classes: {len(counts)}; lines of the rarest: {min(counts.values())}",) if counts else (),
    )


def _damaged(found: TableCheck, progress: Callable[[int, int], None]) -> Iterator[Problem]:
    """Pictures that do not decode."""
    lines = {path: line for path, line in picture_lines(found.path).items() if path in found.pictures}
    for number, (picture, line) in enumerate(lines.items(), start=1):
        try:
            read_picture(picture)
        except DataFormatError as error:
            yield Problem(line, str(error))
        progress(number, len(lines))


def _long_texts(path: Path, options: CheckOptions) -> Iterator[str]:
    """A note about texts that a run would cut."""
    tokenizer = TextTokenizer(options.text_tokenizer) if options.text_tokenizer is not None else None
    lengths = {
        line: max(_length(text, tokenizer) for text in texts)
        for line, row in rows_of(path)
        if not isinstance(row, str) and (texts := _texts(row))
    }
    long = [line for line, length in lengths.items() if length + _ENDS > options.max_text_tokens]
    if long:
        longest = max(long, key=lambda line: lengths[line])
        most, unit = options.max_text_tokens - _ENDS, "words" if tokenizer is None else "tokens"
        yield (
            f"lines with a text of more than {most} {unit}, which a run cuts (--task.max-text-tokens): "
            f"{len(long)}; the longest, line {longest}, has {lengths[longest]}"
        )


def _texts(row: Row) -> list[str]:
    values: list[object] = []
    for column in ("text", "question"):
        value = row.get(column)
        values += value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, str)]


def _length(text: str, tokenizer: TextTokenizer | None) -> int:
    return len(text.split()) if tokenizer is None else len(tokenizer.encode(text))


def _answer(record: VqaRecord) -> str:
    """The most common answer to an answered question, as it becomes a class."""
    assert record.annotation is not None
    return normalise_answer(record.annotation.most_common)
