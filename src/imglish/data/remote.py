"""Shards by pattern: on the local disk, or at an address that fsspec reads, copied here first."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path
from typing import Any

from imglish.data.shard_index import index_path
from imglish.errors import ConfigError, DataFormatError


def find_shards(pattern: str, cache: Path) -> list[Path]:
    """The tars that a pattern means, sorted by path.

    Args:
        pattern: A tar, a folder (all ``*.tar`` in it) or a pattern with ``*``; on the local disk, or with a
            protocol before ``://``, such as ``s3://bucket/pairs-*.tar``.
        cache: Where remote tars and their indexes are copied to; what is there in the right size stays.

    Raises:
        ConfigError: There is no reader for the protocol.
        DataFormatError: There is no such tar, or it can not be fetched whole.
    """
    if "://" in pattern:
        return _fetch(pattern, cache)
    path = Path(pattern)
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
    else:
        found = [path] if path.is_file() else sorted(map(Path, glob.glob(pattern, recursive=True)))
    if not found:
        raise DataFormatError(f"{pattern}: no tar here; expected shards: check the path or pattern")
    return found


def _fetch(url: str, cache: Path) -> list[Path]:
    import fsspec  # takes time to import, and only remote data needs it

    try:
        system, pattern = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{url}: no reader for this protocol ({error}); install what it names, or check it"
        ) from None
    try:
        names = _listed(system, pattern)
        if not names:
            raise DataFormatError(f"{url}: no tar here; expected shards: check the address or pattern")
        return [_copy(system, name, url, cache) for name in names]
    except DataFormatError:
        raise
    # Each file system of fsspec raises errors of its own client's; all mean that nothing can be read.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataFormatError(
            f"{url}: can not be read ({reason}); check the address, the network and your rights"
        ) from error


def _listed(system: Any, pattern: str) -> list[str]:
    if any(sign in pattern for sign in "*?["):
        return sorted(system.glob(pattern))
    if system.isdir(pattern):
        return sorted(system.glob(f"{pattern.rstrip('/')}/*.tar"))
    return [pattern]


def _copy(system: Any, name: str, url: str, cache: Path) -> Path:
    """The local copy of a tar, with its index where there is one."""
    folder, _, base = name.rpartition("/")
    place = hashlib.sha256(f"{url.partition('://')[0]}://{folder}".encode()).hexdigest()[:16]
    target = cache.expanduser() / place / base
    target.parent.mkdir(parents=True, exist_ok=True)
    _download(system, name, target)
    index = f"{name}.idx"
    if system.exists(index):
        _download(system, index, index_path(target))
    return target


def _download(system: Any, name: str, target: Path) -> None:
    """Copy a file unless it is there in the same size; it appears only when it is whole."""
    size = system.size(name)
    if target.is_file() and size in (None, target.stat().st_size):
        return
    # Every rank may fetch at once: each into a file of its own, and the last to finish stays.
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        system.get_file(name, str(partial))
        found = partial.stat().st_size
        if size is not None and found != size:
            raise DataFormatError(f"{name}: {found} of {size} bytes arrived; expected all: try again")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
