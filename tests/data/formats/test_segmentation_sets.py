"""Small copies of the published segmentation sets, with every value that their masks may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from imglish.data.formats import segmentation_classes as names
from imglish.data.formats.segmentation_sets import SegmentationFiles, SegmentationSet, read_segmentation_set
from imglish.data.mask_classes import read_labels
from imglish.errors import DataFormatError

PALETTE = [number % 256 for number in range(768)]


def pair(root: Path, picture: str, mask: str, values: object, *, palette: bool = False) -> None:
    """Write a picture and a mask of these values, in one row."""
    pixels = np.asarray(values, dtype=np.uint8)
    row = pixels[None]
    for path in (root / picture, root / mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (row.shape[1], 1)).save(root / picture)
    image = Image.fromarray(row)
    if palette:
        image = image.convert("L")
        image.putpalette(PALETTE)
    image.save(root / mask)


def ids(files: SegmentationFiles, number: int = 0) -> list[int]:
    record = files.records[number]
    with Image.open(record.path) as image:
        size = (image.height, image.width)
    found: list[int] = read_labels(record, files.labels, size)[0].tolist()
    return found


def test_ade20k_has_its_first_class_at_one(tmp_path: Path) -> None:
    for part, stem in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        pair(tmp_path, f"images/{part}/{stem}.jpg", f"annotations/{part}/{stem}.png", [0, 1, 150])
    files = read_segmentation_set("ade20k", tmp_path, "train")
    assert ids(files) == [255, 0, 149] and files.labels.classes[149] == "flag"
    assert read_segmentation_set("ade20k", tmp_path, "validation").records[0].path.stem == "ADE_val_00000001"


def test_cityscapes_is_read_by_ids_of_training_or_of_labels(tmp_path: Path) -> None:
    city = "aachen/aachen_000000_000019"
    pair(
        tmp_path,
        f"leftImg8bit/train/{city}_leftImg8bit.png",
        f"gtFine/train/{city}_gtFine_labelIds.png",
        [0, 7, 8, 9, 17, 29, 31, 33],
    )
    Image.new("L", (8, 1)).save(tmp_path / f"gtFine/train/{city}_gtFine_instanceIds.png")
    by_labels = read_segmentation_set("cityscapes", tmp_path, "train")
    assert ids(by_labels) == [255, 0, 1, 255, 5, 255, 16, 18]
    pair(
        tmp_path,
        f"leftImg8bit/train/{city}_leftImg8bit.png",
        f"gtFine/train/{city}_gtFine_labelTrainIds.png",
        [255, 0, 18],
    )
    assert ids(read_segmentation_set("cityscapes", tmp_path, "train")) == [255, 0, 18]


@pytest.mark.parametrize("folder", ["labels", "v1.2/labels"])
def test_mapillary_becomes_cityscapes_classes(tmp_path: Path, folder: str) -> None:
    values = [13, 24, 41, 2, 15, 45, 47, 22, 58, 0, 65]
    pair(tmp_path, "training/images/a.jpg", f"training/{folder}/a.png", values, palette=True)
    files = read_segmentation_set("mapillary", tmp_path, "train")
    assert ids(files) == [0, 0, 0, 1, 1, 5, 5, 12, 16, 255, 255]
    assert files.labels.classes == names.CITYSCAPES


@pytest.mark.parametrize("suffix", ["", "_labelTrainIds"])
def test_coco_stuff_leaves_out_the_ids_that_no_picture_has(tmp_path: Path, suffix: str) -> None:
    raw = [0, 10, 12, 89, 91, 181, 255]
    pair(
        tmp_path,
        "images/train2017/000000000009.jpg",
        f"annotations/train2017/000000000009{suffix}.png",
        [0, 10, 11, 79, 80, 170, 255] if suffix else raw,
    )
    expected = [0, 10, 11, 79, 80, 170, 255]
    files = read_segmentation_set("coco_stuff164k", tmp_path, "train")
    assert ids(files) == expected
    called = [files.labels.classes[i] for i in expected[:-1]]
    assert called == ["person", "fire hydrant", "stop sign", "toothbrush", "banner", "wood"]
    # The 10k masks count from 1, with 0 for unlabelled.
    pair(
        tmp_path,
        "images/train2014/a.jpg",
        f"annotations/train2014/a{suffix}.png",
        [0, 1, 11, 12, 80, 81, 171] if suffix else [0, 1, 11, 13, 90, 92, 182],
    )
    assert ids(read_segmentation_set("coco_stuff10k", tmp_path, "train")) == [255, *expected[:-1]]


def test_an_id_of_coco_that_no_picture_has_is_refused(tmp_path: Path) -> None:
    pair(tmp_path, "images/val2017/a.jpg", "annotations/val2017/a.png", [0, 11])
    with pytest.raises(DataFormatError, match=r"a\.png: has the value 11; expected one of 0, 1, 2,"):
        ids(read_segmentation_set("coco_stuff164k", tmp_path, "validation"))


def test_coco_stuff10k_is_read_as_published(tmp_path: Path) -> None:
    """MATLAB files with S of 16 bits, among captions and names, and lists of the splits."""
    for stem, values in (("a", [0, 1, 13, 182]), ("b", [92, 1, 1, 1]), ("c", [1, 1, 1, 12])):
        pair(tmp_path, f"images/{stem}.jpg", "annotations/unused.png", values)
        content = {"S": np.array([values], np.uint16), "captions": np.array([["a", "b"]], dtype=object)}
        savemat(tmp_path / "annotations" / f"{stem}.mat", content, do_compression=stem != "b")
    lists = tmp_path / "imageLists"
    lists.mkdir()
    (lists / "train.txt").write_text("b\na\n")
    (lists / "test.txt").write_text("c\nd\n")
    train = read_segmentation_set("coco_stuff10k", tmp_path, "train").strict()
    assert [record.path.stem for record in train.records] == ["b", "a"]
    assert ids(train) == [80, 0, 0, 0]  # 92 is the first stuff
    assert ids(train, 1) == [255, 0, 11, 170]
    scored = read_segmentation_set("coco_stuff10k", tmp_path, "validation")
    assert "d.jpg: no such file" in scored.problems[0]
    with pytest.raises(DataFormatError, match=r"c\.mat: has the value 12; expected one of 1, 2, 3, 4, 5"):
        ids(scored)  # no picture has that id of COCO
    (tmp_path / "annotations" / "a.mat").unlink()
    told = read_segmentation_set("coco_stuff10k", tmp_path, "train").problems
    assert told and "a.jpg: has no mask; expected" in told[0] and "a.mat: get it" in told[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"T": np.ones((1, 4), np.uint16)}, "has no array S"),
        (
            {"S": np.ones((4, 1), np.uint16)},
            r"holds S of uint16 \(4, 1\); expected whole numbers of its",
        ),
        ({"S": np.ones((1, 4))}, "holds S of float64"),
        ({"S": "words"}, "is damaged"),
        (b"MATLAB 7.3 MAT-file", r"is no MATLAB file of version 5 to 7; save it with save\(..., '-v7'\)"),
        (b"", "is no MATLAB file"),
    ],
)
def test_other_matlab_files_are_told_in_a_line(tmp_path: Path, content: Any, words: str) -> None:
    pair(tmp_path, "images/a.jpg", "annotations/unused.png", [1, 1, 1, 1])
    path = tmp_path / "annotations" / "a.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    (tmp_path / "imageLists").mkdir()
    (tmp_path / "imageLists" / "train.txt").write_text("a\n")
    with pytest.raises(DataFormatError, match=rf"a\.mat: {words}"):
        ids(read_segmentation_set("coco_stuff10k", tmp_path, "train"))


def test_pascal_context_reads_the_list_of_its_split(tmp_path: Path) -> None:
    for stem in ("2008_000002", "2008_000003"):
        pair(tmp_path, f"JPEGImages/{stem}.jpg", f"SegmentationClassContext/{stem}.png", [0, 1, 59])
    lists = tmp_path / "ImageSets" / "SegmentationContext"
    with pytest.raises(DataFormatError, match=r"train\.txt: no such file"):
        read_segmentation_set("pascal_context", tmp_path, "train")
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2008_000003\n2008_000009\n")
    files = read_segmentation_set("pascal_context", tmp_path, "train")
    assert [record.path.stem for record in files.records] == ["2008_000003"] and ids(files) == [255, 0, 58]
    (problem,) = files.problems
    assert "2008_000009.jpg: no such file, but" in problem and "train.txt names it" in problem


def test_potsdam_is_read_by_ids_or_by_colours(tmp_path: Path) -> None:
    pair(tmp_path, "img_dir/train/2_10_0_0_512_512.png", "ann_dir/train/2_10_0_0_512_512.png", [0, 1, 6])
    assert ids(read_segmentation_set("potsdam", tmp_path, "train")) == [255, 0, 5]
    # A tile of one class only is white, which could be taken for grey.
    colors = [(255, 255, 255), (0, 0, 255), (255, 0, 0), (0, 0, 0)]
    for number, row in enumerate(([colors[0]] * 4, colors)):
        pair(tmp_path, f"img_dir/val/{number}.png", f"ann_dir/val/{number}.png", row)
    files = read_segmentation_set("potsdam", tmp_path, "validation")
    assert ids(files) == [0, 0, 0, 0] and ids(files, 1) == [0, 1, 5, 255]


def test_potsdam_as_published_is_to_be_cut_first(tmp_path: Path) -> None:
    (tmp_path / "2_Ortho_RGB").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "2_Ortho_RGB" / "top_potsdam_2_10_RGB.tif")
    with pytest.raises(DataFormatError, match=r"holds Potsdam as published, .*: cut them first"):
        read_segmentation_set("potsdam", tmp_path, "train")


@pytest.mark.parametrize("published", [True, False])
def test_chase_db1_is_read_as_published_or_converted(tmp_path: Path, published: bool) -> None:
    stems = [f"Image_{number:02d}{side}" for number in range(1, 15) for side in "LR"]
    for place, stem in enumerate(stems):
        if published:
            pair(tmp_path, f"{stem}.jpg", f"{stem}_1stHO.png", [0, 127, 128, 255])
            if stem == "Image_01R":  # the published masks have one bit
                bits = np.array([[False, True, True, False]])
                Image.fromarray(bits).save(tmp_path / f"{stem}_1stHO.png")
                assert Image.open(tmp_path / f"{stem}_1stHO.png").mode == "1"
            Image.new("L", (4, 1)).save(tmp_path / f"{stem}_2ndHO.png")
        else:
            part = "training" if place < 20 else "validation"
            pair(tmp_path, f"images/{part}/{stem}.png", f"annotations/{part}/{stem}_1stHO.png", [0, 1, 1, 0])
            Image.new("L", (4, 1)).save(tmp_path / f"annotations/{part}/{stem}_2ndHO.png")
    train = read_segmentation_set("chase_db1", tmp_path, "train")
    scored = read_segmentation_set("chase_db1", tmp_path, "validation")
    assert (len(train.records), len(scored.records)) == (20, 8) and not train.problems + scored.problems
    assert scored.records[0].path.stem == "Image_11L"
    assert ids(train) == ([0, 0, 1, 1] if published else [0, 1, 1, 0])
    assert ids(train, 1) == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("ade20k", "annotations/training"),
        ("cityscapes", "leftImg8bit/train"),
        ("mapillary", "training/labels"),
        ("coco_stuff164k", "annotations/train2017"),
        ("potsdam", "ann_dir/train"),
        ("chase_db1", "has no pictures in it"),
    ],
)
def test_a_set_that_is_not_there_is_told_by_its_folder(
    tmp_path: Path, name: SegmentationSet, missing: str
) -> None:
    with pytest.raises(DataFormatError, match=missing):
        read_segmentation_set(name, tmp_path, "train").strict()


def test_files_that_are_alone_are_told_and_the_others_read(tmp_path: Path) -> None:
    pair(tmp_path, "images/training/a.jpg", "annotations/training/a.png", [1])
    pair(tmp_path, "images/training/b.jpg", "annotations/training/c.png", [1])
    files = read_segmentation_set("ade20k", tmp_path, "train")
    assert [record.path.stem for record in files.records] == ["a"]
    assert "b.jpg: has no mask; expected" in files.problems[0]
    assert "c.png: has no picture c" in files.problems[1]
    with pytest.raises(DataFormatError, match=r"b\.jpg: has no mask"):
        files.strict()
