"""Visual tokens on disk: what is written is read, by tar and key, and nothing else is taken for it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imglish.data.shards import ShardSet, write_shard
from imglish.data.stored_tokens import (
    ShardTokens,
    StoredTokens,
    TokenDescription,
    is_stored,
    write_description,
    write_tokens,
)
from imglish.errors import DataFormatError

DESCRIPTION = TokenDescription(
    tokenizer="mine", fingerprint="a" * 64, codebook_size=65536, image_size=(28, 42), grid_size=(2, 3)
)
KEYS = ["00000010", "b/9", "00000002", "\udcff", "long" * 20]
TAR = Path("somewhere/pairs-000000.tar")


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (len(KEYS), 6), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_description(tmp_path / "tokens", DESCRIPTION)
    write_tokens(tmp_path / "tokens", TAR, KEYS, tokens())
    return tmp_path / "tokens"


def test_tokens_are_found_by_key_whatever_the_order(folder: Path) -> None:
    stored = StoredTokens(folder)
    assert stored.description == DESCRIPTION
    for key, row in zip(KEYS, tokens(), strict=True):
        found = stored.of(TAR, key)
        assert found.dtype == torch.int64 and found.tolist() == row.tolist()


def test_a_worker_process_maps_them_anew(folder: Path) -> None:
    stored = StoredTokens(folder)
    stored.of(TAR, KEYS[0])
    sent = pickle.dumps(stored)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent).of(TAR, KEYS[0]), stored.of(TAR, KEYS[0]))


@pytest.mark.parametrize("key", ["00000003", "0", "zzz", "long" * 30, ""])
def test_a_key_without_tokens_is_refused(folder: Path, key: str) -> None:
    with pytest.raises(DataFormatError, match="has no tokens of"):
        StoredTokens(folder).of(TAR, key)


def test_tokens_of_a_shard_set_are_those_of_its_samples(tmp_path: Path, folder: Path) -> None:
    paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for number, path in enumerate(paths):
        write_shard(path, [(key, {"txt": b"x"}) for key in ("0", "1")])
        rows = np.full((2, 6), 10 * number, dtype=np.uint16) + np.arange(2, dtype=np.uint16)[:, None]
        write_tokens(folder, path, ["0", "1"], rows)
    source = ShardTokens(ShardSet(paths), StoredTokens(folder))
    assert [int(source.tokens(index)[0]) for index in range(4)] == [0, 1, 10, 11]


def test_missing_tars_are_named(folder: Path) -> None:
    assert is_stored(folder, TAR) and not is_stored(folder, Path("pairs-000001.tar"))
    StoredTokens(folder).check_complete([TAR])
    with pytest.raises(DataFormatError, match=r"pairs-000001\.tar \(1 of 2 tars are missing\)"):
        StoredTokens(folder).check_complete([TAR, Path("pairs-000001.tar")])


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
    path = folder / "pairs-000000.tokens.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(DataFormatError, match=r"pairs-000000\.tokens\.npy: cannot be read"):
        StoredTokens(folder).of(TAR, KEYS[0])
    np.save(path, tokens()[:, :5])
    with pytest.raises(DataFormatError, match=r"has uint16 \(5, 5\) for 5 keys; expected uint16 \(5, 6\)"):
        StoredTokens(folder).of(TAR, KEYS[0])
