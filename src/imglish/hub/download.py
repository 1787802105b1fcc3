"""Fetching official files into a cache: resumed where the server can, whole or not there at all, and checked.

A file lies as ``NAME`` in the cache; ``NAME.json`` beside it gives its address, size and digest.
While it is on its way it is called ``NAME.part``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from imglish.errors import CheckpointError
from imglish.hub.official_file import OfficialFile

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_GONE = (404, 410)
_RANGE_REFUSED = 416


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is remembered of a downloaded file: address, bytes, and SHA-256 in hexadecimal."""

    url: str
    size: int
    sha256: str


def cache_folder() -> Path:
    """Where downloads lie: ``$IMGLISH_CACHE``, else ``imglish`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("IMGLISH_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "imglish"


def cached_path(file: OfficialFile) -> Path:
    """Where an official file lies once it is downloaded."""
    suffix = PurePosixPath(urlsplit(file.url).path).suffix
    name = file.name.replace("/", "--")
    return cache_folder() / (name if name.endswith(suffix) else f"{name}{suffix}")


def fetch(file: OfficialFile) -> Path:
    """The official file in the cache, downloaded if it is not there.

    What is there is checked against its receipt and needs no network. Where no size or digest is published,
    the first download is trusted, and all later reading and downloading is compared with it.

    Args:
        file: An entry of the manifest.

    Returns:
        Its path in the cache.

    Raises:
        CheckpointError: It cannot be reached, has moved, broke off, has another size or digest than it
            should, or does not fit on the disk.
    """
    path = cached_path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):  # of several processes one downloads, the others find its file
            if not path.is_file():
                _download(file, path)
                return path
        _check(file, path)
        return path
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror or error}; free the place, or set IMGLISH_CACHE to another folder"
        ) from error


def _check(file: OfficialFile, path: Path) -> None:
    """Compare a cached file with its receipt, or with what is published; write the receipt if it is lost."""
    found = Receipt(file.url, path.stat().st_size, digest(path))
    receipt = _receipt(path)
    if receipt is None:
        _compare(file, found, path)
        _write_receipt(path, found)
        return
    if (receipt.size, receipt.sha256) != (found.size, found.sha256):
        raise CheckpointError(
            f"{path}: damaged since its download ({found.size} bytes, sha256 {found.sha256[:12]}; expected "
            f"{receipt.size} bytes, {receipt.sha256[:12]}); delete it to download it again"
        )
    _compare(file, found, path)


def _compare(file: OfficialFile, found: Receipt, path: Path) -> None:
    """Refuse a file that is not what its authors published."""
    if file.size is not None and file.size != found.size:
        raise CheckpointError(
            f"{path}: has {found.size} bytes, {file.name} was published with {file.size}; "
            "delete it to download it again"
        )
    if file.sha256 is not None and file.sha256 != found.sha256:
        raise CheckpointError(
            f"{path}: sha256 {found.sha256[:12]}, {file.name} was published with {file.sha256[:12]}; "
            "delete it to download it again"
        )


def _compare_with_earlier(found: Receipt, path: Path) -> None:
    """Refuse a file that has changed on the server since it was downloaded first."""
    earlier = _receipt(path)
    if earlier is not None and earlier.url == found.url and earlier.sha256 != found.sha256:
        raise CheckpointError(
            f"{found.url}: no longer the file that was downloaded before (sha256 {found.sha256[:12]}, then "
            f"{earlier.sha256[:12]}); delete {path}.json to take the new one"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _receipt(path: Path) -> Receipt | None:
    note = path.with_name(f"{path.name}.json")
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        return Receipt(str(noted["url"]), int(noted["size"]), str(noted["sha256"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{note}: damaged; expected url, size and sha256 of {path.name}; delete both to download it again"
        ) from error


def _write_receipt(path: Path, receipt: Receipt) -> None:
    note = path.with_name(f"{path.name}.json")
    partial = note.with_name(f".{note.name}.{os.getpid()}")
    partial.write_text(json.dumps(asdict(receipt), indent=1), encoding="utf-8")
    os.replace(partial, note)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process downloads the same file; where the system has no such lock, do not wait."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(file: OfficialFile, path: Path) -> None:
    """Bring a file into the cache."""
    part = path.with_name(f"{path.name}.part")
    tag = part.with_name(f"{part.name}.tag")  # names the version that the part is of
    with _open(file, part, tag) as (response, start):
        total = _total(response, start)
        expected = file.size if total is None else total
        if file.size is not None and file.size != expected:
            raise CheckpointError(
                f"{file.url}: the server offers {expected} bytes, {file.name} was published with "
                f"{file.size}; it has been replaced: do not use it"
            )
        if expected is not None and shutil.disk_usage(part.parent).free < expected - start:
            raise CheckpointError(
                f"{part.parent}: {file.name} needs {(expected - start) / 1e9:.1f} GB more than is free; "
                "make room, or set IMGLISH_CACHE to another folder"
            )
        if not start:  # before the new version is noted, or a part of the old would pass for one of the new
            part.unlink(missing_ok=True)
        _remember(response, tag)
        size = _receive(response, part, start, expected, file)
    if expected is not None and size != expected:
        raise CheckpointError(
            f"{file.url}: broke off after {size} of {expected} bytes; the same command goes on from there"
        )
    found = Receipt(file.url, size, digest(part))
    try:
        _compare(file, found, part)
        _compare_with_earlier(found, path)
    except CheckpointError:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise
    _write_receipt(path, found)
    os.replace(part, path)
    tag.unlink(missing_ok=True)


@contextlib.contextmanager
def _open(file: OfficialFile, part: Path, tag: Path) -> Iterator[tuple[HTTPResponse, int]]:
    """Ask for a file from where its part ends; gives the answer, and from which byte it is."""
    start = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"User-Agent": "imglish", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text(encoding="utf-8")}
    try:
        response = urlopen(Request(file.url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == _RANGE_REFUSED and start:  # the part is no beginning of what lies there now
            part.unlink()
            with _open(file, part, tag) as again:
                yield again
            return
        raise _refusal(file, error.code) from error
    except (URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise CheckpointError(
            f"{file.url}: cannot be reached ({reason}); check the network, or put the file at "
            f"{cached_path(file)}"
        ) from error
    with response:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise CheckpointError(
                f"{file.url}: the server sent a web page, not the file; check the network, or put the file "
                f"at {cached_path(file)}"
            )
        if response.status != 206:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise CheckpointError(f"{file.url}: the server sent another part than asked for; try again")
        yield response, start


def _refusal(file: OfficialFile, code: int) -> CheckpointError:
    why = "no longer there" if code in _GONE else "refused by the server"
    return CheckpointError(
        f"{file.url}: {why} (HTTP {code}); try again later, or put the file at {cached_path(file)}"
    )


def _remember(response: HTTPResponse, tag: Path) -> None:
    """Note which version of the file comes in; without a name for it a part cannot be continued."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if version and not version.startswith("W/"):  # a weak name may stand for other bytes
        tag.write_text(version, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _total(response: HTTPResponse, start: int) -> int | None:
    """Bytes of the whole file, where the server says it."""
    if match := re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "")):
        return int(match[2])
    length = response.headers.get("Content-Length")
    return start + int(length) if length is not None else None


class _Bar(Protocol):
    def __call__(self, size: int) -> None: ...


def _receive(response: HTTPResponse, part: Path, start: int, total: int | None, file: OfficialFile) -> int:
    """Write what comes in behind the first ``start`` bytes of the part; returns its size."""
    size = start
    with part.open("r+b" if start else "wb") as out, _progress(file.name, start, total) as show:
        out.seek(start)
        try:
            while chunk := response.read(_CHUNK):
                out.write(chunk)
                size += len(chunk)
                show(size)
        except (HTTPException, TimeoutError, ConnectionError) as error:
            _flush(out)
            raise CheckpointError(
                f"{file.url}: broke off after {size} bytes ({error or type(error).__name__}); "
                "the same command goes on from there"
            ) from error
        _flush(out)
    return size


def _flush(out: IO[bytes]) -> None:
    out.flush()
    os.fsync(out.fileno())


@contextlib.contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[_Bar]:
    """A bar on the terminal, if there is one."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(name, total=total, completed=start)
        yield lambda size: progress.update(bar, completed=size)
