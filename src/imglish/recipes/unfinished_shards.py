"""The folder in which a set of shards grows, and what is known of it, so that a stopped run can go on.

``progress.jsonl`` says in its first line what is packed, and then, for each whole tar, how far the run had
come. The folder takes its final name when the set is whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from imglish.data.shard_index import index_path, read_index
from imglish.errors import DataFormatError

REFUSED = "refused.jsonl"
_PROGRESS = "progress.jsonl"


class Reached(NamedTuple):
    """How far a run had come when a tar was whole, since its beginning.

    Args:
        items: Items gone through.
        samples: Those of them that are packed.
        refused: The others.
        refused_bytes: Length of the list of the others.
        digest: Of all items gone through, in hexadecimal digits.
    """

    items: int = 0
    samples: int = 0
    refused: int = 0
    refused_bytes: int = 0
    digest: str = ""


class UnfinishedShards:
    """The folder beside ``target``; a context, which only one process can be in.

    Args:
        target: The folder to come, absolute.
        kind: Tars are called ``KIND-000000.tar`` and so on.
        shard_size: Samples of a tar that is full.
        command: What is packed, and how: values of json by name. A run goes on only with the same.

    Raises:
        DataFormatError: Another process packs here, or a run with another command has stopped here.
    """

    def __init__(self, target: Path, kind: str, shard_size: int, command: Mapping[str, object]) -> None:
        self._target, self._kind, self._shard_size = target, kind, shard_size
        self.folder = target.with_name(f".{target.name}.unfinished")
        self.folder.mkdir(exist_ok=True)
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            self._take_lock()
            self._reached = self._known(json.loads(json.dumps(command)))
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> UnfinishedShards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._reached and self.folder.exists():  # nothing to go on from
            shutil.rmtree(self.folder)
        os.close(self._lock)

    @property
    def num_tars(self) -> int:
        """Whole tars."""
        return len(self._reached)

    @property
    def reached(self) -> Reached:
        """How far the run had come after the last whole tar."""
        return self._reached[-1] if self._reached else Reached()

    def tar(self, number: int) -> Path:
        """Where tar ``number`` lies."""
        return self.folder / f"{self._kind}-{number:06d}.tar"

    def add(self, reached: Reached) -> None:
        """Note that the next tar and its index are whole."""
        with (self.folder / _PROGRESS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(reached) + "\n")
        self._reached.append(reached)

    def start_anew(self) -> None:
        """Forget all tars; leaving the context then removes the folder."""
        self._reached = []

    def finish(self) -> None:
        """Give the folder its final name."""
        if self._target.exists():
            self._target.rmdir()
        self.folder.replace(self._target)
        (self._target / _PROGRESS).unlink()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have given the folder its final name, or removed it.
            still_here = self.folder.exists() and os.path.samestat(self.folder.stat(), os.fstat(self._lock))
        except BlockingIOError:
            still_here = False
        if not still_here:
            raise DataFormatError(
                f"{self._target}: another process is packing into it; wait for it, or choose another folder"
            )

    def _known(self, command: dict[str, object]) -> list[Reached]:
        """What an earlier run of this command reached; anything that is not whole is removed."""
        lines = self._lines()
        if not lines or not isinstance(lines[0], dict):
            reached: list[Reached] = []
        else:
            self._check_same(lines[0], command)
            reached = self._whole([line for line in lines[1:] if isinstance(line, list)])
        kept = {_PROGRESS, REFUSED, *(self.tar(number).name for number in range(len(reached)))}
        kept |= {index_path(self.tar(number)).name for number in range(len(reached))}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()
        with (self.folder / REFUSED).open("ab") as refused:
            refused.truncate(reached[-1].refused_bytes if reached else 0)
        partial = self.folder / f"{_PROGRESS}.partial"
        partial.write_text("".join(json.dumps(line) + "\n" for line in (command, *reached)), encoding="utf-8")
        partial.replace(self.folder / _PROGRESS)
        return reached

    def _lines(self) -> list[object]:
        """The lines of the progress, up to one that a killed run left half written."""
        found: list[object] = []
        try:
            for line in (self.folder / _PROGRESS).read_text(encoding="utf-8").splitlines():
                found.append(json.loads(line))
        except (FileNotFoundError, ValueError):
            pass
        return found

    def _check_same(self, before: dict[str, object], now: dict[str, object]) -> None:
        for name, value in now.items():
            if before.get(name) != value:
                raise DataFormatError(
                    f"{self._target}: a run with {name} {_short(before.get(name))}, not {_short(value)}, has "
                    f"stopped here; give the same command to go on, or remove {self.folder} to start anew"
                )

    def _whole(self, lines: list[list[object]]) -> list[Reached]:
        """What was reached, up to the first tar that is damaged, missing or not full."""
        found: list[Reached] = []
        for number, line in enumerate(lines):
            try:
                reached = Reached(*line)  # type: ignore[arg-type]  # any json; what does not fit is caught
                spans = read_index(self.tar(number), self.tar(number).stat().st_size)
            except (DataFormatError, OSError, TypeError):
                break
            samples = reached.samples - (found[-1].samples if found else 0)
            # The last tar of a source that has grown since would have more.
            if spans is None or len(spans) != samples or samples != self._shard_size:
                break
            found.append(reached)
        return found


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
