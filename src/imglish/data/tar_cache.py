"""A folder of fetched tars that several processes share: each is fetched once, and the oldest make room.

Locks are those of ``flock``; they end with the process that holds them, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TarCache:
    """The tars in the folders of a folder.

    Args:
        root: The folder.
        limit: Most bytes of tars; 0 sets no limit. Tars that are being read, and those being fetched at this
            moment, may exceed it.
    """

    root: Path
    limit: int = 0

    def open(self, tar: Path, size: int | None, fetch: Callable[[Path], None]) -> int:
        """Open a tar, fetched where it is missing or of another size; while it is open it is not removed.

        Args:
            tar: Where it lies, or is to lie, in a folder of ``root``.
            size: Its bytes; None where they are not known.
            fetch: Writes it to the given path, or raises.

        Returns:
            A file descriptor, for the caller to close.
        """
        if (descriptor := self._opened(tar, size)) is not None:
            return descriptor
        tar.parent.mkdir(parents=True, exist_ok=True)
        with locked(tar.with_name(f".{tar.name}.lock")):
            # Whoever held the lock before may have fetched it.
            descriptor = self._opened(tar, size)
            return self._fetched(tar, size, fetch) if descriptor is None else descriptor

    def _opened(self, tar: Path, size: int | None) -> int | None:
        """The opened tar, or None where it must be fetched."""
        try:
            descriptor = os.open(tar, os.O_RDONLY)
        except FileNotFoundError:
            return None
        self._use(descriptor)
        found = os.fstat(descriptor)
        if found.st_nlink and size in (None, found.st_size):
            if self.limit:
                # The time of the last use; many disks are mounted so that reading does not set it.
                os.utime(descriptor, ns=(time.time_ns(), found.st_mtime_ns))
            return descriptor
        os.close(descriptor)  # removed since, or cut
        return None

    def _fetched(self, tar: Path, size: int | None, fetch: Callable[[Path], None]) -> int:
        partial = tar.with_name(f"{tar.name}.partial")
        self._make_room(size or 0)
        try:
            fetch(partial)
            descriptor = os.open(partial, os.O_RDONLY)
            self._use(descriptor)  # before anyone can see it
            partial.replace(tar)
        finally:
            partial.unlink(missing_ok=True)
        self._make_room(0)  # others may have fetched in the meantime
        return descriptor

    def _use(self, descriptor: int) -> None:
        if self.limit:
            fcntl.flock(descriptor, fcntl.LOCK_SH)

    def _make_room(self, wanted: int) -> None:
        """Remove the tars that were not used for longest, until there is room for ``wanted`` bytes."""
        if not self.limit:
            return
        with locked(self.root / ".room.lock"):
            tars = [(path.stat(), path) for path in self.root.glob("*/*") if _is_tar(path)]
            total = wanted + sum(found.st_size for found, _ in tars)
            for found, path in sorted(tars, key=lambda each: each[0].st_atime_ns):
                if total <= self.limit:
                    return
                if _remove_unused(path):
                    total -= found.st_size


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that a file stands for, once no other process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_tar(path: Path) -> bool:
    return path.suffix not in (".idx", ".partial") and not path.name.startswith(".")


def _remove_unused(tar: Path) -> bool:
    """Remove a tar that nobody has open; False where somebody has."""
    descriptor = os.open(tar, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tar.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
