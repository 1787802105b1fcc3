"""Remote shards: indexes first, each tar once and when it is wanted, a limit of room, and tries anew."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from imglish.data import remote
from imglish.data.loader import SinglePlan, Source, prefetch
from imglish.data.remote import find_shards
from imglish.data.shard_index import index_path
from imglish.data.shards import ShardSet, index_shard, write_shard
from imglish.data.tar_cache import TarCache
from imglish.errors import ConfigError, DataFormatError, ImglishError, RemoteError

NUM_TARS, NUM_SAMPLES = 4, 5


class Server(ThreadingHTTPServer):
    """Serves a folder; the first ``failures`` requests for tars fail, and every one of them is counted."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.sent: Counter[str] = Counter()
        self.failures, self.cut = 0, False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        name = os.path.basename(self.path)
        self.server.sent[name] += 1
        if name.endswith(".tar") and self.server.failures:
            self.server.failures -= 1
            if self.server.cut:  # the line breaks off half way
                self.send_response(200)
                self.send_header("Content-Length", "10240")
                self.end_headers()
                self.wfile.write(bytes(100))
                self.close_connection = True
            else:
                self.send_error(503)
            return
        super().do_GET()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four tars of five texts each, with indexes; tar 3 is the largest."""
    folder = tmp_path / "there"
    folder.mkdir()
    for number in range(NUM_TARS):
        path = folder / f"t-{number}.tar"
        texts = [
            (f"{number}{i}", {"txt": f"{number}{i} ".encode() * (40 + 10 * number)})
            for i in range(NUM_SAMPLES)
        ]
        write_shard(path, texts)
        index_shard(path)
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "_WAITS", (0.01, 0.01, 0.01))
    server = Server(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def opened(pattern: str, cache: Path, cache_bytes: int = 0) -> ShardSet:
    found = find_shards(pattern, cache, cache_bytes)
    return ShardSet(found.paths, found.store)


def tars(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.tar"))


@pytest.mark.parametrize("protocol", ["http", "file", "memory"])
def test_indexes_come_first_and_a_tar_when_it_is_read(
    protocol: str, folder: Path, tmp_path: Path, server: Server
) -> None:
    import fsspec

    if protocol == "memory":
        fsspec.filesystem("memory").put(f"{folder}/*", f"/{tmp_path.name}/", recursive=False)
    base = {"http": server.url, "file": f"file://{folder}", "memory": f"memory://{tmp_path.name}"}[protocol]
    local = ShardSet(sorted(folder.glob("*.tar")))
    for pattern in (f"{base}/t-*.tar", f"{base}/"):
        cache = tmp_path / f"cache-{len(pattern)}"
        shards = opened(pattern, cache)
        assert len(shards) == len(local) and not tars(cache) and len([*cache.rglob("*.idx")]) == NUM_TARS
        assert shards[7] == local[7] and tars(cache) == ["t-1.tar"]
        assert [shards[n] for n in range(len(local))] == [local[n] for n in range(len(local))]
        assert [tar.mark for tar in shards.tars] == [tar.mark for tar in local.tars] and not [
            *cache.rglob("*.partial")
        ]
        assert len(tars(cache)) == NUM_TARS


def test_what_is_here_is_not_fetched_again_and_what_is_cut_is(tmp_path: Path, server: Server) -> None:
    for _ in range(2):
        shards = opened(f"{server.url}/t-*.tar", tmp_path / "cache")
        assert [shards[n]["__key__"] for n in (0, 1, 19)] == ["00", "01", "34"]
    assert {name: server.sent[name] for name in sorted(server.sent) if name.startswith("t-")} == {
        "t-0.tar": 1, "t-3.tar": 1, **{f"t-{n}.tar.idx": 1 for n in range(NUM_TARS)},
    }  # fmt: skip
    shards.paths[0].write_bytes(b"half")
    assert opened(f"{server.url}/t-*.tar", tmp_path / "cache")[4]["__key__"] == "04"
    assert server.sent["t-0.tar"] == 2


def test_one_tar_by_name_is_not_sent_before_it_is_read(tmp_path: Path, server: Server) -> None:
    shards = opened(f"{server.url}/t-2.tar", tmp_path / "cache")
    assert len(shards) == NUM_SAMPLES and not tars(tmp_path / "cache")
    shards[0]
    assert tars(tmp_path / "cache") == ["t-2.tar"]


def test_a_tar_without_an_index_is_fetched_once_and_indexed_here(
    folder: Path, tmp_path: Path, server: Server
) -> None:
    index_path(folder / "t-1.tar").unlink()
    for _ in range(2):
        shards = opened(f"{server.url}/t-*.tar", tmp_path / "cache")
        assert tars(tmp_path / "cache") == ["t-1.tar"] and server.sent["t-1.tar"] == 1
    assert shards[5]["__key__"] == "10"


def read_all(url: str, cache: Path, order: int, cache_bytes: int) -> None:
    shards = opened(f"{url}/t-*.tar", cache, cache_bytes)
    for index in np.random.default_rng(order).permutation(len(shards)).tolist():
        assert str(shards[index]["__key__"]) == f"{index // NUM_SAMPLES}{index % NUM_SAMPLES}"


def test_processes_that_read_at_once_fetch_each_tar_and_index_once(tmp_path: Path, server: Server) -> None:
    fork = multiprocessing.get_context("fork")
    arguments = [(server.url, tmp_path / "cache", order, 0) for order in range(4)]
    processes = [fork.Process(target=read_all, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert {count for name, count in server.sent.items() if name.startswith("t-")} == {1}


def test_the_tars_not_used_for_longest_make_room(folder: Path, tmp_path: Path, server: Server) -> None:
    size = (folder / "t-3.tar").stat().st_size
    cache = tmp_path / "cache"
    shards = opened(f"{server.url}/t-*.tar", cache, 2 * size)
    for index, left in ((0, "0"), (5, "01"), (1, "01"), (10, "02"), (15, "23"), (6, "13")):
        assert str(shards[index]["__key__"]) == f"{index // 5}{index % 5}"
        assert tars(cache) == [f"t-{number}.tar" for number in left]
    assert len([*cache.rglob("*.idx")]) == NUM_TARS  # a start needs nothing but these
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=read_all, args=(server.url, cache, n, size)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3


def write_eight(path: Path) -> None:
    path.write_bytes(bytes(8))


def test_a_tar_that_is_being_read_is_not_removed(tmp_path: Path) -> None:
    cache = TarCache(tmp_path, limit=10)
    paths = [tmp_path / "x" / f"{number}.tar" for number in range(3)]
    reading = cache.open(paths[0], 8, write_eight)
    os.close(cache.open(paths[1], 8, write_eight))
    assert paths[0].exists()
    os.close(reading)
    os.close(cache.open(paths[2], 8, write_eight))
    assert [path.name for path in tmp_path.glob("x/*.tar")] == ["2.tar"]


def test_a_cache_that_can_not_be_written_stops_the_run(tmp_path: Path, server: Server) -> None:
    shards = opened(f"{server.url}/t-*.tar", tmp_path / "cache")
    in_the_way = shards.paths[0].with_name(".t-0.tar.lock")
    in_the_way.mkdir()
    with pytest.raises(RemoteError, match=r"can not be written or read in the cache \(Is a directory\)"):
        shards[0]
    in_the_way.rmdir()
    assert shards[0]["__key__"] == "00"


def test_a_limit_below_one_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    write_shard(tmp_path / "there" / "x.tar", [("0", {"txt": b"x" * 5000})])
    with pytest.raises(ConfigError, match=r"data\.cache_gigabytes: 4e-06 GB are less than one tar"):
        find_shards(f"file://{tmp_path}/there/x.tar", tmp_path / "cache", 4000)


@pytest.mark.parametrize("cut", [False, True])
def test_a_remote_that_fails_in_between_is_tried_again(tmp_path: Path, server: Server, cut: bool) -> None:
    shards = opened(f"{server.url}/t-*.tar", tmp_path / "cache")
    server.failures, server.cut = 3, cut
    assert shards[0]["__key__"] == "00" and server.sent["t-0.tar"] == 4
    server.failures = 100
    with pytest.raises(RemoteError, match=r"t-1\.tar: can not be read after 4 tries") as caught:
        shards[5]
    assert "\n" not in str(caught.value) and tars(tmp_path / "cache") == ["t-0.tar"]
    assert not [*(tmp_path / "cache").rglob("*.partial")]
    server.failures = 0
    assert shards[5]["__key__"] == "10"


class Keys:
    """The keys of a shard set as samples of a loader."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def get(self, index: int, rng: np.random.Generator) -> str:
        return f"{self.shards[index]['__key__']!s} {rng.random()}"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_local_tars_and_a_lost_remote_is_no_damaged_sample(
    folder: Path, tmp_path: Path, server: Server, workers: int
) -> None:
    def plan(shards: ShardSet) -> SinglePlan[list[str]]:
        return SinglePlan(source=Source(dataset=Keys(shards), per_rank=3, seed=1), collate=list)

    local = plan(ShardSet(sorted(folder.glob("*.tar"))))
    limit = 2 * (folder / "t-3.tar").stat().st_size
    there = plan(opened(f"{server.url}/t-*.tar", tmp_path / "cache", limit))
    assert list(prefetch(there, 0, 8, workers)) == [local.batch(step) for step in range(8)]
    shutil.rmtree(tmp_path / "cache")
    lost = plan(opened(f"{server.url}/t-*.tar", tmp_path / "cache"))
    server.failures = 10_000
    with pytest.raises(RemoteError, match="after 4 tries") as caught:
        list(prefetch(lost, 0, 8, workers))
    assert "\n" not in str(caught.value)


def test_an_index_of_another_tar_is_refused_and_a_renewed_one_is_fetched(
    folder: Path, tmp_path: Path, server: Server
) -> None:
    opened(f"{server.url}/t-*.tar", tmp_path / "cache")[0]
    write_shard(folder / "t-0.tar", [("new", {"txt": b"x" * 900})])
    with pytest.raises(DataFormatError, match=r"t-0\.tar: has \d+ bytes, but its index"):
        opened(f"{server.url}/t-0.tar", tmp_path / "cache")
    index_shard(folder / "t-0.tar")
    assert opened(f"{server.url}/t-0.tar", tmp_path / "cache")[0]["__key__"] == "new"


@pytest.mark.parametrize(
    "pattern",
    ["memory://nothing/*.tar", "memory://nothing/x.tar", "http://127.0.0.1:9/x.tar", "nosuch://x/y.tar"],
)
def test_what_can_not_be_had_is_one_line(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_WAITS", (0.0,))
    with pytest.raises(ImglishError) as caught:
        find_shards(pattern, tmp_path)
    assert "x" in str(caught.value) or pattern in str(caught.value)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
