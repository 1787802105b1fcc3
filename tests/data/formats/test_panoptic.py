from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imglish.data.formats.panoptic import PanopticSegment, read_panoptic
from imglish.errors import DataFormatError
from tests.data.formats.conftest import WriteJson

PANOPTIC = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}],
    "categories": [{"id": 7, "name": "sky", "isthing": 0}, {"id": 3, "name": "dog", "isthing": 1}],
    "annotations": [
        {
            "image_id": 1,
            "file_name": "a.png",
            "segments_info": [
                {"id": 70000, "category_id": 7, "area": 12, "bbox": [0, 0, 4, 3], "iscrowd": 0},
                {"id": 5, "category_id": 3, "area": 4, "bbox": [0, 3, 4, 1], "iscrowd": 1},
            ],
        }
    ],
}


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/a.png").write_bytes(b"x")
    return tmp_path / "maps"


def test_segments_are_read_with_labels_of_things_and_stuff(
    write_json: WriteJson, pictures: Path, maps: Path
) -> None:
    file = read_panoptic(write_json("panoptic.json", PANOPTIC), pictures, maps)
    assert [(c.name, c.is_thing) for c in file.categories] == [("dog", True), ("sky", False)]
    (record,) = file.records
    assert (record.image.path, record.map_path) == (pictures / "a.jpg", maps / "a.png")
    assert record.segments == (
        PanopticSegment(70000, 1, 12.0, (0, 0, 4, 3), False),
        PanopticSegment(5, 0, 4.0, (0, 3, 4, 4), True),
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d["annotations"][0].pop("segments_info"), "has no key 'segments_info'"),
        (
            lambda d: d["annotations"][0].update(file_name="b.png"),
            "names map 'b.png', which .*maps does not have",
        ),
        (lambda d: d["annotations"][0].update(image_id=2), "belongs to image id 2"),
        (
            lambda d: d["annotations"][0]["segments_info"][1].update(category_id=9),
            r"segments_info\[1\] has category id 9",
        ),
        (lambda d: d["annotations"][0]["segments_info"][1].update(id=70000), "two segments of the same id"),
        (lambda d: d.update(annotations=[]), "has no annotations"),
    ],
)
def test_a_wrong_panoptic_file_is_refused(
    write_json: WriteJson,
    pictures: Path,
    maps: Path,
    damage: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    document = copy.deepcopy(PANOPTIC)
    damage(document)
    with pytest.raises(DataFormatError, match=words):
        read_panoptic(write_json("x.json", document), pictures, maps).strict()


def test_bad_segments_and_pictures_are_left_out_and_told(
    write_json: WriteJson, pictures: Path, maps: Path
) -> None:
    document = copy.deepcopy(PANOPTIC)
    good = copy.deepcopy(document["annotations"][0])
    document["images"] += [{**document["images"][0], "id": 2, "file_name": "b.jpg"}]
    good["segments_info"][1]["category_id"] = 9  # type: ignore[index]  # any json
    document["annotations"] = [
        {**good, "image_id": 3},
        {**good, "image_id": 2, "file_name": "gone.png"},
        good,
        good,
    ]
    file = read_panoptic(write_json("x.json", document), pictures, maps)
    (record,) = file.records
    assert record.image.image_id == 1 and [segment.segment_id for segment in record.segments] == [70000]
    assert [
        line.partition("x.json: ")[2].partition(";")[0].rpartition(", which")[0] or line
        for line in file.problems
    ] == [
        "annotations[0] belongs to image id 3",
        "annotations[1] names map 'gone.png'",
        "annotations[2].segments_info[1] has category id 9",
        file.problems[3],
    ]
    assert "annotations[3] repeats image id 1" in file.problems[3]
    assert list(pickle.loads(pickle.dumps(file.records))) == list(file.records[:])


def test_pictures_without_things_and_tiny_ones_are_not_trained_on(
    write_json: WriteJson, pictures: Path, maps: Path
) -> None:
    """As mmdetection: 40 pixels with sky alone, 40 with a dog, 31 with a dog, 32 with both."""
    sides, classes = (40, 40, 31, 32), ((7,), (3,), (3,), (7, 3))
    for number in range(4):
        (pictures / f"{number}.jpg").write_bytes(b"x")
        (maps / f"{number}.png").write_bytes(b"x")
    segment = PANOPTIC["annotations"][0]["segments_info"][0]  # type: ignore[index]  # any json
    document = {
        "images": [
            {"id": 10 - number, "file_name": f"{number}.jpg", "height": 50, "width": side}
            for number, side in enumerate(sides)
        ],
        "categories": PANOPTIC["categories"],
        "annotations": [
            {
                "image_id": 10 - number,
                "file_name": f"{number}.png",
                "segments_info": [{**segment, "id": 5 + key, "category_id": key} for key in found],
            }
            for number, found in enumerate(classes)
        ],
    }
    records = read_panoptic(write_json("x.json", document), pictures, maps).strict().records

    def chosen(**rules: Any) -> list[str]:
        return [record.map_path.name for record in records.trained_on(**rules)]

    assert chosen(things=[0]) == ["1.png", "3.png"]
    assert chosen(things=[0], least_side=1) == ["1.png", "2.png", "3.png"]
    assert chosen(things=[]) == ["0.png", "1.png", "3.png"]
