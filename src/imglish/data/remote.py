"""Shards by pattern: on the local disk, or at an address that fsspec reads.

Of remote shards the indexes are copied at once, and each tar when a sample of it is read for the first time.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from imglish.data.shard_index import index_path, indexed_bytes
from imglish.data.shards import TarStore, index_shard
from imglish.data.tar_cache import TarCache, locked
from imglish.errors import ConfigError, DataFormatError, RemoteError

log = logging.getLogger(__name__)
_WAITS = (1.0, 4.0, 15.0)  # seconds before a second try, a third and a fourth
_AT_ONCE = 16  # indexes that are copied at once
T = TypeVar("T")


class FoundShards(NamedTuple):
    """The tars that a pattern means, sorted by path, and where they are fetched from if they are remote."""

    paths: list[Path]
    store: TarStore | None = None


def find_shards(pattern: str, cache: Path, cache_bytes: int = 0) -> FoundShards:
    """Find the tars of a data set.

    Args:
        pattern: A tar, a folder (all ``*.tar`` in it) or a pattern with ``*``; on the local disk, or with a
            protocol before ``://``, such as ``s3://bucket/pairs-*.tar``.
        cache: Where remote tars and their indexes are copied to; what is there in the right size stays.
        cache_bytes: Most bytes of tars in it, those not used for longest make room; 0 sets no limit.

    Raises:
        ConfigError: There is no reader for the protocol, or a tar alone is larger than ``cache_bytes``.
        DataFormatError: There is no such tar.
        RemoteError: The remote can not be read.
    """
    if "://" in pattern:
        return _find_remote(pattern, TarCache(cache.expanduser(), cache_bytes))
    path = Path(pattern)
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
    else:
        found = [path] if path.is_file() else sorted(map(Path, glob.glob(pattern, recursive=True)))
    if not found:
        raise DataFormatError(f"{pattern}: no tar here; expected shards: check the path or pattern")
    return FoundShards(found)


class _File(NamedTuple):
    """A remote file: its name in its file system, and its bytes, None where they are not told."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class RemoteTars:
    """Tars at an address, fetched when they are opened.

    Args:
        url: What its file system is found by, in each process anew: connections do not outlive a fork.
        files: The remote file of each path in the cache.
        cache: Where they are copied to.
    """

    url: str
    files: Mapping[Path, _File]
    cache: TarCache

    def size(self, tar: Path) -> int | None:
        """Bytes of a tar; None where they are not known."""
        return self.files[tar].size

    def open(self, tar: Path) -> int:
        """File descriptor of a tar, for the caller to close; raises RemoteError where it can not be had."""
        file = self.files[tar]
        try:
            return self.cache.open(tar, file.size, lambda partial: self._download(file, partial))
        except OSError as error:
            raise RemoteError(
                f"{tar}: can not be written or read in the cache ({error.strerror}); make room, or check "
                "your rights there"
            ) from None

    def _download(self, file: _File, partial: Path) -> None:
        _try(lambda: _get(_file_system(self.url)[0], file, partial), file.name)


def _find_remote(url: str, cache: TarCache) -> FoundShards:
    system, pattern = _file_system(url)
    tars, indexes = _try(lambda: _listed(system, pattern), url)
    if not tars:
        raise DataFormatError(f"{url}: no tar here; expected shards: check the address or pattern")
    _check_room(url, tars, cache)
    files: dict[Path, _File] = {}
    for file in tars:
        folder, _, base = file.name.rpartition("/")
        place = hashlib.sha256(f"{url.partition('://')[0]}://{folder}".encode()).hexdigest()[:16]
        files[cache.root / place / base] = file
    for folder_here in {path.parent for path in files}:
        folder_here.mkdir(parents=True, exist_ok=True)
    # One process copies the indexes; the others, if any, find them there.
    with locked(cache.root / ".indexes.lock"):
        wanted = [path for path, file in files.items() if not _is_current(path, file, indexes)]
        there = [path for path in wanted if f"{files[path].name}.idx" in indexes]
        without = [path for path in wanted if f"{files[path].name}.idx" not in indexes]
        if there:
            log.info("%s: copying the indexes of %d tars", url, len(there))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda path: _copy_index(system, files[path], indexes, path), there))
        files = {
            path: file if file.size is not None else file._replace(size=indexed_bytes(path))
            for path, file in files.items()
        }
        store = RemoteTars(url, files, cache)
        _index_here(url, without, store)
    return FoundShards(list(files), store)


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of an address, and what the address is in it."""
    import fsspec  # takes time to import, and only remote data needs it

    try:
        system, pattern = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{url}: no reader for this protocol ({error}); install what it names, or check it"
        ) from None
    return system, pattern


def _listed(system: Any, pattern: str) -> tuple[list[_File], dict[str, int | None]]:
    """The tars, sorted by name, and the bytes of the indexes by name."""
    if not any(sign in pattern for sign in "*?["):
        # Asked whether it is a folder, a web server would send the tar.
        if pattern.endswith(".tar") or not system.isdir(pattern):
            index = f"{pattern}.idx"
            indexes = {index: system.info(index).get("size")} if system.exists(index) else {}
            return [_File(pattern, system.info(pattern).get("size"))], indexes
        pattern = f"{pattern.rstrip('/')}/*.tar"
    # A listing kept from before a failed try may be of nothing.
    system.invalidate_cache()
    found = system.glob(pattern, detail=True)
    tars = [_File(name, info.get("size")) for name, info in found.items() if info.get("type") != "directory"]
    indexes = {name: info.get("size") for name, info in system.glob(f"{pattern}.idx", detail=True).items()}
    return sorted(tars), indexes


def _check_room(url: str, tars: list[_File], cache: TarCache) -> None:
    sizes = [file.size or 0 for file in tars]
    if cache.limit and max(sizes) > cache.limit:
        raise ConfigError(
            f"data.cache_gigabytes: {cache.limit / 1e9:g} GB are less than one tar of {url}, which has "
            f"{max(sizes) / 1e9:.3g}; allow more, or pack into smaller tars"
        )
    if cache.limit and sum(sizes) > cache.limit:
        log.warning(
            "%s: has %.3g GB, more than the %g that data.cache_gigabytes allows: as samples are read in "
            "random order, tars will be fetched again and again",
            url,
            sum(sizes) / 1e9,
            cache.limit / 1e9,
        )


def _is_current(tar: Path, file: _File, indexes: Mapping[str, int | None]) -> bool:
    """True where the index of a tar is here already, and of a tar of this size."""
    index = index_path(tar)
    if not index.is_file() or file.size not in (None, indexed_bytes(tar)):
        return False
    return indexes.get(f"{file.name}.idx") in (None, index.stat().st_size)


def _copy_index(system: Any, file: _File, indexes: Mapping[str, int | None], tar: Path) -> None:
    index = _File(f"{file.name}.idx", indexes[f"{file.name}.idx"])
    partial = index_path(tar).with_name(f"{index_path(tar).name}.partial")
    try:
        _try(lambda: _get(system, index, partial), index.name)
        partial.replace(index_path(tar))
    finally:
        partial.unlink(missing_ok=True)


def _index_here(url: str, tars: list[Path], store: RemoteTars) -> None:
    """Fetch the tars that have no index, and go through them."""
    if tars:
        log.warning("%s: %d tars have no index beside them, and are copied now to make one", url, len(tars))
    for number, tar in enumerate(tars, start=1):
        descriptor = store.open(tar)
        try:
            index_shard(tar)
        finally:
            os.close(descriptor)
        if number % 100 == 0 or number == len(tars):
            log.info("%s: %d of %d tars are indexed", url, number, len(tars))


def _get(system: Any, file: _File, target: Path) -> None:
    system.get_file(file.name, str(target))
    found = target.stat().st_size
    if file.size is not None and found != file.size:
        raise OSError(f"{found} of {file.size} bytes arrived")


def _try(action: Callable[[], T], what: str) -> T:
    """What an action gives, tried again after a while where it fails; raises RemoteError in the end.

    A full disk is no matter of the remote: the OSError that says so is raised at once.
    """
    for wait in (*_WAITS, None):
        try:
            return action()
        # Each file system of fsspec raises errors of its own client's; all mean that nothing can be read.
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            if wait is None or isinstance(error, (FileNotFoundError, PermissionError)):
                tries = "" if wait is not None else f" after {len(_WAITS) + 1} tries"
                raise RemoteError(
                    f"{what}: can not be read{tries} ({reason}); check the address, the network and your "
                    "rights"
                ) from error
            log.warning("%s: can not be read (%s); the next try is in %g s", what, reason, wait)
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")
