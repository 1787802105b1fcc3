"""Own folders of pictures with masks: which files belong together, and which classes masks have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imglish.data.formats.mask_folder import MaskRecord
from imglish.data.formats.mask_labels import MaskLabels, numbered
from imglish.data.mask_classes import MaskRules, find_labels, find_masks, read_class_file, read_labels
from imglish.errors import DataFormatError


def mask(path: Path, values: object, dtype: type = np.uint8) -> MaskRecord:
    """Write a mask of one row and a picture beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels: NDArray[np.integer] = np.asarray(values, dtype)[None]
    Image.fromarray(pixels).save(path)
    picture = path.with_suffix(".jpg")
    Image.new("RGB", (pixels.shape[1], 1)).save(picture)
    return MaskRecord(picture, path)


def ids(record: MaskRecord, labels: MaskLabels, width: int) -> list[int]:
    return read_labels(record, labels, (1, width))[0].tolist()  # type: ignore[no-any-return]


def labels_file(folder: Path, text: str) -> MaskRules:
    path = folder / "classes.txt"
    path.write_text(text, encoding="utf-8")
    return MaskRules(classes=path)


# Inferred classes


def test_every_value_of_the_training_masks_is_a_class(tmp_path: Path) -> None:
    records = [mask(tmp_path / "a.png", [0, 7, 255]), mask(tmp_path / "b.png", [7, 3, 3])]
    labels = find_labels(records, MaskRules())
    assert labels.classes == ("background", "class 3", "class 7")
    assert ids(records[0], labels, 3) == [0, 2, 255] and ids(records[1], labels, 3) == [2, 1, 1]


def test_zero_counts_for_nothing_where_it_is_no_class(tmp_path: Path) -> None:
    record = mask(tmp_path / "a.png", [0, 7, 3, 254])
    labels = find_labels([record], MaskRules(background="ignored", ignored=(254,)))
    assert labels.classes == ("class 3", "class 7") and ids(record, labels, 4) == [255, 1, 0, 255]


def test_large_ids_of_sixteen_bits_are_classes(tmp_path: Path) -> None:
    record = mask(tmp_path / "a.png", [0, 1000, 65535], np.uint16)
    labels = find_labels([record], MaskRules())
    assert labels.classes == ("background", "class 1000", "class 65535")
    assert ids(record, labels, 3) == [0, 1, 2]


def test_a_palette_is_read_by_its_numbers(tmp_path: Path) -> None:
    record = mask(tmp_path / "a.png", [0, 2, 1])
    image = Image.open(record.mask_path)
    image.putpalette([9, 9, 9, 128, 0, 0, 0, 128, 0])
    image.save(record.mask_path)
    assert Image.open(record.mask_path).mode == "P"
    assert ids(record, find_labels([record], MaskRules()), 3) == [0, 2, 1]


def test_colours_are_classes_and_black_is_the_background(tmp_path: Path) -> None:
    red, black = (255, 0, 0), (0, 0, 0)
    records = [mask(tmp_path / "a.png", [black, black, black]), mask(tmp_path / "b.png", [red, black, red])]
    labels = find_labels(records, MaskRules())
    assert labels.classes == ("background", "#ff0000")
    assert ids(records[0], labels, 3) == [0, 0, 0] and ids(records[1], labels, 3) == [1, 0, 1]


def test_grey_that_is_saved_as_rgb_is_read_as_grey(tmp_path: Path) -> None:
    record = mask(tmp_path / "a.png", [(0, 0, 0), (2, 2, 2), (1, 1, 1)])
    labels = find_labels([record], MaskRules())
    assert labels.classes == ("background", "class 1", "class 2") and ids(record, labels, 3) == [0, 2, 1]


def test_black_and_white_masks_have_a_class_in_white(tmp_path: Path) -> None:
    record = mask(tmp_path / "a.png", [0, 255, 255])
    labels = find_labels([record], MaskRules())
    assert labels.classes == ("background", "class 255") and ids(record, labels, 3) == [0, 1, 1]


@pytest.mark.parametrize(
    ("values", "background", "words"),
    [
        ([3, 3], "class", "have the single class 'class 3'; expected at least two"),
        ([0, 0], "ignored", "have no class; expected at least two"),
        ([0, 255], "ignored", "have no class"),
        ([0, 1], "ignored", "have the single class 'class 1'"),
    ],
)
def test_masks_with_nothing_to_tell_apart_are_refused(
    tmp_path: Path, values: list[int], background: str, words: str
) -> None:
    record = mask(tmp_path / "a.png", values)
    with pytest.raises(DataFormatError, match=words):
        find_labels([record], MaskRules(background=background))  # type: ignore[arg-type]


def test_soft_edges_are_told_by_the_file_that_has_too_many_values(tmp_path: Path) -> None:
    records = [mask(tmp_path / "a.png", [0, 1]), mask(tmp_path / "b.png", range(300), np.uint16)]
    with pytest.raises(DataFormatError, match=r"b\.png: is the mask with which there are 300 different v"):
        find_labels(records, MaskRules())


def test_a_damaged_mask_tells_no_classes_but_keeps_none_from_being_found(tmp_path: Path) -> None:
    records = [mask(tmp_path / "a.png", [0, 1]), mask(tmp_path / "b.png", [5, 6])]
    records[1].mask_path.write_bytes(b"no picture")
    assert find_labels(records, MaskRules()).classes == ("background", "class 1")
    with pytest.raises(DataFormatError, match="none of the 1 training masks can be read"):
        find_labels(records[1:], MaskRules())


def test_colours_and_a_palette_do_not_mix(tmp_path: Path) -> None:
    records = [mask(tmp_path / "a.png", [(1, 2, 3), (0, 0, 0)]), mask(tmp_path / "b.png", [0, 1])]
    image = Image.open(records[1].mask_path)
    image.putpalette([0, 0, 0, 1, 2, 3])
    image.save(records[1].mask_path)
    with pytest.raises(DataFormatError, match="some masks are colours, others numbers of a palette"):
        find_labels(records, MaskRules())
    rules = labels_file(tmp_path, "#000000 ground\n#010203 tree\n")
    labels = find_labels(records, rules)
    assert ids(records[0], labels, 2) == [1, 0] and ids(records[1], labels, 2) == [0, 1]


# Named classes


def test_names_alone_count_from_zero_or_from_one(tmp_path: Path) -> None:
    rules = labels_file(tmp_path, "ground\n\n traffic light\n")
    labels = read_class_file(tmp_path / "classes.txt", rules)
    assert labels.classes == ("ground", "traffic light") and dict(labels.ids) == {0: 0, 1: 1, 255: 255}
    ade = MaskRules(classes=rules.classes, background="ignored")
    assert dict(read_class_file(tmp_path / "classes.txt", ade).ids) == {0: 255, 1: 0, 2: 1, 255: 255}


def test_files_of_classes_are_read_as_windows_and_tables_write_them(tmp_path: Path) -> None:
    rules = labels_file(tmp_path, "\ufeff0\tStraße\r\n3\t 車 2\r\n")
    labels = read_class_file(tmp_path / "classes.txt", rules)
    assert labels.classes == ("Straße", "車 2") and dict(labels.ids) == {0: 0, 3: 1, 255: 255}


def test_values_of_one_name_are_one_class_and_some_are_ignored(tmp_path: Path) -> None:
    rules = labels_file(tmp_path, "7 road\n10 road\n11 building\n9 ignored\n")
    record = mask(tmp_path / "a.png", [7, 9, 10, 11, 255])
    assert ids(record, find_labels([record], rules), 5) == [0, 255, 0, 1, 255]
    stranger = mask(tmp_path / "b.png", [7, 12])
    with pytest.raises(DataFormatError, match=r"b\.png: has the value 12; expected one of 7, 10, 11, "):
        ids(stranger, find_labels([stranger], rules), 2)


def test_colours_are_named_in_either_way(tmp_path: Path) -> None:
    rules = labels_file(tmp_path, "255,0,0 car\n#00ff00 tree\n0,0,0 ignored\n")
    record = mask(tmp_path / "a.png", [(255, 0, 0), (0, 0, 0), (0, 255, 0)])
    labels = find_labels([record], rules)
    assert labels.classes == ("car", "tree") and ids(record, labels, 3) == [0, 255, 1]
    stranger = mask(tmp_path / "b.png", [(254, 0, 0), (0, 0, 0)])
    with pytest.raises(DataFormatError, match=r"b\.png: has the colour #fe0000, which is none of the 3 "):
        ids(stranger, labels, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no class"),
        ("road\n", "names the single class 'road'"),
        ("0 road\nsky\n", "names classes by order and by value"),
        ("0: road\n1: sky\n", "has the line '0: road'; expected a space between a value and its name"),
        ("255, 0, 0 road\n0,0,0 sky\n", "has the line '255, 0, 0 road'"),
        ("1 road\n1 sky\n2 sea\n", "names the value 1 twice"),
        ("\n".join(f"class {n}" for n in range(256)), "names 256 classes; expected at most 255"),
    ],
)
def test_wrong_files_of_classes_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataFormatError, match=rf"classes\.txt: {words}"):
        find_labels([], labels_file(tmp_path, text))


def test_a_file_of_classes_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="no such file; expected the names of the classes"):
        find_labels([], MaskRules(classes=tmp_path / "gone.txt"))


def test_impossible_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="there must be 1 to 255 classes; got 256"):
        numbered([str(number) for number in range(256)])
    with pytest.raises(ValueError, match="id 2 is that of none of the 2 classes"):
        MaskLabels(classes=("a", "b"), ids={0: 0, 1: 2})


def test_the_file_decides_about_a_value_that_is_otherwise_ignored(tmp_path: Path) -> None:
    rules = labels_file(tmp_path, "0 ground\n255 cell\n")
    assert dict(find_labels([], rules).ids) == {0: 0, 255: 1}
    three = labels_file(tmp_path, "0 ground\n1 cell\n2 wall\n")
    ignored = MaskRules(classes=three.classes, background="ignored")
    assert dict(find_labels([], ignored).ids) == {0: 255, 1: 0, 2: 1, 255: 255}


# Folders


def folder(root: Path, *parts: str, count: int = 4) -> Path:
    for part in parts:
        for number in range(count):
            for kind, suffix in (("images", "jpg"), ("masks", "png")):
                path = root / kind / part / f"{number:02d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
    return root


def stems(records: tuple[MaskRecord, ...]) -> list[str]:
    return [record.path.stem for record in records]


@pytest.mark.parametrize("train", ["", "train", "training"])
def test_every_tenth_picture_is_scored_where_there_is_no_folder_of_them(tmp_path: Path, train: str) -> None:
    root = folder(tmp_path, train, count=20)
    assert stems(find_masks(root, "validation", 0.1).records) == ["09", "19"]
    kept = stems(find_masks(root, "train", 0.1).records)
    assert len(kept) == 18 and "09" not in kept


def test_a_few_pictures_still_leave_one_to_score(tmp_path: Path) -> None:
    root = folder(tmp_path, "", count=3)
    assert stems(find_masks(root, "validation", 0.1).records) == ["02"]
    assert stems(find_masks(root, "train", 0.1).records) == ["00", "01"]
    with pytest.raises(DataFormatError, match="has 1 pictures with masks; expected at least 2"):
        find_masks(folder(tmp_path / "one", "", count=1), "train", 0.1)


@pytest.mark.parametrize("part", ["val", "valid", "validation"])
def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path, part: str) -> None:
    root = folder(tmp_path, "train", part)
    for split in ("train", "validation"):
        assert len(find_masks(root, split, 0.5).records) == 4


def test_masks_may_lie_in_a_folder_of_annotations(tmp_path: Path) -> None:
    root = folder(tmp_path, "")
    (root / "masks").rename(root / "annotations")
    assert find_masks(root, "train", 0.5).records[0].mask_path == root / "annotations" / "00.png"


def test_a_folder_without_pictures_or_masks_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"images: no such folder; expected pictures in .*images"):
        find_masks(tmp_path, "train", 0.1)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataFormatError, match=r"masks: no such folder; expected pictures in"):
        find_masks(tmp_path, "train", 0.1)


def test_jpegs_are_no_masks(tmp_path: Path) -> None:
    root = folder(tmp_path, "", count=3)
    (root / "masks" / "01.png").rename(root / "masks" / "01.jpg")
    (problem,) = find_masks(root, "train", 0.1).problems
    assert "01.jpg: has no mask; expected" in problem and "01.png, not JPEG or WebP, which change" in problem


def test_a_folder_in_which_nothing_goes_together_tells_its_first_file(tmp_path: Path) -> None:
    root = folder(tmp_path, "train", "val")  # as a folder with YOLO labels has it, too
    (root / "masks").rename(root / "labels")
    for path in (root / "labels").rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataFormatError, match=r"images/train: no picture has a mask; the first: .*00\.jpg: "):
        find_masks(root, "train", 0.1)
