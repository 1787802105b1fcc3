"""``imglish data check``: say which lines of a table are wrong, and why, before a training run does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import Progress, TaskID

from imglish.cli.usage import UsageError, did_you_mean
from imglish.errors import DataFormatError
from imglish.recipes.check_data import CheckOptions, TableCheck, check_table

_ACTIONS = ("check",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Check tables of own data: every line, and every picture they name.

    The first table of a kind is taken for that of training, and others of its kind are held against it.

    Args:
        tables: JSONL, CSV or TSV files with the columns image and text, image and question and answer, image
            and image2 and text and label, or image and label.
        decode: Decode every picture; --no-decode only looks whether it exists.
        answers: An answer2label.txt; questions none of whose answers it has are wrong.
        min_answer_count: Of the run to come (task.min_answer_count): rarer answers become no classes.
        max_text_tokens: Of the run to come (task.max_text_tokens): longer texts are cut.
        text_tokenizer: A .spm file that counts tokens; without one words are counted.
        show: Wrong lines to list, at most, of each table.
    """

    tables: tyro.conf.Positional[tuple[Path, ...]]
    decode: bool = True
    answers: Path | None = None
    min_answer_count: int = 9
    max_text_tokens: int = 64
    text_tokenizer: Path | None = None
    show: int = 20

    def __post_init__(self) -> None:
        if not self.tables:
            raise ValueError("name at least one table")
        if self.show < 0:
            raise ValueError(f"show must not be negative; got {self.show}")
        CheckOptions(min_answer_count=self.min_answer_count, max_text_tokens=self.max_text_tokens)


def run(arguments: Sequence[str]) -> None:
    """Check tables; one with wrong lines ends in an error."""
    action = arguments[0] if arguments else "-h"
    if action in ("-h", "--help"):
        print("usage: imglish data check TABLE... [OPTIONS]\n\nimglish data check --help lists the options.")
        return
    if action not in _ACTIONS:
        raise UsageError(f"there is no action {action!r}{did_you_mean(action, _ACTIONS) or ': say check'}")
    options = tyro.cli(Check, args=arguments[1:], prog="imglish data check")
    wanted = CheckOptions(
        decode=options.decode,
        answers=options.answers,
        min_answer_count=options.min_answer_count,
        max_text_tokens=options.max_text_tokens,
        text_tokenizer=options.text_tokenizer,
    )
    console = Console(stderr=True)
    trained: dict[str, TableCheck] = {}
    wrong: list[int] = []
    for table in options.tables:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"checking {table.name}", total=None)
            try:
                found = check_table(table, wanted, trained=trained, progress=partial(_advance, bar, task))
            except DataFormatError as error:  # the other tables want to be checked too
                bar.stop()
                print(error)
                wrong.append(1)
                continue
        trained.setdefault(found.kind, found)
        _show(found, options.show)
        wrong.append(len(found.problems))
    if total := sum(wrong):
        tables = f" in {sum(map(bool, wrong))} of {len(wrong)} tables" if len(wrong) > 1 else ""
        raise DataFormatError(
            f"{total} problem{'s' if total > 1 else ''}{tables}; mend or remove what is listed above"
        )


def _show(found: TableCheck, most: int) -> None:
    print(f"{found.path}: {found.num_samples} {found.kind} about {len(found.pictures)} pictures")
    for problem in found.problems[:most]:
        print(f"  line {problem.line}: {problem.message}")
    if len(found.problems) > most:
        print(f"  and {len(found.problems) - most} more (--show)")
    for note in found.notes:
        print(f"  note: {note}")


def _advance(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)
