"""The index beside a tar shard: ``x.tar.idx`` says where each sample of ``x.tar`` begins and ends.

A line of JSON (the size of the tar, the number of samples, their checksum), then two little-endian int64 for
each sample. With it a set of thousands of tars opens without reading a header of theirs.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imglish.errors import DataFormatError

_FORMAT = "imglish shard index 1"


def index_path(tar: Path) -> Path:
    """Where the index of a tar lies."""
    return tar.with_name(f"{tar.name}.idx")


def write_index(tar: Path, spans: NDArray[np.int64]) -> None:
    """Write the index of a tar; it appears only when it is whole.

    Args:
        tar: The tar, as it is now.
        spans: Begin and end in bytes of each sample, int64 (num_samples, 2).
    """
    data = spans.astype("<i8").tobytes()
    head = {
        "format": _FORMAT,
        "tar_bytes": tar.stat().st_size,
        "samples": len(spans),
        "crc32": zlib.crc32(data),
    }
    path = index_path(tar)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(json.dumps(head).encode() + b"\n" + data)
    partial.replace(path)


def read_index(tar: Path, tar_bytes: int | None) -> NDArray[np.int64] | None:
    """Begin and end of each sample, int64 (num_samples, 2); None where the tar has no index.

    Args:
        tar: The tar, which need not be here.
        tar_bytes: Its size; None where that is not known.

    Raises:
        DataFormatError: The index is damaged, or of a tar of another size: one of the two is stale or cut.
    """
    path = index_path(tar)
    try:
        head, _, data = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataFormatError(
            f"{path}: cannot be read ({error.strerror}); expected the index of {tar.name}"
        ) from None
    try:
        values = json.loads(head)
        known = values["format"] == _FORMAT
        whole = len(data) == 16 * values["samples"] and zlib.crc32(data) == values["crc32"]
        size = int(values["tar_bytes"])
    except (ValueError, KeyError, TypeError):
        known = whole = False
        size = 0
    if not (known and whole):
        raise DataFormatError(
            f"{path}: is damaged or no index; delete it, and the tar is gone through instead, or get it again"
        )
    if tar_bytes is not None and tar_bytes != size:
        state = "the tar is cut short: get it again" if tar_bytes < size else "the index is stale: delete it"
        raise DataFormatError(
            f"{tar}: has {tar_bytes} bytes, but its index {path.name} is of {size}; {state}"
        )
    return np.frombuffer(data, dtype="<i8").reshape(-1, 2).astype(np.int64, copy=False)


def indexed_bytes(tar: Path) -> int | None:
    """The size that the index of a tar gives it; None where it has no index, or one that does not say."""
    try:
        with index_path(tar).open("rb") as file:
            return int(json.loads(file.readline(1000))["tar_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_newer(tar: Path) -> bool:
    """True where the tar was changed after its index was written, or copied after it."""
    return tar.stat().st_mtime_ns > index_path(tar).stat().st_mtime_ns
