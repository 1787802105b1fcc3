from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imglish.data.formats.karpathy import Sentence, read_karpathy
from imglish.errors import DataFormatError
from tests.data.formats.conftest import WriteJson


def image(name: str, split: str, number: int) -> dict[str, object]:
    folder, _, base = name.rpartition("/")
    return {
        "filepath": folder,
        "filename": base,
        "split": split,
        "cocoid": 100 + number,
        "imgid": number,
        "sentids": [number],
        "sentences": [
            {"raw": f"Caption {number}.", "tokens": ["caption"], "sentid": number, "imgid": number}
        ],
    }


COCO = {
    "dataset": "coco",
    "images": [
        image("more/c.jpg", "train", 0),
        image("more/gone.jpg", "test", 1),
        image("more/c.jpg", "restval", 2),
    ],
}


def test_the_wanted_splits_are_read_and_other_pictures_need_not_exist(
    write_json: WriteJson, pictures: Path
) -> None:
    train, restval = read_karpathy(write_json("dataset_coco.json", COCO), pictures, ("train", "restval"))
    assert (train.image_id, train.path, train.split) == (100, pictures / "more/c.jpg", "train")
    assert train.sentences == (Sentence(0, "Caption 0."),)
    assert (restval.image_id, restval.split) == (102, "restval")


def test_flickr_has_neither_filepath_nor_cocoid(write_json: WriteJson, pictures: Path) -> None:
    entry = image("a.jpg", "val", 5)
    del entry["filepath"], entry["cocoid"]
    (record,) = read_karpathy(write_json("x.json", {"images": [entry]}), pictures, ("val",))
    assert (record.image_id, record.path) == (5, pictures / "a.jpg")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda d: d["images"][1].update(split="dev"),
            r"images\[1\] has split 'dev', not one of train, restval",
        ),
        (lambda d: d["images"][0].update(split="val"), "has no images of split train"),
        (lambda d: d["images"][0].update(filename="z.jpg"), r"images\[0\] names picture 'more/z.jpg'"),
        (lambda d: d["images"][0].update(sentences=[]), r"images\[0\] has no sentences"),
        (
            lambda d: d["images"][0]["sentences"][0].pop("raw"),
            r"images\[0\]\.sentences\[0\] has no key 'raw'",
        ),
        (lambda d: d.pop("images"), "the file has no key 'images'"),
    ],
)
def test_a_wrong_file_is_refused(
    write_json: WriteJson,
    pictures: Path,
    damage: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    document = copy.deepcopy(COCO)
    damage(document)
    with pytest.raises(DataFormatError, match=words):
        read_karpathy(write_json("x.json", document), pictures, ("train",))
