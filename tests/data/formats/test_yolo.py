from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from imglish.data.formats.segmentation import Polygons
from imglish.data.formats.yolo import find_yolo, read_yolo, read_yolo_classes
from imglish.errors import DataFormatError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 20)).save(tmp_path / "images/train" / name)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return tmp_path


def label(root: Path, *lines: str, stem: str = "a") -> None:
    (root / "labels/train" / f"{stem}.txt").write_text("\n".join(lines))


def test_boxes_and_polygons_are_read_in_pixels(root: Path) -> None:
    label(root, "1 0.5 0.5 0.25 0.5", "", "0 0 0 0.5 0 0.5 1")
    file = read_yolo(find_yolo(root, "train"), read_yolo_classes(root)).strict()
    assert [(c.category_id, c.name) for c in file.categories] == [(0, "cat"), (1, "dog")]
    first, second = file.records
    assert first.image.size == (20, 40) and first.image.path == root / "images/train/a.png"
    box, polygon = first.instances
    assert (box.label, box.box_xyxy, box.area, box.segmentation) == (1, (15, 5, 25, 15), 100, None)
    assert (polygon.label, polygon.box_xyxy) == (0, (0, 0, 20, 20))
    assert polygon.segmentation == Polygons((20, 40), ((0, 0, 20, 0, 20, 20),))
    assert second.instances == ()  # a picture without labels has no objects


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0.5 0.5 0.1 0.1", "has class 2, which is none of the 2 classes"),
        ("-1 0.5 0.5 0.1 0.1", "has class -1"),
        ("0 0.5 0.5 0.1", "has 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 6 numbers"),
        ("0 20 10 5 5", "has a number outside 0 to 1"),
        ("0 nan 0.5 0.1 0.1", "has a number outside 0 to 1"),
        ("cat 0.5 0.5 0.1 0.1", "has something else than numbers"),
        ("1 0.5 0.5 0.25 0.5", "repeats a line"),
    ],
)
def test_a_wrong_line_is_left_out_and_told(root: Path, line: str, words: str) -> None:
    label(root, "1 0.5 0.5 0.25 0.5", line)
    file = read_yolo(find_yolo(root, "train"), read_yolo_classes(root))
    assert file.records.num_objects == 1
    assert len(file.problems) == 1 and f"a.txt: line 2 {words}" in file.problems[0]


def test_lone_labels_and_damaged_pictures_are_told(root: Path) -> None:
    label(root, "0 0.5 0.5 0.1 0.1", stem="gone")
    for name in ("images/train/._a.png", "labels/train/._a.txt"):  # as a Mac leaves them
        (root / name).write_bytes(b"\0\5\x16\7")
    (root / "images/train/b.png").write_bytes(b"no picture")
    file = read_yolo(find_yolo(root, "train"), ("cat",))
    assert len(file.records) == 1
    assert "b.png: does not open" in file.problems[0]
    assert "gone.txt: has no picture gone" in file.problems[1]


def test_a_damaged_picture_is_told_once_and_missing_labels_by_their_folder(root: Path) -> None:
    label(root, "0 0.5 0.5 0.1 0.1")
    label(root, "0 0.5 0.5 0.1 0.1", stem="b")
    (root / "images/train/b.png").write_bytes(b"no picture")
    (problem,) = read_yolo(find_yolo(root, "train"), ("cat",)).problems
    assert "b.png: does not open" in problem
    (root / "labels").rename(root / "texts")
    with pytest.raises(DataFormatError, match=r"labels/train: no such folder; expected a text file for each"):
        read_yolo(find_yolo(root, "train"), ("cat",))


def test_files_are_read_as_windows_writes_them(root: Path) -> None:
    (root / "labels/train/a.txt").write_bytes(b"\xef\xbb\xbf1 0.5 0.5 0.25 0.5\r\n0 0.5 0.5 0.1 0.1\r\n\r\n")
    (root / "classes.txt").write_bytes("\ufeffStraße\r\n車\r\n".encode())
    file = read_yolo(find_yolo(root, "train"), read_yolo_classes(root)).strict()
    assert [category.name for category in file.categories] == ["Straße", "車"]
    assert [instance.label for instance in file.records[0].instances] == [1, 0]
    for damaged in ("Straße\n車".encode("utf-16"), "Straße".encode("latin-1")):
        (root / "classes.txt").write_bytes(damaged)
        with pytest.raises(DataFormatError, match=r"classes\.txt: is no UTF-8 text"):
            read_yolo_classes(root)


def test_a_picture_on_its_side_is_held_upright(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(root / "images/train/c.jpg", exif=exif)
    sizes = [record.image.size for record in read_yolo(find_yolo(root, "train"), ("cat",)).records]
    assert sizes == [(20, 40), (20, 40), (40, 20)]


def test_both_layouts_and_both_lists_of_classes_are_found(root: Path, tmp_path: Path) -> None:
    (tmp_path / "valid/images").mkdir(parents=True)
    assert find_yolo(root, "validation").labels == tmp_path / "valid/labels"
    (root / "classes.txt").unlink()
    with pytest.raises(DataFormatError, match=r"has no classes\.txt"):
        read_yolo_classes(root)
    (root / "data.yaml").write_text("nc: 2\nnames:\n  0: cat\n  1: dog\n")
    assert read_yolo_classes(root) == ("cat", "dog")
    (root / "data.yaml").write_text("names: [cat, dog, cow]\n")
    assert read_yolo_classes(root) == ("cat", "dog", "cow")
    (root / "data.yaml").write_text("names: [yes, no]\n")
    with pytest.raises(DataFormatError, match=r"data\.yaml: has the name True, which is no text in YAML"):
        read_yolo_classes(root)
    for text in ("names: 3", "names: {1: cat}", "[", "just words"):
        (root / "data.yaml").write_text(text)
        with pytest.raises(DataFormatError, match=r"data\.yaml"):
            read_yolo_classes(root)
    with pytest.raises(DataFormatError, match="has no train pictures"):
        find_yolo(tmp_path / "nowhere", "train")
