from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imglish.data.formats.karpathy import Sentence
from imglish.data.formats.nocaps import read_nocaps
from imglish.errors import DataFormatError
from tests.data.formats.conftest import WriteJson

VALIDATION: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "open_images_id": "a", "domain": "near-domain"},
        {"id": 3, "file_name": "b.jpg", "open_images_id": "b", "domain": "out-domain"},
    ],
    "annotations": [
        {"id": 10, "image_id": 3, "caption": "A zebra."},
        {"id": 11, "image_id": 7, "caption": "A quokka."},
        {"id": 12, "image_id": 3, "caption": "Stripes."},
    ],
}


def test_captions_join_their_pictures_in_the_order_of_the_file(write_json: WriteJson, pictures: Path) -> None:
    first, second = read_nocaps(write_json("val.json", VALIDATION), pictures, "val")
    assert (first.image_id, first.path, first.split) == (7, pictures / "a.jpg", "val")
    assert (first.domain, second.domain) == ("near-domain", "out-domain")
    assert first.sentences == (Sentence(11, "A quokka."),)
    assert second.sentences == (Sentence(10, "A zebra."), Sentence(12, "Stripes."))


def test_a_test_file_has_no_captions_and_need_not_tell_domains(write_json: WriteJson, pictures: Path) -> None:
    images = [{"id": 0, "file_name": "more/c.jpg"}, {"id": 1, "file_name": "a.jpg", "domain": "in-domain"}]
    records = read_nocaps(write_json("test.json", {"images": images}), pictures, "test")
    assert [record.domain for record in records] == ["", "in-domain"]
    assert all(record.sentences == () for record in records)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda d: d["images"][0].update(domain="far"),
            r"images\[0\] has domain 'far', not one of in-domain",
        ),
        (lambda d: d["images"][1].update(file_name="z.jpg"), r"images\[1\] names picture 'z.jpg', which .*"),
        (lambda d: d["images"][1].update(id=7), r"images\[1\] repeats image id 7"),
        (lambda d: d["annotations"].pop(1), r"images\[0\] is image id 7, which has no caption"),
        (lambda d: d["annotations"][0].update(image_id=5), r"annotations\[0\] belongs to image id 5"),
        (lambda d: d["annotations"][2].pop("caption"), r"annotations\[2\] has no key 'caption'"),
        (lambda d: d.update(images=[]), "the file has no images; expected NoCaps json"),
        (lambda d: d["images"][0].pop("id"), r"images\[0\] has no key 'id'"),
    ],
)
def test_a_wrong_file_is_refused(
    write_json: WriteJson, pictures: Path, damage: Callable[[dict[str, Any]], object], words: str
) -> None:
    document = copy.deepcopy(VALIDATION)
    damage(document)
    with pytest.raises(DataFormatError, match=words):
        read_nocaps(write_json("x.json", document), pictures, "val")
