from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset

from imglish.data.shards import ShardSet, write_shard
from imglish.errors import DataFormatError

SAMPLES = [(f"{i:08d}", {"png": bytes([i]) * (i * 100), "txt": f"text {i}".encode()}) for i in range(12)]


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Twelve samples in three tars of different length."""
    paths = [tmp_path / f"pairs-{i:06d}.tar" for i in range(3)]
    for path, part in zip(paths, (SAMPLES[:5], SAMPLES[5:6], SAMPLES[6:]), strict=True):
        assert write_shard(path, part) == len(part)
    return paths


def test_every_sample_is_read_back_in_any_order(shards: list[Path]) -> None:
    shard_set = ShardSet(shards)
    assert len(shard_set) == len(SAMPLES)
    for index in random.Random(0).sample(range(len(SAMPLES)), len(SAMPLES)):
        key, contents = SAMPLES[index]
        assert shard_set[index] == {"__key__": key, **contents}


@pytest.mark.parametrize("index", [-1, 12])
def test_a_sample_outside_the_set_is_an_index_error(shards: list[Path], index: int) -> None:
    with pytest.raises(IndexError, match="of 12"):
        ShardSet(shards)[index]


def test_webdataset_reads_the_same_samples(shards: list[Path]) -> None:
    pipeline = webdataset.WebDataset([str(path) for path in shards], shardshuffle=False)
    read = [{k: v for k, v in sample.items() if k in ("__key__", "png", "txt")} for sample in pipeline]
    assert read == [{"__key__": key, **contents} for key, contents in SAMPLES]


def test_the_tar_program_lists_the_members(shards: list[Path]) -> None:
    listing = subprocess.run(["tar", "tf", str(shards[1])], capture_output=True, text=True, check=True)
    assert listing.stdout.split() == ["00000005.png", "00000005.txt"]


def test_shards_of_webdataset_and_of_gnu_tar_are_read(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        sink.write({"__key__": "some/folder.v2/one", "txt": b"first", "seg.PNG": b"\x01"})
    assert ShardSet([tmp_path / "a.tar"])[0] == {
        "__key__": "some/folder.v2/one",
        "txt": b"first",
        "seg.png": b"\x01",
    }


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_folders_and_links_in_a_tar_are_understood(tmp_path: Path, tar_format: int) -> None:
    key = "/".join(
        ["a-long-folder-name-of-forty-five-characters-abc"] * 3 + ["caf\N{LATIN SMALL LETTER E WITH ACUTE}"]
    )
    with tarfile.open(tmp_path / "long.tar", "w", format=tar_format) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in ((f"{key}.txt", b"text"), (f"{key}.png", b"picture"), ("short.txt", b"next")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("no-extension"))
    shard_set = ShardSet([tmp_path / "long.tar"])
    assert [shard_set[i] for i in range(len(shard_set))] == [
        {"__key__": key, "txt": b"text", "png": b"picture"},
        {"__key__": "short", "txt": b"next"},
    ]


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.tar", "two.tar"):
        write_shard(tmp_path / name, SAMPLES)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    member = tarfile.open(tmp_path / "one.tar").next()
    assert member is not None
    assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)


def test_a_shard_set_travels_to_another_process_by_pickle(shards: list[Path]) -> None:
    copy = pickle.loads(pickle.dumps(ShardSet(shards)))
    assert copy[7] == ShardSet(shards)[7]


def test_no_shard_appears_when_writing_breaks_off(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield SAMPLES[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "x.tar", broken())
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize(
    "samples",
    [
        [("a.b", {"txt": b""})],
        [("a", {"": b""})],
        [("a", {"txt": b""}), ("a", {"png": b""})],
        [("x" * 98, {"txt": b""})],
        [("", {"txt": b""})],
    ],
)
def test_keys_that_would_not_be_read_back_are_refused(tmp_path: Path, samples: list) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError):
        write_shard(tmp_path / "x.tar", samples)


def test_a_tar_cut_anywhere_is_refused(shards: list[Path]) -> None:
    data = shards[0].read_bytes()
    boundaries = [512 * i for i in range(1, len(data) // 512 - 1)]
    for length in (*boundaries, 700, len(data) - 1025):
        shards[0].write_bytes(data[:length])
        with pytest.raises(DataFormatError, match=r"pairs-000000\.tar: is cut short"):
            ShardSet(shards)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>not found</html>" * 100, "no tar header at byte 0"),
        (b"\x1f\x8b" + bytes(range(256)) * 8, "no tar header at byte 0"),
        (b"", "is cut short"),
        (bytes(1024), "has no samples"),
    ],
)
def test_a_file_that_is_no_shard_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataFormatError, match=words):
        ShardSet([tmp_path / "x.tar"])


def test_a_missing_shard_and_an_empty_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"gone\.tar: no such file"):
        ShardSet([tmp_path / "gone.tar"])
    with pytest.raises(DataFormatError, match="at least one tar"):
        ShardSet([])


def test_two_members_of_one_extension_in_a_sample_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(DataFormatError, match=r"two members \.txt"):
        ShardSet([tmp_path / "x.tar"])


def test_a_tar_that_shrinks_or_vanishes_after_indexing_is_noticed(shards: list[Path]) -> None:
    shard_set = ShardSet(shards)
    shards[0].write_bytes(shards[0].read_bytes()[:1024])
    with pytest.raises(DataFormatError, match="become shorter"):
        shard_set[4]
    shards[2].unlink()
    with pytest.raises(DataFormatError, match="cannot be read"):
        shard_set[11]


def test_a_damaged_header_is_refused_with_its_place(shards: list[Path]) -> None:
    data = bytearray(shards[2].read_bytes())
    second_header = data.index(b"00000006.txt")
    data[second_header] ^= 1
    shards[2].write_bytes(data)
    with pytest.raises(DataFormatError, match=rf"no tar header at byte {second_header} \(wrong checksum\)"):
        ShardSet(shards)


def test_a_member_of_eight_gibibytes_has_its_size_in_binary(tmp_path: Path) -> None:
    header = tarfile.TarInfo("huge.bin")
    header.size = 2**33
    path = tmp_path / "huge.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 512 + header.size + 1024)  # sparse: takes no room on the disk
    assert len(ShardSet([path])) == 1
    os.truncate(path, 512 + header.size - 1)
    with pytest.raises(DataFormatError, match="is cut short"):
        ShardSet([path])
