"""MATLAB files, against those that SciPy writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from imglish.data.formats.matlab import read_matlab_array
from imglish.errors import DataFormatError


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (37, 23), (2, 3, 4), (0, 5)])
def test_arrays_of_every_kind_come_back(
    tmp_path: Path, kind: str, shape: tuple[int, ...], compressed: bool
) -> None:
    draw = np.random.default_rng(0)
    array = (draw.random(shape) * 120).astype(kind)
    content = {
        "first": np.arange(3),
        "S": array,
        "words": "a text",
        "cells": np.array([[1, "a"]], dtype=object),
    }
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    found = read_matlab_array(tmp_path / "a.mat", "S")
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, array)


def test_numbers_that_are_stored_in_fewer_bytes_have_the_type_of_the_array(tmp_path: Path) -> None:
    """MATLAB writes small whole numbers of a double as bytes; SciPy does not, so such a file is made here."""
    path = tmp_path / "a.mat"
    savemat(path, {"S": np.array([[1.0, 2.0, 3.0, 4.0]])})
    data = bytearray(path.read_bytes())
    numbers = np.array([1.0, 2.0, 3.0, 4.0]).tobytes()
    start = data.index(numbers)
    # A tiny element: four bytes of uint8 in place of the tag and the doubles; the matrix is 32 bytes shorter.
    small = np.array([2 | (4 << 16)], "<u4").tobytes() + bytes([1, 2, 3, 4])
    data[start - 8 :] = small
    data[132:136] = np.array([len(data) - 136], "<u4").tobytes()
    path.write_bytes(bytes(data))
    found = read_matlab_array(path, "S")
    assert found.dtype == np.float64 and found.tolist() == [[1, 2, 3, 4]]


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    flags, sizes = np.array([11, 0], ">u4").tobytes(), np.array([2, 2], ">i4").tobytes()
    values = np.array([1, 3, 2, 4], ">u2").tobytes()  # down the columns
    tags = [np.array(tag, ">u4").tobytes() for tag in ((6, 8), (5, 8), ((1 << 16) | 1,), (4, 8))]
    matrix = tags[0] + flags + tags[1] + sizes + tags[2] + b"S\0\0\0" + tags[3] + values
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
    (tmp_path / "a.mat").write_bytes(header + np.array([14, len(matrix)], ">u4").tobytes() + matrix)
    assert read_matlab_array(tmp_path / "a.mat", "S").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_told_or_does_no_harm(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"S": np.arange(600, dtype=np.uint16).reshape(20, 30)}, do_compression=compressed)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(DataFormatError, match=r"a\.mat: (is|has) "):
            read_matlab_array(path, "S")
    draw = np.random.default_rng(0)
    for place in draw.integers(128, len(whole), 200):
        damaged = bytearray(whole)
        damaged[place] ^= int(draw.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            read_matlab_array(path, "S")
        except DataFormatError as error:
            assert "\n" not in str(error)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"a\.mat: cannot be read \(No such file"):
        read_matlab_array(tmp_path / "a.mat", "S")
