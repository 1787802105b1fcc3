"""`imglish data check` on files with objects, and the records of a run, with every fault of the issue."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from imglish.cli.main import main
from imglish.data.world.scene import SHAPES, WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes.data_config import CocoInstancesData, CocoPanopticData, FolderData, YoloData
from imglish.recipes.detection_records import detection_files, panoptic_file

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 44, "name": "dog"}]
SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]


def annotation(number: int, image: int = 1, **changes: object) -> dict[str, object]:
    fields = {"bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0, "segmentation": SQUARE}
    return {"id": number, "image_id": image, "category_id": 3, **fields, **changes}


def write(root: Path, name: str, *annotations: dict[str, object], **changes: object) -> Path:
    """A json about the pictures 1.png to 4.png of 40 x 50 pixels, the fourth a single pixel."""
    (root / "pictures").mkdir(exist_ok=True)
    for number in (1, 2, 3, 4):
        Image.new("RGB", (50, 40) if number < 4 else (1, 1)).save(root / f"pictures/{number}.png")
    document = {
        "images": [
            {
                "id": number,
                "file_name": f"{number}.png",
                "height": 40 if number < 4 else 1,
                "width": 50 if number < 4 else 1,
            }
            for number in (1, 2, 3, 4)
        ],
        "categories": CATEGORIES,
        "annotations": list(annotations),
    }
    path = root / name
    path.write_text(json.dumps(document | changes))
    return path


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], str]:
    """Exit status, lines and the last error of a check."""
    status = main(["data", "check", *words])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


def test_a_good_file_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(
        tmp_path, "train.json", annotation(1), annotation(2, image=2, category_id=44), annotation(3)
    )
    val = write(tmp_path, "val.json", annotation(1, segmentation=[]))
    status, lines, _ = checked(capsys, str(train), str(val), "--pictures", str(tmp_path / "pictures"))
    assert status == 0
    assert lines == [
        f"{train}: 3 objects on 4 pictures, 2 classes",
        "  cat: 2 objects on 1 pictures",
        "  dog: 1 objects on 1 pictures",
        "  note: pictures without objects, which are not trained on by default: 2",
        "  note: pictures with a side under 32 pixels, which are not trained on by default: 1",
        f"{val}: 1 objects on 4 pictures, 2 classes",
        "  cat: 1 objects on 1 pictures",
        "  dog: 0 objects on 0 pictures",
        "  note: objects without an outline, which no mask is trained on or scored with: 1",
        "  note: pictures without objects, which are not trained on by default: 3",
        "  note: pictures with a side under 32 pixels, which are not trained on by default: 1",
        "  note: classes that no object has: 1 (dog)",
    ]


def test_every_fault_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = [annotation(100 + number, image=3) for number in range(500)]
    path = write(
        tmp_path,
        "bad.json",
        annotation(1, bbox=[-9, 2, 30, 10]),
        annotation(2, bbox=[70, 2, 10, 10]),
        annotation(3, bbox=[2, 2, 0, 10]),
        annotation(4, bbox=[]),
        annotation(4),
        annotation(5, category_id=9),
        annotation(6, image=9),
        annotation(7, segmentation=[[1, 1, 5, 5]]),
        annotation(8, segmentation={"size": [40, 50], "counts": [7]}),
        annotation(9, bbox=[2, 2, -1, 10]),
        *many,
    )
    document = json.loads(path.read_text())
    document["images"] += [
        {"id": 11, "file_name": "gone.png", "height": 40, "width": 50},
        document["images"][0],
    ]
    document["images"][1]["width"] = 60
    path.write_text(json.dumps(document))
    status, lines, error = checked(capsys, str(path), "--pictures", str(tmp_path / "pictures"))
    assert status != 0 and "9 problems; mend or remove what is listed above" in error
    assert lines[0] == f"{path}: 506 objects on 2 pictures, 2 classes"
    problems = [line for line in lines[1:] if not line.startswith(("  note:", "  cat:", "  dog:"))]
    expected = [
        "images[4] names picture 'gone.png'",
        "images[5] repeats image id 1",
        "annotations[4] repeats annotation id 4",
        "annotations[5] has category id 9, which is not among the categories",
        "annotations[6] belongs to image id 9, which is not among the images",
        "annotations[7] has a polygon without at least three points",
        "annotations[9] has a box of width -1",
        "1.png: object 8: run lengths cover 7 pixels",
        "2.png: is 40 high and 50 wide, but its annotations are of 40 high and 60 wide",
    ]
    assert len(problems) == len(expected)
    for line, words in zip(problems, expected, strict=True):
        assert words in line
    notes = [line for line in lines if line.startswith("  note:")]
    assert "  note: boxes that reach out of their picture, which are cut off at its edges: 1" in notes
    assert (
        "  note: objects outside their picture, thinner than a pixel or without area, not trained on: 2"
        in notes
    )
    assert any(line.startswith("  note: most objects in one picture: 500") for line in notes)


def test_files_without_objects_or_with_other_categories_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = write(tmp_path, "empty.json")
    other = write(tmp_path, "other.json", annotation(1), categories=CATEGORIES[:1])
    status, lines, _ = checked(capsys, str(empty), str(other), "--pictures", str(tmp_path / "pictures"))
    assert status != 0
    assert any("empty.json: has no object on any of 4 pictures" in line for line in lines)
    assert any("other.json: has other categories than empty.json" in line for line in lines)
    counted = write(
        tmp_path,
        "counted.json",
        annotation(1),
        categories=[{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    )
    good = write(tmp_path, "good.json", annotation(1))
    status, lines, _ = checked(capsys, str(good), str(counted), "--pictures", str(tmp_path / "pictures"))
    assert status != 0  # as in training: the same names, but another id
    assert any("counted.json: has other categories than good.json" in line for line in lines)
    status, lines, _ = checked(capsys, str(tmp_path / "gone.json"), str(tmp_path / "gone"))
    assert status != 0 and "gone.json: no such file; expected COCO instances json" in lines[0]
    assert lines[1] == f"{tmp_path / 'gone'}: no such file or folder; expected data to check: check the path"


def test_classes_of_one_name_are_told_apart_by_their_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in files whose first category is the name of the whole set."""
    twice = [*CATEGORIES, {"id": 0, "name": "cat"}]
    path = write(tmp_path, "train.json", annotation(1), categories=twice)
    status, lines, _ = checked(capsys, str(path), "--pictures", str(tmp_path / "pictures"))
    assert status == 0
    assert "  cat (0): 0 objects on 0 pictures" in lines and "  cat (3): 1 objects on 1 pictures" in lines
    data = CocoInstancesData(root=tmp_path, train="train.json", train_images="pictures")
    assert detection_files(data, "train").classes == ("cat (0)", "cat (3)", "dog")


def test_yolo_folders_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, labels in (("train", "0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2"), ("val", "1 0.5 0.5 0.2 0.2")):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (50, 40)).save(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split / "a.txt").write_text(labels)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    status, lines, _ = checked(capsys, str(tmp_path), "--layout", "yolo")
    assert status != 0 and lines[0] == f"{tmp_path} (train): 1 objects on 1 pictures, 2 classes"
    assert "a.txt: line 2 has class 7, which is none of the 2 classes" in lines[1]
    told = checked(capsys, str(tmp_path))[1]
    assert "images/train: no picture has a mask; the first: " in told[0]
    assert told[1:] == ["  note: labels in text files are YOLO's, which --layout yolo checks"]
    assert "  note: classes that no object of training has: dog" in lines
    files = detection_files(YoloData(root=tmp_path), "validation").usable()
    assert files.classes == ("cat", "dog") and not files.has_masks


def test_numbers_and_flags_are_read_as_other_tools_write_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path,
        "train.json",
        annotation(1, image_id=1.0, category_id=3.0),  # a table with gaps has numbers with a point
        annotation(2, iscrowd=True),
        annotation(3, iscrowd=False),
        annotation(4, image_id=1.5),
        annotation(10**30),
    )
    status, lines, _ = checked(capsys, str(path), "--pictures", str(tmp_path / "pictures"))
    assert status != 0 and lines[0] == f"{path}: 3 objects on 4 pictures, 2 classes"
    assert "annotations[3] has 1.5 at key 'image_id', not a whole number;" in lines[1]
    assert (
        "annotations[4] has 1000000000000000000000000000000 at key 'id', not a whole number of 64" in lines[2]
    )
    assert "  note: crowds, which are neither found nor background: 1" in lines


def test_panoptic_files_are_checked_with_their_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = write_world(
        WorldConfig(picture_size=64), tmp_path / "world", num_train=4, num_validation=2, workers=1
    )
    words = str(world.panoptic("train")), "--pictures", str(world.images("train")), "--maps"
    status, lines, _ = checked(capsys, *words, str(world.panoptic_maps("train")))
    assert status == 0 and " segments" not in lines[0] and "objects on 4 pictures" in lines[0]
    status, lines, _ = checked(capsys, *words[:3])
    assert status != 0 and "has segments: of a panoptic json the check wants the folder of --maps" in lines[1]
    Image.new("RGB", (64, 64), (9, 9, 9)).save(world.panoptic_maps("train") / "00000001.png")
    (world.panoptic_maps("train") / "00000002.png").unlink()
    Image.new("L", (64, 64)).save(world.panoptic_maps("train") / "00000003.png")
    status, lines, _ = checked(capsys, *words, str(world.panoptic_maps("train")))
    assert status != 0 and "objects on 2 pictures" in lines[0]
    assert "names map '00000002.png'" in lines[1] and "expected R+G+B" in lines[2]
    assert "  note: ids in maps that the json does not list, which count as unlabelled: 1" in lines


def test_training_goes_on_without_what_is_wrong_and_says_how_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "train.json", annotation(1), annotation(2, category_id=9), annotation(3, bbox="x"))
    write(tmp_path, "val.json", annotation(1), categories=CATEGORIES[:1])
    data = CocoInstancesData(
        root=tmp_path,
        train="train.json",
        train_images="pictures",
        validation="val.json",
        validation_images="pictures",
        semantic="maps",
    )
    with caplog.at_level(logging.WARNING):
        files = detection_files(data, "train").usable()
    assert files.records.num_objects == 1 and files.has_masks
    assert files.semantic is not None and files.semantic.folder == tmp_path / "maps/pictures"
    assert (
        "2 pictures, objects, segments or outlines are left out" in caplog.text
        and "annotations[1]" in caplog.text
    )
    with pytest.raises(DataFormatError, match="has no category where training has category 44 'dog'"):
        detection_files(data, "validation", files.categories)
    write(tmp_path, "train.json", annotation(3, bbox="x"))
    with pytest.raises(DataFormatError, match=r"train\.json: none of the 4 pictures has an object that can"):
        detection_files(data, "train").usable()


def test_a_world_has_objects_and_segments(tmp_path: Path) -> None:
    write_world(WorldConfig(picture_size=64), tmp_path / "world", num_train=4, num_validation=2, workers=1)
    data = FolderData(root=tmp_path / "world")
    files = detection_files(data, "train").usable()
    assert files.classes == tuple(SHAPES) and files.has_masks and files.problems == ()
    assert (
        files.semantic is not None and files.semantic.read(files.records[0].image.path, (64, 64)).max() < 255
    )
    assert len(panoptic_file(data, "validation").records) == 2
    coco = CocoPanopticData(
        root=tmp_path / "world",
        train="coco/panoptic_train.json",
        train_images="images/train",
        train_maps="coco/panoptic_train",
    )
    assert list(panoptic_file(coco, "train").records) == list(panoptic_file(data, "train").records)
    with pytest.raises(ConfigError, match="has no boxes"):
        detection_files(coco, "train")
    with pytest.raises(ConfigError, match="has no segments"):
        panoptic_file(YoloData(), "train")
