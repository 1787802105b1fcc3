"""Folders of tiny pictures with a tiny dual encoder, to be indexed, and what an index file holds."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imglish.inference.index import SearchIndex, default_path
from imglish.inference.index_identity import model_identity
from imglish.inference.pictures import Pictures
from imglish.inference.predictor import Predictor, Vectors
from tests.inference.tiny_weights import pixels

NOBODY = 65534


class CountingPredictor(Predictor):
    """A predictor that also counts the pictures it encodes."""

    num_encoded = 0

    def embed_images(self, pictures: Pictures) -> Vectors:
        self.num_encoded += len(pictures) if isinstance(pictures, list) else 1
        return super().embed_images(pictures)


class Row(NamedTuple):
    """What an index file has of a picture."""

    num_bytes: int
    mtime_ns: int
    hash: bytes
    size: tuple[int, int]
    vector: NDArray[np.float16]


def write_picture(path: Path, seed: int, *, height: int = 20, width: int = 30, days_ago: float = 1) -> Path:
    """A PNG file that was last changed some days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(height, width, seed)).save(path, "PNG")
    make_older(path, days_ago)
    return path


def make_older(path: Path, days: float) -> None:
    changed = os.stat(path).st_mtime_ns - int(days * 86_400e9)
    os.utime(path, ns=(changed, changed))


def write_pictures(folder: Path, count: int) -> Path:
    """Pictures 00.png and on, every third in a folder below."""
    for seed in range(count):
        write_picture(
            folder / ("below" if seed % 3 == 0 else "") / f"{seed:02}.png", seed, height=16 + seed % 5
        )
    return folder


def indexed(folder: Path, predictor: Predictor) -> SearchIndex:
    """The index of a folder, up to date."""
    index = SearchIndex.create(default_path(folder), folder, model_identity(predictor))
    index.update(predictor, batch_size=4, workers=2)
    return index


def rows(path: Path) -> dict[str, Row]:
    """All pictures of an index file, read without our code."""
    with closing(sqlite3.connect(path)) as file:
        found = file.execute(
            "SELECT path, bytes, mtime_ns, hash, height, contents.width, vector "
            "FROM pictures JOIN contents ON content = id"
        ).fetchall()
    return {
        os.fsdecode(path): Row(size, mtime, digest, (height, width), np.frombuffer(vector, "<f2"))
        for path, size, mtime, digest, height, width, vector in found
    }


def expected_rows(folder: Path, paths: list[str], predictor: Predictor) -> dict[str, Row]:
    """What an index should have of pictures, from the files themselves."""
    found = {}
    for path in paths:
        file = folder / path
        with Image.open(file) as image:
            size = (image.height, image.width)
        vector = np.asarray(predictor.embed_images(file)).astype(np.float16)
        status = file.stat()
        digest = hashlib.sha256(file.read_bytes()).digest()
        found[path] = Row(status.st_size, status.st_mtime_ns, digest, size, vector)
    return found


def assert_same(found: dict[str, Row], expected: dict[str, Row]) -> None:
    """The same pictures; vectors may differ by what a batch of another size sums in another order."""
    assert sorted(found) == sorted(expected)
    for path, row in expected.items():
        assert found[path][:4] == row[:4], path
        np.testing.assert_allclose(found[path].vector.astype(float), row.vector.astype(float), atol=2e-3)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, whom no permission stops; nothing changes for others."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
