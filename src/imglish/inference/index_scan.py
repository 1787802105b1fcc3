"""The pictures of a folder: which there are, and what each holds."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from imglish.errors import DataFormatError
from imglish.inference.pictures import open_picture

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
)
MAX_BYTES = 2**30  # of a file; what is larger is no picture of at most MAX_PIXELS
UNCERTAIN_NS = -1  # a time of change that no file has

# Clocks of file systems may step by two seconds (FAT): a file that was written so shortly before it was read
# may be written again without another time of change.
_CLOCK_STEP_NS = 2_000_000_000


class Skipped(NamedTuple):
    """What could not be indexed: its path below the folder, and why."""

    path: str
    reason: str


class PictureFile(NamedTuple):
    """A picture file: path below the folder with "/", size in bytes, time of change in nanoseconds."""

    path: str
    num_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds.

    Args:
        files: Picture files, sorted by path.
        unread: Folders in it that could not be listed, and files that could not be looked at.
        num_links: Symbolic links to pictures and folders that were not followed.
    """

    files: tuple[PictureFile, ...]
    unread: tuple[Skipped, ...]
    num_links: int

    def may_hold(self, path: str) -> bool:
        """Whether a path is, or lies in, something that could not be looked at."""
        return any(path == one.path or path.startswith(f"{one.path}/") for one in self.unread)


class Read(NamedTuple):
    """A picture as it was read.

    Args:
        file: As it was then; its time is `UNCERTAIN_NS` where that could not tell of a later change.
        hash: SHA-256 of its bytes.
        pixels: uint8 (3, H, W); None where the content is known.
    """

    file: PictureFile
    hash: bytes
    pixels: Tensor | None


class Unusable(NamedTuple):
    """A file that gave no picture.

    Args:
        path: Below the folder.
        reason: Why.
        is_gone: True where there is no such file any more, or its content is no picture: what was known of it
            holds no longer. False where nobody can tell, as without the permission to read it.
    """

    path: str
    reason: str
    is_gone: bool


def scan_folder(root: Path) -> Scan:
    """Find the picture files in a folder and the folders in it.

    Names that begin with a dot are left out. A symbolic link to a picture is followed only where it leads to
    a file in the folder that is not found by itself, such as one in a hidden folder; links to folders never.

    Raises:
        DataFormatError: There is no such folder, or it cannot be listed.
    """
    check_folder(root)
    files: list[PictureFile] = []
    unread: list[Skipped] = []
    real_root, num_links, waiting = os.path.realpath(root), 0, [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError as error:
            if not folder:
                raise _unlisted(root, error) from None
            unread.append(Skipped(folder, f"cannot be listed ({error.strerror})"))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                if entry.is_symlink():
                    found = _linked(root, real_root, path)
                    num_links += found is None and (_is_picture(path) or os.path.isdir(entry))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                    continue
                else:
                    found = _stated(root, path) if _is_picture(path) else None
            except FileNotFoundError:
                continue  # it has vanished since
            except OSError as error:
                unread.append(Skipped(path, f"cannot be looked at ({error.strerror})"))
                continue
            if found is not None:
                files.append(found)
    return Scan(tuple(sorted(files)), tuple(sorted(unread)), num_links)


def check_folder(root: Path) -> None:
    """Raise DataFormatError where there is no such folder, or it cannot be listed."""
    try:
        os.scandir(root).close()
    except OSError as error:
        raise _unlisted(root, error) from None


def read_file(root: Path, path: str, known: Container[bytes], max_pixels: int) -> Read | Unusable:
    """Read a picture file, and decode it where its content is not known.

    Args:
        root: The folder.
        path: Below it.
        known: Hashes of contents that need not be decoded.
        max_pixels: Larger pictures are unusable.
    """
    try:
        begun = time.time_ns()
        data, status = _read_bytes(root / path)
    except FileNotFoundError:
        return Unusable(path, "has vanished meanwhile", is_gone=True)
    except OSError as error:
        return Unusable(path, f"cannot be read ({error.strerror})", is_gone=False)
    if status.st_size > MAX_BYTES:
        return Unusable(path, f"has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read", is_gone=True)
    if len(data) != status.st_size:
        return Unusable(path, "was written to while it was read", is_gone=False)
    is_certain = status.st_mtime_ns + _CLOCK_STEP_NS < begun
    file = PictureFile(path, status.st_size, status.st_mtime_ns if is_certain else UNCERTAIN_NS)
    digest = hashlib.sha256(data).digest()
    if digest in known:
        return Read(file, digest, None)
    try:
        return Read(file, digest, open_picture(data, path, max_pixels=max_pixels))
    except DataFormatError as error:
        return Unusable(path, str(error).removeprefix(f"{path}: ").partition("; expected")[0], is_gone=True)


def shown_path(path: str) -> str:
    """A path that can be printed anywhere: characters that cannot become escapes, as in Python."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in path
    )


def file_in(root: Path, path: str) -> Path | None:
    """The file that a path below a folder leads to, or None where it leads nowhere or out of the folder."""
    try:
        real = os.path.realpath(root / path, strict=True)
        inside = os.path.commonpath([os.path.realpath(root), real]) == os.path.realpath(root)
        return Path(real) if inside and stat.S_ISREG(os.stat(real).st_mode) else None
    except (OSError, ValueError):
        return None


def _unlisted(root: Path, error: OSError) -> DataFormatError:
    advice = "check its permissions" if isinstance(error, PermissionError) else "check the path"
    return DataFormatError(
        f"{root}: cannot be listed ({error.strerror}); expected a folder of pictures: {advice}"
    )


def _is_picture(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES


def _stated(root: Path, path: str) -> PictureFile | None:
    """A regular file with its size and time; None where it is something else."""
    status = os.stat(root / path)
    return PictureFile(path, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _linked(root: Path, real_root: str, path: str) -> PictureFile | None:
    """What a link leads to, if that is a file of the folder which is not found by itself."""
    real = file_in(root, path) if _is_picture(path) else None
    if real is None:
        return None
    within = real.relative_to(real_root)
    is_found_itself = _is_picture(within.name) and not any(part.startswith(".") for part in within.parts)
    return None if is_found_itself else _stated(root, path)


def _read_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """A regular file's bytes, none of it if there are too many, and what it was when they had been read."""
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )  # a pipe would make us wait
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError
        data = file.read() if status.st_size <= MAX_BYTES else b""
        return data, os.fstat(file.fileno())
