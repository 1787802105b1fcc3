"""Shards as sources of a run: what is wrong with a sample is said with its tar and key, and left out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.data.loader import Source
from imglish.data.shards import ShardSet, write_shard
from imglish.errors import DataFormatError
from imglish.recipes import sources
from imglish.recipes.data_config import FolderData
from imglish.recipes.sources import ShardPictures, ShardTexts


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (9, 8, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def shards(folder: Path, *samples: Mapping[str, bytes]) -> ShardSet:
    path = folder / "a.tar"
    write_shard(path, [(f"{number:03d}", sample) for number, sample in enumerate(samples)])
    return ShardSet([path])


class Texts:
    """Documents as the samples of a loader."""

    def __init__(self, source: ShardTexts) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int, rng: np.random.Generator) -> str:
        return self.source.text(index)


def test_a_good_sample_is_a_picture_with_its_texts(tmp_path: Path) -> None:
    source = ShardPictures(
        shards=shards(tmp_path, {"png": png(), "txt": "ein großer Stern\n\n  \na house\n".encode()})
    )
    picture, texts = source.sample(0)
    assert picture.shape == (3, 4, 6) and texts == ("ein großer Stern", "a house")


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"png": png(), "txt": b"caf\xe9"}, r"a\.tar: 001\.txt: not UTF-8 text \(.* at byte 3\)"),
        ({"png": png(), "txt": b"\xff\xfea\0 \0s\0t\0"}, r"a\.tar: 001\.txt: not UTF-8 text"),
        ({"png": png()}, r"a\.tar: 001: the sample has no text; expected a member txt"),
        ({"png": png(), "txt": b"\n  \n"}, r"a\.tar: 001: the sample has no text"),
        ({"txt": b"a star"}, r"a\.tar: 001: the sample has no picture; expected a member png"),
        ({"png": png()[:40], "txt": b"a star"}, r"a\.tar: 001\.png: "),
        ({"png": b"", "txt": b"a star"}, r"a\.tar: 001\.png: is empty"),
    ],
)
def test_a_bad_sample_is_named_by_tar_and_key(
    tmp_path: Path, sample: Mapping[str, bytes], message: str
) -> None:
    source = ShardPictures(shards=shards(tmp_path, {"png": png(), "txt": b"a star"}, sample))
    with pytest.raises(DataFormatError, match=message) as caught:
        source.sample(1)
    assert "\n" not in str(caught.value)
    assert source.sample(0)[1] == ("a star",)


def test_the_tar_named_is_the_one_that_holds_the_sample(tmp_path: Path) -> None:
    for name, data in (("a", b"fine"), ("b", b"\xff")):
        write_shard(tmp_path / f"{name}.tar", [("000", {"txt": data})])
    source = ShardTexts(shards=ShardSet([tmp_path / "a.tar", tmp_path / "b.tar"]))
    assert source.text(0) == "fine"
    with pytest.raises(DataFormatError, match=r"b\.tar: 000\.txt: not UTF-8"):
        source.text(1)


def test_documents_that_are_no_text_or_empty_are_left_out_and_listed(tmp_path: Path) -> None:
    samples = [{"txt": data} for data in (b"one", b"\xff", b"two", b"", b"three")]
    source = Source(dataset=Texts(ShardTexts(shards=shards(tmp_path, *samples))), per_rank=5, seed=0)
    found, skipped = source.samples(0, rank=0, world_size=1)
    assert len(found) == 5 and set(found) == {"one", "two", "three"}
    assert sum("001.txt: not UTF-8" in line for line in skipped) >= 1
    assert sum("003: the sample has no text" in line for line in skipped) >= 1


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_folder_without_shards_says_which_are_missing(tmp_path: Path, split: str) -> None:
    with pytest.raises(DataFormatError, match=rf"shards has no pairs-{split}-\*\.tar; write the World with"):
        sources.pictures(FolderData(root=tmp_path), split)
    with pytest.raises(DataFormatError, match=rf"shards has no texts-{split}-\*\.tar"):
        sources.texts(FolderData(root=tmp_path), split)


def test_a_shard_that_is_empty_or_cut_short_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    path = tmp_path / "shards" / "pairs-train-000000.tar"
    write_shard(path, [])
    with pytest.raises(DataFormatError, match=r"pairs-train-000000\.tar: has no samples"):
        sources.pictures(FolderData(root=tmp_path), "train")
    write_shard(path, [("000", {"png": png(), "txt": b"a star"})])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataFormatError, match=r"pairs-train-000000\.tar: is cut short at byte 1000"):
        sources.pictures(FolderData(root=tmp_path), "train")
