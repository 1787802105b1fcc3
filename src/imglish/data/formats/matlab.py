"""Numeric arrays of MATLAB files, versions 5 to 7 (MAT-File Format, MathWorks; its "Level 5" chapter)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imglish.errors import DataFormatError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# Types of stored numbers, and classes of arrays; MATLAB stores small whole numbers of any class in few bytes.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


class _Element(NamedTuple):
    kind: int
    data: memoryview


def read_matlab_array(path: Path, variable: str) -> NDArray[np.generic]:
    """A numeric array of a MATLAB file.

    Args:
        path: The file.
        variable: Name of the array.

    Raises:
        DataFormatError: The file is missing, damaged or of another version, or has no such array of numbers.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}); expected a MATLAB file") from None
    version = data[:_HEADER]
    if not version.startswith(b"MATLAB 5.0") or version[126:] not in (b"IM", b"MI"):
        raise DataFormatError(
            f"{path}: is no MATLAB file of version 5 to 7; save it with save(..., '-v7'), or get it again"
        )
    order = "<" if version[126:] == b"IM" else ">"
    try:
        for kind, content in _elements(memoryview(data)[_HEADER:], order):
            found = _named(
                memoryview(zlib.decompress(content)) if kind == _COMPRESSED else content, kind, order
            )
            if found is not None and found[0] == variable:
                return _array(found[1], order)
    except (zlib.error, struct.error, ValueError, IndexError, KeyError) as error:
        raise DataFormatError(f"{path}: is damaged ({type(error).__name__}); get it again") from error
    raise DataFormatError(f"{path}: has no array {variable}; check that it is a file of that data set")


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Tagged pieces, one after the other, padded to 8 bytes unless they are compressed or tiny."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # a tiny one: kind and size share four bytes, its data are the next four
            yield _Element(kind & 0xFFFF, data[place + 4 : place + 4 + (kind >> 16)])
            place += 8
            continue
        if place + 8 + size > len(data):
            raise ValueError("cut short")
        yield _Element(kind, data[place + 8 : place + 8 + size])
        place += 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)


def _named(content: memoryview, kind: int, order: str) -> tuple[str, list[_Element]] | None:
    """Name and parts of a matrix; None where the element is none."""
    if kind == _COMPRESSED:
        kind, content = next(_elements(content, order))
    if kind != _MATRIX:
        return None
    parts = list(_elements(content, order))
    return bytes(parts[2].data).decode("latin-1"), parts


def _array(parts: list[_Element], order: str) -> NDArray[np.generic]:
    """An array from its flags, sizes, name and numbers; structures and text have other parts."""
    flags, sizes, _, numbers = parts[:4]
    wanted = _CLASSES[struct.unpack_from(f"{order}I", flags.data)[0] & 0xFF]
    shape = np.frombuffer(sizes.data, dtype=f"{order}i4").tolist()
    stored = np.frombuffer(numbers.data, dtype=f"{order}{_STORED[numbers.kind]}")
    if stored.size != prod(shape):
        raise ValueError("numbers are missing")
    array: NDArray[np.generic] = stored.astype(wanted).reshape(shape, order="F")
    return array
