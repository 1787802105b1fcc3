"""Whatever happens to an index file, it is whole, or one sentence says what is wrong and what to do."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from imglish.errors import DataFormatError
from imglish.hub.run import load_run
from imglish.inference import index_store
from imglish.inference.index import SearchIndex
from imglish.inference.index_identity import model_identity
from imglish.inference.index_store import About, Content, IndexStore, Known, remove_index
from imglish.inference.predictor import Predictor
from tests.architecture.source_tree import ROOT
from tests.inference.index_folders import CountingPredictor, as_nobody, assert_same, rows, write_picture
from tests.inference.tiny_weights import write_run

ABOUT = About("/pictures", "tiny", "00", 8)
ONE = {bytes(32): Content((4, 5), np.eye(8, dtype=np.float32)[0])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index of two pictures that are equal."""
    path = tmp_path / "index.sqlite"
    with IndexStore(path, ABOUT) as store:
        store.save({"a.png": Known(1, 2, bytes(32)), "b.png": Known(3, 4, bytes(32))}, ONE)
    return path


def test_what_was_saved_is_loaded(path: Path) -> None:
    with IndexStore(path) as store:
        assert store.about == ABOUT and store.hashes() == {bytes(32)}
        assert store.known() == {"a.png": Known(1, 2, bytes(32)), "b.png": Known(3, 4, bytes(32))}
        loaded = store.load()
    assert loaded.paths == ("a.png", "b.png") and loaded.contents.tolist() == [0, 0]
    assert loaded.vectors.tolist() == [[1, *[0] * 7]] and loaded.sizes.tolist() == [[4, 5]]
    with IndexStore(path, ABOUT._replace(model="another")) as store:
        assert store.about == ABOUT  # what is there stays
        store.forget(["a.png"])
        assert store.hashes() == {bytes(32)}
        store.forget(["b.png", "unknown.png"])
        assert store.hashes() == set() and store.known() == {}


def test_a_picture_whose_content_is_gone_is_not_saved(path: Path) -> None:
    with IndexStore(path) as store:
        with pytest.raises(DataFormatError, match="another process has changed it meanwhile"):
            store.save({"a.png": Known(9, 9, bytes(32)), "c.png": Known(1, 1, b"1" * 32)}, {})
        assert store.known()["a.png"] == Known(1, 2, bytes(32))


def test_a_file_that_is_none_yet_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite").touch()
    for name in ("none.sqlite", "empty.sqlite"):
        with pytest.raises(DataFormatError, match="no such index; make one with imglish index FOLDER"):
            IndexStore(tmp_path / name)
    assert not (tmp_path / "none.sqlite").exists()
    with IndexStore(tmp_path / "empty.sqlite", ABOUT) as store:
        assert store.known() == {}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 2", "layout 2, of a newer imglish; this one reads layout 1: update imglish"),
        ("PRAGMA user_version = 0", "is damaged"),
        ("DELETE FROM about", "is damaged"),
        ("DROP TABLE about", "is damaged"),
        ("DROP TABLE contents", "is damaged"),
        ("UPDATE about SET width = 'x'", "is damaged"),
        ("UPDATE about SET width = 7", "is damaged"),
        ("UPDATE contents SET vector = zeroblob(16)", "vectors that are not of length one"),
        ("UPDATE contents SET vector = x'007c" + "00" * 14 + "'", "vectors that are not of length one"),
        ("UPDATE contents SET vector = 'sixteen letters.'", "vectors that have not 8 numbers"),
        ("UPDATE contents SET vector = zeroblob(14)", "vectors that have not 8 numbers"),
        ("DELETE FROM contents", "pictures without a vector"),
        ("PRAGMA application_id = 7", "a database of something else"),
    ],
)
def test_damage_is_one_sentence_and_mended_by_rebuilding(
    statement: str, message: str, path: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute(statement)
        file.commit()
    with pytest.raises(DataFormatError) as caught:
        SearchIndex.open(path)
    text = str(caught.value)
    is_ours = "something else" not in message
    assert message in text and str(path) in text and "\n" not in text
    assert ("--rebuild" if is_ours else "give another file") in text
    if is_ours:
        remove_index(path)
        assert not path.exists()


@pytest.mark.parametrize("damage", ["cut", "middle", "head", "zeros"])
def test_damaged_bytes_are_one_sentence(damage: str, path: Path) -> None:
    with IndexStore(path) as store:
        vectors = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        store.save({}, {b"%32d" % number: Content((1, 1), row) for number, row in enumerate(vectors)})
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:half],
            "middle": whole[:8192] + b"\xff" * (len(whole) - 8192),
            "head": b"\0" * 100 + whole[100:],
            "zeros": bytes(len(whole)),
        }[damage]
    )
    with pytest.raises(DataFormatError, match=r"(is damaged.*--rebuild|a damaged one.*delete this one)"):
        SearchIndex.open(path)
    path = path.rename(path.with_name(index_store.DEFAULT_NAME))
    with pytest.raises(DataFormatError, match="damaged.*--rebuild"):
        SearchIndex.open(path)


@pytest.mark.parametrize("content", [b"a picture of great worth" * 9, b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_index_is_never_deleted(content: bytes, tmp_path: Path) -> None:
    foreign = tmp_path / "holiday.jpg"
    foreign.write_bytes(content)
    with pytest.raises(DataFormatError, match="holiday.jpg: is (no search index|a database)"):
        IndexStore(foreign, ABOUT)
    with pytest.raises(DataFormatError, match="so it is not replaced: delete it yourself"):
        remove_index(foreign)
    assert foreign.read_bytes() == content
    with pytest.raises(DataFormatError, match="is a folder"):
        IndexStore(tmp_path, ABOUT)
    own = tmp_path / index_store.DEFAULT_NAME  # nobody else calls a file so
    own.write_bytes(content)
    remove_index(own)
    assert not own.exists()


def test_permissions_are_one_sentence() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "index.sqlite"
        with IndexStore(path, ABOUT) as store:
            store.save({"a.png": Known(1, 2, bytes(32))}, ONE)
        folder.chmod(0o555)
        path.chmod(0o444)
        with as_nobody():
            assert len(SearchIndex.open(path)) == 1  # reading is enough for searching
            with IndexStore(path) as store, pytest.raises(DataFormatError, match="cannot be written"):
                store.forget(["a.png"])
            with pytest.raises(DataFormatError, match="other.sqlite: cannot be opened or made"):
                IndexStore(folder / "other.sqlite", ABOUT)
            with pytest.raises(DataFormatError, match="cannot be deleted"):
                remove_index(path)
        path.chmod(0o000)
        with as_nobody(), pytest.raises(DataFormatError, match="cannot be read .Permission denied"):
            SearchIndex.open(path)
        folder.chmod(0o755)


def test_a_file_that_another_process_holds_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_store, "_SECONDS_TO_WAIT", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DataFormatError, match="another process has been writing .*; try again later"):
            SearchIndex.open(path)
        other.execute("ROLLBACK")
    assert len(SearchIndex.open(path)) == 2


# Processes that die


IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from imglish.inference.index_store import About, Content, IndexStore, Known

class Deadly(dict):
    def items(self):
        os.kill(os.getpid(), signal.SIGKILL)

vectors = np.random.default_rng(0).standard_normal((6000, 1024)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
def contents(numbers):
    return {b"%32d" % number: Content((1, 1), vectors[number]) for number in numbers}

with IndexStore(Path(sys.argv[1]), About("/pictures", "tiny", "00", 1024)) as store:
    store.save({f"{n}.png": Known(1, 1, b"%32d" % n) for n in range(3)}, contents(range(3)))
    store.save(Deadly(), contents(range(3, 6000)))
"""


def test_a_transaction_that_dies_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    killed = subprocess.run([sys.executable, "-c", IN_THE_MIDDLE, path], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    journal = Path(f"{path}-journal")
    assert journal.stat().st_size > 0 and path.stat().st_size > 2**21  # half of it is in the file already
    index = SearchIndex.open(path)
    assert index.paths == ("0.png", "1.png", "2.png")
    with IndexStore(path) as store:
        assert len(store.hashes()) == 3
    assert not journal.exists()


INDEXING = """
import sys, time
from pathlib import Path
from imglish.inference.index import SearchIndex, default_path
from imglish.inference.index_identity import model_identity
from imglish.inference.predictor import Predictor

folder, predictor = Path(sys.argv[1]), Predictor(sys.argv[2])
index = SearchIndex.create(default_path(folder), folder, model_identity(predictor))
index.update(predictor, batch_size=3, workers=2, progress=lambda done, total: time.sleep(0.03))
"""


def test_after_kill_9_indexing_goes_on_with_nothing_lost_and_nothing_twice(tmp_path: Path) -> None:
    folder, run = tmp_path / "pictures", write_run(tmp_path / "run", "retrieval")
    count = 100
    for seed in range(count):
        write_picture(folder / f"{seed:02}.png", seed, height=8, width=8)
    path = folder / index_store.DEFAULT_NAME
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", INDEXING, folder, run], cwd=ROOT, env=environment)
    try:
        while process.poll() is None and _count(path) < 10:
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    before = rows(path)
    assert 10 <= len(before) < count and len(before) % 3 == 0  # whole batches
    predictor = CountingPredictor(load_run(run))
    index = SearchIndex.create(path, folder, model_identity(predictor))
    assert len(index) == len(before)
    updated = index.update(predictor)
    assert updated.added == updated.encoded == predictor.num_encoded == count - len(before)
    after = rows(path)
    assert len(after) == len(index) == count
    assert all((after[name].vector == row.vector).all() for name, row in before.items())
    uninterrupted = SearchIndex.create(tmp_path / "whole.sqlite", folder, model_identity(Predictor(run)))
    uninterrupted.update(Predictor(run))
    assert_same(after, rows(uninterrupted.path))


def _count(path: Path) -> int:
    """Pictures that an index has so far."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as file:
            return int(file.execute("SELECT count(*) FROM pictures").fetchone()[0])
    except sqlite3.OperationalError:  # it is not there yet
        return 0
