from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

WriteJson = Callable[[str, object], Path]


@pytest.fixture
def write_json(tmp_path: Path) -> WriteJson:
    """Write a json document into the test's folder."""

    def write(name: str, document: object) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with files a.jpg, b.jpg and more/c.jpg; readers never decode them."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "more/c.jpg"):
        (folder / name).write_bytes(b"x")
    return folder
