from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imglish.data.formats.coco import read_captions, read_instances
from imglish.data.formats.instances import Category
from imglish.data.formats.segmentation import Polygons, RunLengths
from imglish.errors import DataFormatError
from tests.data.formats.conftest import WriteJson

IMAGES = [
    {"id": 9, "file_name": "b.jpg", "height": 10, "width": 20, "license": 3},
    {"id": 4, "file_name": "more/c.jpg", "height": 6, "width": 5},
]
INSTANCES: dict[str, Any] = {
    "info": {},
    "images": IMAGES,
    "categories": [
        {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
        {"id": 1, "name": "person", "supercategory": "person"},
    ],
    "annotations": [
        {
            "id": 77,
            "image_id": 9,
            "category_id": 90,
            "bbox": [2.5, 3, 4, 5.5],
            "area": 12.25,
            "iscrowd": 0,
            "segmentation": [[1, 1, 5, 1, 5, 5], [7, 7, 8, 7, 8.5, 8, 7, 8]],
        },
        {
            "id": 78,
            "image_id": 9,
            "category_id": 1,
            "bbox": [0, 0, 20, 10],
            "area": 200,
            "iscrowd": 1,
            "segmentation": {"size": [10, 20], "counts": [0, 200]},
        },
    ],
}
CAPTIONS = {
    "images": IMAGES,
    "annotations": [
        {"id": 1, "image_id": 4, "caption": "A cat."},
        {"id": 2, "image_id": 9, "caption": "A dog."},
        {"id": 3, "image_id": 4, "caption": "Still a cat."},
    ],
}


def test_instances_become_records_with_labels_and_corner_boxes(write_json: WriteJson, pictures: Path) -> None:
    file = read_instances(write_json("instances.json", INSTANCES), pictures)
    assert file.categories == (Category(1, "person", True), Category(90, "toothbrush", True))
    first, second = file.records
    assert (first.image.image_id, first.image.path, first.image.size) == (9, pictures / "b.jpg", (10, 20))
    brush, crowd = first.instances
    assert (brush.annotation_id, brush.label, brush.area, brush.is_crowd) == (77, 1, 12.25, False)
    assert brush.box_xyxy == (2.5, 3.0, 6.5, 8.5)
    assert brush.segmentation == Polygons((10, 20), ((1, 1, 5, 1, 5, 5), (7, 7, 8, 7, 8.5, 8, 7, 8)))
    assert (crowd.label, crowd.is_crowd, crowd.segmentation) == (0, True, RunLengths((10, 20), (0, 200)))
    assert second.image.path == pictures / "more/c.jpg" and second.instances == ()


def test_a_file_of_boxes_alone_has_no_outlines(write_json: WriteJson, pictures: Path) -> None:
    document = copy.deepcopy(INSTANCES)
    document["annotations"][0].pop("segmentation")
    document["annotations"][1].pop("iscrowd")
    box, crowd = read_instances(write_json("x.json", document), pictures).records[0].instances
    assert box.segmentation is None and not crowd.is_crowd


def test_captions_are_gathered_by_picture_in_the_order_of_the_file(
    write_json: WriteJson, pictures: Path
) -> None:
    records = read_captions(write_json("captions.json", CAPTIONS), pictures)
    assert [(r.image.image_id, r.captions) for r in records] == [
        (9, ("A dog.",)),
        (4, ("A cat.", "Still a cat.")),
    ]


def test_a_test_file_without_annotations_has_no_captions(write_json: WriteJson, pictures: Path) -> None:
    records = read_captions(write_json("x.json", {"images": IMAGES}), pictures)
    assert [record.captions for record in records] == [(), ()]


def test_bad_objects_are_left_out_and_told_and_the_rest_is_read(
    write_json: WriteJson, pictures: Path
) -> None:
    document = copy.deepcopy(INSTANCES)
    brush, crowd = document["annotations"]
    document["annotations"] = [
        {**brush, "id": 1, "category_id": 5},
        {**brush, "id": 2, "image_id": 5},
        {**brush, "id": 3, "image_id": 50},
        {**crowd, "id": 4, "segmentation": {"size": [9, 20], "counts": [0, 180]}},
        {**brush, "id": 5, "segmentation": [[1, 2, 3, 4], [1, 1, 5, 1, 5, 5]]},
        {**brush, "id": 6, "segmentation": [[1, 2, 3, 4]]},
        {**brush, "id": 6},
        {"id": 8},
        brush,
    ]
    document["images"] = [*IMAGES, {**IMAGES[0], "id": 50, "file_name": "z.jpg"}, IMAGES[1]]
    document["images"], document["annotations"] = document.pop("images"), document.pop("annotations")
    document["categories"] = document.pop("categories")  # comes last now
    file = read_instances(write_json("x.json", document), pictures)
    kept = file.records[0].instances
    assert [instance.annotation_id for instance in kept] == [5, 6, 77] and file.records.num_objects == 3
    assert kept[0].segmentation == Polygons((10, 20), ((1, 1, 5, 1, 5, 5),)) and kept[1].segmentation is None
    said = [" ".join(line.partition("x.json: ")[2].split()[:4]) for line in file.problems]
    assert said == [
        "images[2] names picture 'z.jpg',",  # and nothing of its object
        "images[3] repeats image id",
        "annotations[0] has category id",
        "annotations[1] belongs to image",
        "annotations[3] has a mask",
        "annotations[4] has a polygon",
        "annotations[5] has a polygon",
        "annotations[6] repeats annotation id",
        "annotations[7] has no key",
    ]


def test_objects_find_their_pictures_in_any_order(write_json: WriteJson, pictures: Path) -> None:
    brush = INSTANCES["annotations"][0]
    places = [(1, 4), (2, 9), (3, 4), (4, 9), (5, 9), (6, 4)]
    annotations = [{**brush, "id": key, "image_id": image} for key, image in places]
    file = read_instances(write_json("x.json", {**INSTANCES, "annotations": annotations}), pictures).strict()
    assert [[one.annotation_id for one in record.instances] for record in file.records] == [
        [2, 4, 5],
        [1, 3, 6],
    ]


def test_an_object_without_a_box_has_that_of_its_outline(write_json: WriteJson, pictures: Path) -> None:
    document = copy.deepcopy(INSTANCES)
    brush, crowd = document["annotations"]
    del brush["bbox"], brush["area"]
    crowd |= {"bbox": [], "segmentation": {"size": [10, 20], "counts": [25, 3, 7, 3, 162]}}
    polygons, runs = read_instances(write_json("x.json", document), pictures).strict().records[0].instances
    assert (polygons.box_xyxy, polygons.area) == ((1, 1, 8.5, 8), 7.5 * 7)
    assert runs.box_xyxy == (2, 5, 4, 8)


def test_pictures_are_found_by_the_end_of_their_names(write_json: WriteJson, pictures: Path) -> None:
    # Objects365 names images/v1/patch8/x.jpg what lies in patch8/x.jpg.
    document = {
        **INSTANCES,
        "images": [{**IMAGES[0], "file_name": "images/v1/more/c.jpg"}],
        "annotations": [],
    }
    (record,) = read_instances(write_json("x.json", document), pictures).records
    assert record.image.path == pictures / "more/c.jpg"


def test_names_of_pictures_may_have_the_backslashes_of_windows(write_json: WriteJson, pictures: Path) -> None:
    document = copy.deepcopy(INSTANCES)
    for image in document["images"]:
        image["file_name"] = "C:\\data\\" + image["file_name"]
    found = read_instances(write_json("x.json", document), pictures).strict()
    assert list(found.records) == list(read_instances(write_json("y.json", INSTANCES), pictures).records)


def test_records_are_a_sequence_and_cross_processes(write_json: WriteJson, pictures: Path) -> None:
    records = read_instances(write_json("x.json", INSTANCES), pictures).records
    again = pickle.loads(pickle.dumps(records))
    assert list(again) == list(records) == list(records[:]) and records[-1] == records[1]
    assert records.counts().tolist() == [2, 0] and records.sizes().tolist() == [[10, 20], [6, 5]]
    with pytest.raises(IndexError):
        records[2]


Damage = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.pop("categories"), "the file has no key 'categories'"),
        (lambda d: d.update(categories=[]), "has no categories"),
        (lambda d: d.update(images=[]), "has no images"),
        (
            lambda d: d["images"][1].update(file_name="z.jpg"),
            r"images\[1\] names picture 'z.jpg', which .* does not have",
        ),
        (lambda d: d["images"][1].update(id=9), r"images\[1\] repeats image id 9"),
        (lambda d: d["images"][0].update(height=0), r"images\[0\] has height 0 and width 20"),
        (lambda d: d["categories"][1].update(id=90), r"categories\[1\] repeats category id 90"),
        (lambda d: d["annotations"][1].update(image_id=5), r"annotations\[1\] belongs to image id 5"),
        (lambda d: d["annotations"][0].update(category_id=2), r"annotations\[0\] has category id 2"),
        (
            lambda d: d["annotations"][0].update(bbox=[1, 2, 3]),
            r"annotations\[0\] has .* not a list of 4 numbers",
        ),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4]), "a box of width -3"),
        (
            lambda d: [d["annotations"][0].pop(key) for key in ("bbox", "segmentation")],
            r"annotations\[0\] has no key 'bbox'",
        ),
        (lambda d: d["annotations"][1].update(id=77), r"annotations\[1\] repeats annotation id 77"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "at least three points"),
        (
            lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, "6"]]),
            "something else than numbers",
        ),
        (
            lambda d: d["annotations"][1]["segmentation"].update(size=[20, 10]),
            "has a mask 20 high and 10 wide",
        ),
        (lambda d: d["annotations"][1]["segmentation"].update(counts=[1.5]), r"segmentation has counts"),
    ],
)
def test_a_wrong_instances_file_is_refused_with_the_place(
    write_json: WriteJson, pictures: Path, damage: Damage, words: str
) -> None:
    document = copy.deepcopy(INSTANCES)
    damage(document)
    with pytest.raises(DataFormatError, match=words) as caught:
        read_instances(write_json("x.json", document), pictures).strict()
    advice = "check the folder of the pictures" if "picture 'z" in words else "expected COCO instances json"
    assert advice in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_captions_files_are_refused(write_json: WriteJson, pictures: Path) -> None:
    with pytest.raises(DataFormatError, match=r"annotations\[0\] has no key 'caption'"):
        read_captions(write_json("x.json", INSTANCES), pictures)
    with pytest.raises(DataFormatError, match="the file has no key 'images'"):
        read_captions(write_json("x.json", {"questions": []}), pictures)
    with pytest.raises(DataFormatError, match="no such folder; expected the folder of pictures"):
        read_captions(write_json("x.json", CAPTIONS), pictures / "gone")
