"""The index beside a tar: what it saves, and what is said where tar and index differ."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imglish.data.shard_index import index_path
from imglish.data.shards import ShardSet, index_shard, write_shard
from imglish.errors import DataFormatError

SAMPLES = [(f"{i:03d}", {"txt": bytes([65 + i]) * 600 * (i + 1)}) for i in range(4)]


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar"
    write_shard(path, SAMPLES)
    assert index_shard(path) == len(SAMPLES)
    return path


def older(path: Path) -> None:
    """Make a tar older than its index, as packing leaves it, whatever the clock of the disk says."""
    os.utime(path, ns=(0, 0))


def test_with_an_index_the_same_samples_are_read(tar: Path) -> None:
    older(tar)
    indexed = ShardSet([tar])
    assert [indexed[i] for i in range(4)] == [{"__key__": key, **contents} for key, contents in SAMPLES]


def test_with_an_index_the_headers_of_the_tar_are_not_gone_through(tar: Path) -> None:
    older(tar)
    data = bytearray(tar.read_bytes())
    data[data.index(b"002.txt")] ^= 1  # only who reads this header can know
    tar.write_bytes(data)
    older(tar)
    shards = ShardSet([tar])
    assert shards[3]["__key__"] == "003"
    with pytest.raises(DataFormatError, match="wrong checksum"):
        shards[2]


def test_a_cut_tar_is_noticed_before_a_sample_is_read(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes()[:-1024])
    older(tar)
    with pytest.raises(
        DataFormatError, match=r"a\.tar: has \d+ bytes, but its index .* cut short: get it again"
    ):
        ShardSet([tar])


def test_an_index_of_a_smaller_tar_is_stale(tar: Path) -> None:
    write_shard(tar, [*SAMPLES, ("more", {"txt": b"x"})])
    with pytest.raises(DataFormatError, match="the index is stale: delete it"):
        ShardSet([tar])
    index_path(tar).unlink()
    assert len(ShardSet([tar])) == 5


def test_an_index_of_another_tar_of_the_same_size_is_stale(tar: Path) -> None:
    write_shard(tar, [(key, contents) for key, contents in (SAMPLES[1], SAMPLES[0], *SAMPLES[2:])])
    os.utime(index_path(tar), ns=(0, 0))
    with pytest.raises(DataFormatError, match="has other samples than its index"):
        ShardSet([tar])
    older(tar)  # and where the times lie, each sample that is read tells
    with pytest.raises(DataFormatError, match=r"a\.tar: "):
        [ShardSet([tar])[i] for i in range(4)]


def test_an_index_that_is_only_older_is_used(tar: Path) -> None:
    os.utime(index_path(tar), ns=(0, 0))
    assert len(ShardSet([tar])) == 4


@pytest.mark.parametrize("cut", [0, 10, -8])
def test_a_damaged_index_is_refused(tar: Path, cut: int) -> None:
    index = index_path(tar)
    index.write_bytes(index.read_bytes()[:cut])
    with pytest.raises(DataFormatError, match=r"a\.tar\.idx: is damaged"):
        ShardSet([tar])


def test_a_shard_named_twice_is_refused(tar: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_shard(tmp_path / "b" / "a.tar", SAMPLES)
    assert len(ShardSet([tar, tmp_path / "b" / "a.tar"])) == 8  # another folder's shard is another shard
    with pytest.raises(DataFormatError, match="the shard is named twice"):
        ShardSet([tar, tmp_path / "b" / ".." / "a.tar"])
