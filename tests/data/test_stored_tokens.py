"""Visual tokens on disk: what is written is read, by tar and key, and nothing else is taken for it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imglish.data.mixture import MixedTokens, Proportions
from imglish.data.shards import ShardSet, Tar, write_shard
from imglish.data.stored_tokens import (
    ShardTokens,
    StoredTokens,
    TokenDescription,
    is_stored,
    picture_check,
    write_description,
    write_tokens,
)
from imglish.errors import DataFormatError

DESCRIPTION = TokenDescription(
    tokenizer="mine", fingerprint="a" * 64, codebook_size=65536, image_size=(28, 42), grid_size=(2, 3)
)
KEYS = ["00000010", "b/9", "00000002", "\udcff", "long" * 20]
CHECKS = [7, 2**32 - 1, 0, 3, 5]
TAR = Tar(Path("somewhere/pairs-000000.tar"), "0123abcd")


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (len(KEYS), 6), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_description(tmp_path / "tokens", DESCRIPTION)
    write_tokens(tmp_path / "tokens", TAR, KEYS, CHECKS, tokens())
    return tmp_path / "tokens"


def test_tokens_are_found_by_key_whatever_the_order(folder: Path) -> None:
    stored = StoredTokens(folder)
    assert stored.description == DESCRIPTION
    for key, check, row in zip(KEYS, CHECKS, tokens(), strict=True):
        found = stored.of(TAR, key, check)
        assert found.dtype == torch.int64 and found.tolist() == row.tolist()


def test_a_worker_process_maps_them_anew(folder: Path) -> None:
    stored = StoredTokens(folder)
    stored.of(TAR, KEYS[0], CHECKS[0])
    sent = pickle.dumps(stored)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent).of(TAR, KEYS[0], CHECKS[0]), stored.of(TAR, KEYS[0], CHECKS[0]))


@pytest.mark.parametrize("key", ["00000003", "0", "zzz", "long" * 30, ""])
def test_a_key_without_tokens_is_refused(folder: Path, key: str) -> None:
    with pytest.raises(DataFormatError, match="has no tokens of"):
        StoredTokens(folder).of(TAR, key, 7)


def test_tokens_of_another_picture_are_refused(folder: Path) -> None:
    with pytest.raises(DataFormatError, match="of another picture; the tar has changed since") as caught:
        StoredTokens(folder).of(TAR, KEYS[0], CHECKS[0] + 1)
    assert "\n" not in str(caught.value)


def stored_set(folder: Path, tar: Path, first: int, sizes: tuple[int, ...]) -> ShardSet:
    """A tar whose pictures, of some bytes each, have the tokens ``first``, ``first + 1`` and so on."""
    tar.parent.mkdir(exist_ok=True)
    samples = [(f"{number}", {"png": bytes([first]) * size}) for number, size in enumerate(sizes)]
    write_shard(tar, samples)
    rows = np.full((len(sizes), 6), first, dtype=np.uint16) + np.arange(len(sizes), dtype=np.uint16)[:, None]
    shards = ShardSet([tar])
    checks = [picture_check(shards[number]) for number in range(len(sizes))]
    write_tokens(folder, shards.tars[0], [key for key, _ in samples], checks, rows)
    return shards


def test_tars_of_one_name_in_one_folder_of_tokens_are_told_apart(tmp_path: Path, folder: Path) -> None:
    sets = [
        stored_set(folder, tmp_path / "a" / "x.tar", 10, (600, 10)),
        stored_set(folder, tmp_path / "b" / "x.tar", 20, (10, 600)),
    ]
    stored = StoredTokens(folder)
    sources = [ShardTokens(shards, stored) for shards in sets]
    assert [int(source.tokens(index)[0]) for source in sources for index in range(2)] == [10, 11, 20, 21]
    both = ShardTokens(ShardSet([path for shards in sets for path in shards.paths]), stored)
    assert [int(both.tokens(index)[0]) for index in range(4)] == [10, 11, 20, 21]
    mixed = MixedTokens(sources=sources, proportions=Proportions((2, 2), (1, 1)))
    assert [int(mixed.tokens(index)[0]) for index in range(4)] == [10, 20, 11, 21]


def test_a_tar_written_anew_is_no_longer_the_one_that_was_tokenized(tmp_path: Path, folder: Path) -> None:
    tar = tmp_path / "a" / "x.tar"
    stored_set(folder, tar, 10, (600, 10))
    write_shard(tar, [("0", {"png": b"\1" * 600}), ("1", {"png": b"\2" * 10})])  # of the same sizes
    source = ShardTokens(ShardSet([tar]), StoredTokens(folder))
    with pytest.raises(DataFormatError, match="of another picture"):
        source.tokens(1)
    write_shard(tar, [("0", {"png": b"\1" * 10}), ("1", {"png": b"\2" * 10})])
    with pytest.raises(DataFormatError, match=r"has no tokens of .*x\.tar as it is now \(1 of 1 tars"):
        StoredTokens(folder).check_complete([ShardSet([tar])])


def test_missing_tars_are_named(tmp_path: Path, folder: Path) -> None:
    there = stored_set(folder, tmp_path / "a" / "x.tar", 10, (600,))
    assert is_stored(folder, there.tars[0]) and not is_stored(folder, Tar(there.paths[0], "ffffffff"))
    StoredTokens(folder).check_complete([there])
    write_shard(tmp_path / "y.tar", [("0", {"png": b"x"})])
    absent = ShardSet([tmp_path / "y.tar"])
    with pytest.raises(DataFormatError, match=r"y\.tar as it is now \(1 of 2 tars are missing\)"):
        StoredTokens(folder).check_complete([there, absent])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "b" * 64}, r"tokens of the tokenizer mine \(weights aaaaaaaaaaaa\), not of other"),
        ({"image_size": (32, 48)}, r"image_size \(28, 42\); expected \(32, 48\)"),
        ({"grid_size": (3, 2)}, r"grid_size \(2, 3\); expected \(3, 2\)"),
    ],
)
def test_tokens_of_something_else_are_refused(folder: Path, change: dict[str, object], message: str) -> None:
    other = replace(DESCRIPTION, tokenizer="other", **change)  # type: ignore[arg-type]
    with pytest.raises(DataFormatError, match=message) as error:
        write_description(folder, other)
    assert "\n" not in str(error.value)
    write_description(folder, replace(DESCRIPTION, tokenizer="the same under another name"))


def test_a_folder_that_holds_no_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"has no tokens\.json"):
        StoredTokens(tmp_path)
    (tmp_path / "tokens.json").write_text('{"tokenizer": 3}')
    with pytest.raises(DataFormatError, match=r"tokens\.json: is damaged"):
        StoredTokens(tmp_path)


def test_damaged_arrays_are_refused(folder: Path) -> None:
    path = folder / "pairs-000000-0123abcd.tokens.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(DataFormatError, match=r"pairs-000000-0123abcd\.tokens\.npy: cannot be read"):
        StoredTokens(folder).of(TAR, KEYS[0], CHECKS[0])
    np.save(path, tokens()[:, :5])
    with pytest.raises(DataFormatError, match=r"has uint16 \(5, 5\) for 5 keys; expected uint16 \(5, 6\)"):
        StoredTokens(folder).of(TAR, KEYS[0], CHECKS[0])
