"""The log of a run: JSONL always, TensorBoard and a progress bar beside it."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from imglish.errors import ImglishError
from imglish.train.distributed import Ranks

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class LogError(ImglishError):
    """The log of a run can not be written."""


class RunLog:
    """What a run says while it trains; only the main rank has one.

    Files in ``folder``: ``metrics.jsonl`` (one object a line, with ``step``) and ``tensorboard/``. Lines
    after the step that a run resumes from are dropped, so that no step stands there twice.

    Args:
        folder: The run's folder.
        title: Stands before the progress bar.
        num_steps: Length of the bar.
        start: Step that the run starts or goes on from.
        tensorboard: True writes TensorBoard files.
        console: Where the bar is drawn; the error stream by default.

    Raises:
        LogError: A file can not be written, here or in `scalars` or at the end: the disk is full, mostly.
    """

    def __init__(
        self,
        folder: Path,
        *,
        title: str,
        num_steps: int,
        start: int = 0,
        tensorboard: bool = True,
        console: Console | None = None,
    ) -> None:
        self._path, self._board_path = folder / "metrics.jsonl", folder / "tensorboard"
        with _writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            _drop_after(self._path, start)
            # Unbuffered, or what the disk refused would be written again when the file is closed.
            self._file = self._path.open("ab", buffering=0)
        with _writing(self._board_path):
            self._board = _open_tensorboard(self._board_path) if tensorboard else None
        self._console = console or Console(file=sys.stderr)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=self._console,
        )
        self._bar = self._progress.add_task(title, total=num_steps, completed=start, rate="", values="")
        self._title = title
        self._last = (start, time.perf_counter())

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._file.close()
        if self._board is not None:
            try:
                with _writing(self._board_path):
                    self._board.close()
            except LogError:
                if error is None:  # else it is told already what went wrong
                    raise

    def advance(self, step: int) -> None:
        """Move the bar to ``step``."""
        self._progress.update(self._bar, completed=step)

    def scalars(self, step: int, values: Mapping[str, float], *, samples_per_step: int = 0) -> None:
        """Log named numbers of a step; ``samples_per_step`` adds the rate since the last call."""
        record = {"step": step, "time": round(time.time(), 3), **values}
        if samples_per_step:
            then, clock = self._last
            now = time.perf_counter()
            record["samples_per_second"] = round((step - then) * samples_per_step / max(now - clock, 1e-9), 2)
            self._last = (step, now)
        line = (json.dumps(record) + "\n").encode()
        with _writing(self._path):
            while line:  # a disk that fills up takes a part of it, and refuses the rest
                line = line[self._file.write(line) :]
        if self._board is not None:
            with _writing(self._board_path):
                for name, value in record.items():
                    if name not in ("step", "time"):
                        self._board.add_scalar(name, value, step)
        self._show(step, record)

    def say(self, text: str) -> None:
        """Tell the user one line."""
        self._console.print(text, highlight=False, markup=False)

    def _show(self, step: int, record: Mapping[str, float]) -> None:
        shown = {k: v for k, v in record.items() if k not in ("step", "time", "samples_per_second")}
        values = "  ".join(f"{name} {value:.4g}" for name, value in list(shown.items())[:4])
        rate = f"{record['samples_per_second']:.0f}/s" if "samples_per_second" in record else ""
        if self._console.is_terminal:
            self._progress.update(self._bar, completed=step, rate=rate, values=values)
        else:
            self.say(f"{self._title} step {step} {rate} {values}")


class SkippedLog:
    """The damaged samples that a rank replaced by others: listed in a file, and counted.

    The file in ``folder`` is ``skipped.log`` on the main rank, ``skipped.rank1.log`` and so on elsewhere;
    its first line makes it. Lines after the step that a run resumes from are dropped. A run may go on with
    fewer ranks: the files of those that are no more are the main rank's then.

    Args:
        folder: The run's folder.
        ranks: This process among all.
        start: Step that the run starts or goes on from.

    Raises:
        LogError: A file can not be written, here or in `add`: the disk is full, mostly.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, start: int = 0) -> None:
        self._path = folder / ("skipped.log" if ranks.is_main else f"skipped.rank{ranks.rank}.log")
        mine = [self._path]
        if ranks.is_main:
            mine += [path for path in folder.glob("skipped.rank*.log") if _rank_of(path) >= ranks.world_size]
        with _writing(self._path):
            self.count = sum(_keep_lines(path, start) for path in mine)

    def add(self, step: int, lines: Sequence[str]) -> None:
        """Note what the batch of ``step`` lacks, one line for each sample."""
        if lines:
            with _writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.writelines(f"step {step}: {line}\n" for line in lines)
            self.count += len(lines)


def read_log(path: Path) -> list[dict[str, float]]:
    """Every line of a ``metrics.jsonl``; an unfinished last line, left by a kill, is dropped."""
    records: list[dict[str, float]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return records


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell in one line what can not be written."""
    try:
        yield
    except OSError as error:
        raise LogError(
            f"{path} can not be written ({error.strerror or error}); the last checkpoint is kept. Make room "
            "and go on with --resume"
        ) from error


def _drop_after(path: Path, step: int) -> None:
    if path.exists():
        kept = [json.dumps(record) + "\n" for record in read_log(path) if record["step"] <= step and step > 0]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, path)


def _rank_of(path: Path) -> int:
    """The rank in the name of its list of skipped samples; -1 where there is none."""
    found = re.fullmatch(r"skipped\.rank(\d+)\.log", path.name)
    return int(found[1]) if found else -1


def _keep_lines(path: Path, last: int) -> int:
    """Keep the whole lines of a list of skipped samples up to step ``last``, and say how many they are."""
    if not path.exists():
        return 0
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        step = re.match(r"step (\d+): ", line)
        if step and int(step[1]) <= last and line.endswith("\n"):  # a kill may have left half a line
            kept.append(line)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)
    return len(kept)


def _open_tensorboard(folder: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
