"""The file of a search index: one SQLite database of pictures, the contents they have, and their vectors.

Layout 1. ``about``: one row, what the index is of. ``contents``: each different content once, by the SHA-256
of the file's bytes, with the picture's size in pixels and its unit vector as little-endian float16.
``pictures``: path below the folder (text with "/"; bytes where the name is no UTF-8), size in bytes, time of
change in nanoseconds, and content. Every change is one transaction: a process that dies leaves the file as it
was before or as it is after.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imglish.errors import DataFormatError

DEFAULT_NAME = ".imglish-index.sqlite"
LAYOUT = 1
_APPLICATION = 0x494D6958  # "IMiX" in the file's header says whose SQLite file it is
_SECONDS_TO_WAIT = 30.0  # for another process that writes
_HALF = np.dtype("<f2")
_AT_ONCE = 4096  # rows that are read and checked together
_NORM_TOLERANCE = 0.02  # float16 rounds a unit vector's length by less than 0.001

_TABLES = """
CREATE TABLE about (folder NOT NULL, model TEXT NOT NULL, weights TEXT NOT NULL, width INTEGER NOT NULL);
CREATE TABLE contents (
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, height INTEGER NOT NULL, width INTEGER NOT NULL,
    vector BLOB NOT NULL
);
CREATE TABLE pictures (
    path PRIMARY KEY NOT NULL, bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    content INTEGER NOT NULL REFERENCES contents (id)
) WITHOUT ROWID;
CREATE INDEX pictures_of_content ON pictures (content);
"""


class About(NamedTuple):
    """What an index is of.

    Args:
        folder: Of the pictures; a relative one starts at the folder of the index file.
        model: Name of the weights, for people.
        weights: What tells the weights apart.
        width: Numbers in a vector.
    """

    folder: str
    model: str
    weights: str
    width: int


class Known(NamedTuple):
    """What is stored of a picture: size in bytes, time of change in nanoseconds, SHA-256 of its bytes."""

    num_bytes: int
    mtime_ns: int
    hash: bytes


class Content(NamedTuple):
    """A content: (height, width) in pixels and its unit vector float32 (C,)."""

    size: tuple[int, int]
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Loaded:
    """All of an index that searching needs.

    Args:
        paths: Of the pictures, sorted.
        contents: int64 (pictures,), the row of each picture's vector.
        vectors: float16 (contents, C), each content once.
        sizes: int64 (contents, 2), height and width in pixels.
    """

    paths: tuple[str, ...]
    contents: NDArray[np.int64]
    vectors: NDArray[np.float16]
    sizes: NDArray[np.int64]


class IndexStore:
    """An open index file; use as a context, which closes it.

    Args:
        path: The file.
        about: What a file that is not there yet, or is empty, shall be of; None refuses such files.

    Raises:
        DataFormatError: There is no such file, it is damaged, of another kind or of a newer layout, or it
            cannot be read or written.
    """

    def __init__(self, path: Path, about: About | None = None) -> None:
        self.path = path
        if _is_empty(path):
            if about is None:
                raise _missing(path)
        else:
            check_owner(path)
        with _translated(path):
            mode = "rw" if about is None else "rwc"
            self._file = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=_SECONDS_TO_WAIT,
            )
        try:
            with _translated(path):
                self._file.execute("PRAGMA foreign_keys = ON")
                if about is not None:
                    self._create(about)
                self.about = self._read_about()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> IndexStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def known(self) -> dict[str, Known]:
        """What is stored of each picture, by path."""
        select = "SELECT path, bytes, mtime_ns, hash FROM pictures JOIN contents ON content = id"
        with _translated(self.path):
            return {_text(path): Known(*row) for path, *row in self._file.execute(select)}

    def hashes(self) -> set[bytes]:
        """The contents whose vectors are there."""
        with _translated(self.path):
            return {digest for (digest,) in self._file.execute("SELECT hash FROM contents")}

    def save(self, pictures: Mapping[str, Known], contents: Mapping[bytes, Content]) -> None:
        """Store new contents, by their hashes, and pictures that have these or older ones.

        Raises:
            DataFormatError: Another process has removed a content meanwhile; nothing is stored then.
        """
        rows = [(digest, *content.size, _blob(content.vector)) for digest, content in contents.items()]
        with self._transaction():
            self._file.executemany(
                "INSERT INTO contents (hash, height, width, vector) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (hash) DO NOTHING",
                rows,
            )
            done = self._file.executemany(
                "INSERT OR REPLACE INTO pictures SELECT ?, ?, ?, id FROM contents WHERE hash = ?",
                [(_stored(path), *known) for path, known in pictures.items()],
            )
            if done.rowcount < len(pictures):
                raise DataFormatError(
                    f"{self.path}: another process has changed it meanwhile; run imglish index again"
                )

    def forget(self, paths: Iterable[str]) -> None:
        """Remove pictures, and contents that none has any more."""
        with self._transaction():
            self._file.executemany(
                "DELETE FROM pictures WHERE path = ?", [(_stored(path),) for path in paths]
            )
            self._file.execute("DELETE FROM contents WHERE id NOT IN (SELECT content FROM pictures)")

    def load(self) -> Loaded:
        """Read everything that searching needs.

        Raises:
            DataFormatError: The file is damaged.
        """
        with _translated(self.path):
            self._file.execute("BEGIN")  # both tables as they are at one moment
            try:
                numbers, vectors, sizes = self._load_contents()
                rows = sorted((_text(path), content) for path, content in self._load_pictures())
            finally:
                self._file.execute("ROLLBACK")
        try:
            contents = np.array([numbers[content] for _, content in rows], dtype=np.int64)
        except KeyError:
            raise _damaged(self.path, "pictures without a vector") from None
        return Loaded(tuple(path for path, _ in rows), contents, vectors, sizes)

    def _load_pictures(self) -> sqlite3.Cursor:
        return self._file.execute("SELECT path, content FROM pictures")

    def _load_contents(self) -> tuple[dict[int, int], NDArray[np.float16], NDArray[np.int64]]:
        """Row of each content by its id, vectors and sizes."""
        width = self.about.width
        (count,) = self._file.execute("SELECT count(*) FROM contents").fetchone()
        vectors, sizes = np.empty((count, width), np.float16), np.empty((count, 2), np.int64)
        numbers: dict[int, int] = {}
        cursor = self._file.execute("SELECT id, height, width, vector FROM contents")
        while rows := cursor.fetchmany(_AT_ONCE):
            first = len(numbers)
            if any(not isinstance(row[3], bytes) or len(row[3]) != width * _HALF.itemsize for row in rows):
                raise _damaged(self.path, f"vectors that have not {width} numbers")
            block = np.frombuffer(b"".join(blob for *_, blob in rows), _HALF).reshape(len(rows), width)
            norms = np.linalg.norm(block.astype(np.float32), axis=1)
            if not (np.abs(norms - 1) < _NORM_TOLERANCE).all():  # what is not finite fails, too
                raise _damaged(self.path, "vectors that are not of length one")
            vectors[first : first + len(rows)] = block
            sizes[first : first + len(rows)] = [row[1:3] for row in rows]
            numbers.update((row[0], number) for number, row in enumerate(rows, start=first))
        return numbers, vectors, sizes

    def _create(self, about: About) -> None:
        """Make the tables where there are none, as one step."""
        with self._transaction():  # which lets one of several processes through
            if not self._is_blank():
                return
            for statement in filter(str.strip, _TABLES.split(";")):
                self._file.execute(statement)
            self._file.execute("INSERT INTO about VALUES (?, ?, ?, ?)", (_stored(about.folder), *about[1:]))
            self._file.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._file.execute(f"PRAGMA user_version = {LAYOUT}")

    def _read_about(self) -> About:
        if self._is_blank():  # whoever made it died before its first step was whole
            raise _missing(self.path)
        (layout,) = self._file.execute("PRAGMA user_version").fetchone()
        if layout > LAYOUT:
            raise DataFormatError(
                f"{self.path}: has layout {layout}, of a newer imglish; this one reads layout {LAYOUT}: "
                "update imglish, or make it anew with imglish index FOLDER --rebuild"
            )
        rows = self._file.execute("SELECT folder, model, weights, width FROM about").fetchall()
        if layout != LAYOUT or len(rows) != 1:
            raise _damaged(self.path, f"layout {layout} and {len(rows)} descriptions")
        folder, model, weights, width = rows[0]
        if not isinstance(width, int) or width < 1:
            raise _damaged(self.path, f"vectors of {width!r} numbers")
        return About(_text(folder), str(model), str(weights), width)

    def _is_blank(self) -> bool:
        return bool(self._file.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing, also if the process dies."""
        with _translated(self.path):
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise


def check_owner(path: Path) -> None:
    """Raise DataFormatError for a file that is no index, going by its first bytes; empty ones pass."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}); expected a search index") from None
    sqlite = head.startswith(b"SQLite format 3\0")
    if head and not (sqlite and int.from_bytes(head[68:72], "big") == _APPLICATION):
        what = "a database of something else" if sqlite else "no search index, or a damaged one"
        advice = (
            "make it anew with imglish index FOLDER --rebuild"
            if path.name == DEFAULT_NAME
            else "give another file, or delete this one if it was an index"
        )
        raise DataFormatError(f"{path}: is {what}; expected a file that imglish index has written: {advice}")


def remove_index(path: Path) -> None:
    """Delete an index, however damaged; nothing happens where there is none.

    Raises:
        DataFormatError: The file does not look like an index, by its first bytes or its name, or it cannot
            be deleted.
    """
    if not _is_empty(path) and path.name != DEFAULT_NAME:
        try:
            check_owner(path)
        except DataFormatError:
            raise DataFormatError(
                f"{path}: is no search index that imglish could know again, so it is not replaced: delete it "
                "yourself, or give another file"
            ) from None
    try:
        for suffix in ("-journal", "-wal", "-shm", ""):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be deleted ({error.strerror})") from None


def _is_empty(path: Path) -> bool:
    """Whether nothing is there yet: no file, or one of no bytes, as a process that died at once leaves it."""
    try:
        if path.is_dir():
            raise DataFormatError(f"{path}: is a folder; expected the file of a search index")
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}); expected a search index") from None


def _blob(vector: NDArray[np.float32]) -> bytes:
    return vector.astype(_HALF).tobytes()


def _stored(path: str) -> str | bytes:
    """A path as the file has it: text, but for names that are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _text(stored: object) -> str:
    return os.fsdecode(stored) if isinstance(stored, bytes) else str(stored)


def _missing(path: Path) -> DataFormatError:
    return DataFormatError(f"{path}: no such index; make one with imglish index FOLDER")


def _damaged(path: Path, found: str) -> DataFormatError:
    return DataFormatError(
        f"{path}: is damaged (found {found}); make it anew with imglish index FOLDER --rebuild"
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what SQLite says into a sentence and what to do."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a mistake of ours
    except sqlite3.Error as error:
        told: Sequence[str] = {
            sqlite3.SQLITE_BUSY: (
                "another process has been writing to it for half a minute",
                "try again later",
            ),
            sqlite3.SQLITE_READONLY: ("cannot be written", "give another file with --out"),
            sqlite3.SQLITE_CANTOPEN: (
                "cannot be opened or made",
                "check the folder's permissions, or give another file",
            ),
            sqlite3.SQLITE_FULL: (
                "no space is left on the disk",
                "what was indexed before is kept: make room, then go on",
            ),
            sqlite3.SQLITE_IOERR: (
                "the disk failed while it was read or written",
                "what was indexed before is kept: check the disk, then go on",
            ),
        }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, ())
        if not told:
            raise _damaged(path, str(error)) from error
        raise DataFormatError(f"{path}: {told[0]} ({error}); {told[1]}") from error
