from __future__ import annotations

from pathlib import Path

import pytest

from imglish.data.formats.image_folder import list_classes, read_image_folder
from imglish.data.formats.mask_folder import read_mask_folder
from imglish.data.formats.text_corpus import read_text_corpus
from imglish.errors import DataFormatError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_labels_count_the_sorted_class_folders(tmp_path: Path) -> None:
    root = touch(
        tmp_path, "dog/b.JPEG", "dog/a.png", "cat/c.jpg", "cat/notes.txt", "readme.txt", ".cache/x.jpg"
    )
    folder = read_image_folder(root)
    assert folder.classes == ("cat", "dog")
    assert [(r.path.relative_to(root).as_posix(), r.label) for r in folder.records] == [
        ("cat/c.jpg", 0),
        ("dog/a.png", 1),
        ("dog/b.JPEG", 1),
    ]


def test_another_split_takes_the_labels_of_training(tmp_path: Path) -> None:
    folder = read_image_folder(touch(tmp_path, "dog/a.png"), classes=("cat", "dog"))
    assert folder.classes == ("cat", "dog") and [record.label for record in folder.records] == [1]


def test_classes_are_listed_without_looking_for_pictures(tmp_path: Path) -> None:
    root = touch(tmp_path, "dog/a.txt", "cat/c.jpg", ".cache/x.jpg", "readme.txt")
    assert list_classes(root) == ("cat", "dog")
    with pytest.raises(DataFormatError, match="has no folders in it"):
        list_classes(root / "cat")


def test_wrong_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="no such folder"):
        read_image_folder(tmp_path / "gone")
    with pytest.raises(DataFormatError, match="has no folders in it"):
        read_image_folder(touch(tmp_path / "flat", "a.png"))
    with pytest.raises(DataFormatError, match=r"dog: has no pictures in it; expected those of class 'dog'"):
        read_image_folder(touch(tmp_path / "hollow", "cat/a.png", "dog/a.txt"))
    with pytest.raises(DataFormatError, match="a folder 'cow', which is none of the 2 known classes"):
        read_image_folder(touch(tmp_path / "stranger", "cow/a.png"), classes=("cat", "dog"))


def test_pictures_and_masks_are_matched_by_name(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "images/b.jpg",
        "images/a.png",
        "annotations/a.png",
        "annotations/b.png",
        "annotations/b.txt",
    )
    records = read_mask_folder(tmp_path / "images", tmp_path / "annotations")
    assert [(r.path.name, r.mask_path.name) for r in records] == [("a.png", "a.png"), ("b.jpg", "b.png")]


def test_pictures_and_masks_that_do_not_match_are_refused(tmp_path: Path) -> None:
    images, masks = touch(tmp_path / "images", "a.jpg", "b.jpg"), touch(tmp_path / "masks", "a.png", "b.jpg")
    with pytest.raises(DataFormatError, match=r"b\.jpg: has no mask; expected .*b\.png"):
        read_mask_folder(images, masks)
    touch(masks, "b.png", "c.png")
    with pytest.raises(DataFormatError, match=r"c\.png: has no picture c in "):
        read_mask_folder(images, masks)
    with pytest.raises(DataFormatError, match="has no pictures in it"):
        read_mask_folder(touch(tmp_path / "empty", "x.txt"), masks)
    with pytest.raises(DataFormatError, match="no such folder"):
        read_mask_folder(images, tmp_path / "gone")


def test_a_corpus_has_one_document_a_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("first text\n\n  second, with caf\u00e9 \n", encoding="utf-8")
    assert list(read_text_corpus(path)) == ["first text", "second, with caf\u00e9"]


@pytest.mark.parametrize(
    ("data", "words"), [(b"caf\xe9 au lait\n", "not UTF-8"), (b"\n \n", "is empty"), (None, "cannot be read")]
)
def test_a_wrong_corpus_is_refused(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "corpus.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataFormatError, match=words):
        list(read_text_corpus(path))
