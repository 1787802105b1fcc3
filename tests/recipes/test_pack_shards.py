"""A packing run that is stopped goes on to the bytes of one that was not, with any number of workers."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from imglish.data.shard_sources import Item, read_items
from imglish.errors import DataFormatError
from imglish.recipes import packed_samples
from imglish.recipes.pack_shards import PackedShards, PackOptions, pack_shards

OPTIONS = PackOptions(shard_size=4, max_side=9)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """22 pairs, of which the pictures 3, 4 and 20 do not decode and number 21 has no text: 18 good ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(22):
        path = folder / f"{number:02d}.png"
        if number in (3, 4, 20):
            path.write_bytes(b"no picture")
        else:
            Image.new("RGB", (8 + number, 6), (9 * number, 2, 3)).save(path)
        path.with_suffix(".txt").write_text(f"picture {number}" if number != 21 else " ")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop_at(count: int) -> Callable[[int, int], None]:
    def progress(packed: int, refused: int) -> None:
        if packed + refused == count:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stops", [(1,), (6, 7), (14, 20), (22,)])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    pairs: Path, tmp_path: Path, stops: tuple[int, ...], num_workers: int
) -> None:
    whole = pack_shards([pairs], tmp_path / "whole", OPTIONS)
    assert (whole.num_shards, whole.num_samples, whole.num_refused) == (5, 18, 4)
    out, options = tmp_path / "out", replace(OPTIONS, num_workers=num_workers)
    for count in stops:
        with pytest.raises(KeyboardInterrupt):
            pack_shards([pairs], out, options, stop_at(count))
        assert not out.exists()
    opened: list[tuple[int, int]] = []
    packed = pack_shards([pairs], out, options, lambda *now: opened.append(now))
    assert replace(packed, num_done_before=0) == whole
    assert packed.num_done_before == {1: 0, 7: 1, 20: 4, 22: 4}[stops[-1]]
    # What was packed before was not decoded again: the first numbers are those of the tars that were whole.
    assert opened[0] == {1: (0, 0), 7: (4, 2), 20: (16, 2), 22: (16, 2)}[stops[-1]]
    assert contents(out) == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


def test_a_killed_run_goes_on_whatever_it_left_half_written(pairs: Path, tmp_path: Path) -> None:
    def run() -> None:
        pack_shards([pairs], tmp_path / "out", OPTIONS, lambda p, r: os._exit(9) if p == 10 else None)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    unfinished = tmp_path / ".out.unfinished"
    assert (unfinished / "pairs-000002.tar.partial").exists() and not (tmp_path / "out").exists()
    with (unfinished / "progress.jsonl").open("a") as lines:
        lines.write("[12, 10")
    damaged = unfinished / "pairs-000001.tar"  # a machine that fell may leave this
    damaged.write_bytes(damaged.read_bytes()[:-512])
    packed = pack_shards([pairs], tmp_path / "out", OPTIONS)
    assert packed.num_done_before == 1
    pack_shards([pairs], tmp_path / "whole", OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_side": 8}, "a run with max_side 9, not 8, has stopped here"),
        ({"shard_size": 2}, "a run with shard_size 4, not 2"),
        ({"kind": "images"}, 'a run with kind "pairs", not "images"'),
        ({"images": Path("x")}, "a run with images null, not"),
    ],
)
def test_a_run_with_other_settings_does_not_go_on(
    pairs: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pack_shards([pairs], tmp_path / "out", OPTIONS, stop_at(9))
    before = contents(tmp_path / ".out.unfinished")
    with pytest.raises(DataFormatError, match=words) as caught:
        pack_shards([pairs], tmp_path / "out", replace(OPTIONS, **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    with pytest.raises(DataFormatError, match="a run with sources"):
        pack_shards([pairs, pairs], tmp_path / "out", OPTIONS)
    assert contents(tmp_path / ".out.unfinished") == before
    pack_shards([pairs], tmp_path / "out", OPTIONS)


def test_a_run_whose_sources_have_changed_does_not_go_on(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pack_shards([pairs], tmp_path / "out", OPTIONS, stop_at(9))
    text = pairs / "02.txt"
    text.write_text("another text")
    with pytest.raises(DataFormatError, match="the sources have changed; give them as they were"):
        pack_shards([pairs], tmp_path / "out", OPTIONS)
    text.write_text("picture 2")
    assert pack_shards([pairs], tmp_path / "out", OPTIONS).num_done_before == 1


def test_two_processes_do_not_pack_into_one_folder(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pack_shards([pairs], tmp_path / "out", OPTIONS, stop_at(9))
    other = os.open(tmp_path / ".out.unfinished", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(DataFormatError, match="another process is packing into it"):
        pack_shards([pairs], tmp_path / "out", OPTIONS)
    os.close(other)
    pack_shards([pairs], tmp_path / "out", OPTIONS)


def test_a_worker_that_is_killed_is_one_line_and_loses_nothing(pairs: Path, tmp_path: Path) -> None:
    def kill(packed: int, refused: int) -> None:
        if packed == 5:
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    many = [pairs] * 8  # more than is decoded ahead
    options = replace(OPTIONS, num_workers=1)
    with pytest.raises(DataFormatError, match="was killed, perhaps for want of memory"):
        pack_shards(many, tmp_path / "out", options, kill)
    assert pack_shards(many, tmp_path / "out", options).num_done_before > 0


def test_no_more_is_decoded_ahead_than_a_few_chunks(pairs: Path) -> None:
    taken = 0

    def counted() -> Iterator[Item]:
        nonlocal taken
        for _ in range(20):
            for item in read_items(pairs, "pairs"):
                taken += 1
                yield item

    samples = packed_samples.pack_samples(counted(), 0, num_workers=1)
    item, sample = next(samples)
    assert item.place.endswith("00.png") and sample.contents["txt"] == b"picture 0"
    assert taken <= 8 * 5
    samples.close()  # type: ignore[attr-defined]


def test_the_description_says_what_the_folder_holds(pairs: Path, tmp_path: Path) -> None:
    packed = pack_shards([pairs], tmp_path / "out", OPTIONS)
    assert packed == PackedShards(num_shards=5, num_samples=18, num_refused=4, num_done_before=0)
    described = json.loads((tmp_path / "out" / "shards.json").read_text())
    assert described == {
        "kind": "pairs", "shard_size": 4, "max_side": 9, "num_shards": 5, "num_samples": 18,
        "num_refused": 4, "sources": ["in"],
    }  # fmt: skip
