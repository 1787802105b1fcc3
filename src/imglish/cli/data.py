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
from imglish.recipes.check_data import check_table

_ACTIONS = ("check",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Check tables of own data: every line, and every picture they name.

    Args:
        tables: JSONL, CSV or TSV files with the columns image and text, image and question and answer, image
            and image2 and text and label, or image and label.
        decode: Decode every picture; --no-decode only looks whether it exists.
        show: Wrong lines to list, at most, of each table.
    """

    tables: tyro.conf.Positional[tuple[Path, ...]]
    decode: bool = True
    show: int = 20

    def __post_init__(self) -> None:
        if not self.tables:
            raise ValueError("name at least one table")
        if self.show < 0:
            raise ValueError(f"show must not be negative; got {self.show}")


def run(arguments: Sequence[str]) -> None:
    """Check tables; one with wrong lines ends in an error."""
    action = arguments[0] if arguments else "-h"
    if action in ("-h", "--help"):
        print("usage: imglish data check TABLE... [OPTIONS]\n\nimglish data check --help lists the options.")
        return
    if action not in _ACTIONS:
        raise UsageError(f"there is no action {action!r}{did_you_mean(action, _ACTIONS) or ': say check'}")
    options = tyro.cli(Check, args=arguments[1:], prog="imglish data check")
    console = Console(stderr=True)
    wrong = 0
    for table in options.tables:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"checking {table.name}", total=None)
            found = check_table(table, decode=options.decode, progress=partial(_advance, bar, task))
        print(f"{table}: {found.num_samples} {found.kind} about {found.num_pictures} pictures")
        for problem in found.problems[: options.show]:
            print(f"  line {problem.line}: {problem.message}" if problem.line else f"  {problem.message}")
        if len(found.problems) > options.show:
            print(f"  and {len(found.problems) - options.show} more")
        wrong += len(found.problems)
    if wrong:
        raise DataFormatError(f"{wrong} problems; mend or remove the lines above")


def _advance(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)
