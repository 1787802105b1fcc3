from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from imglish.errors import DataFormatError
from imglish.text.class_names import class_names


def test_synsets_become_words_and_other_folders_keep_their_names() -> None:
    assert class_names(["n01440764", "n02123045"]) == ("tench", "tabby")
    assert class_names(["polar_bear", "n02123045"]) == ("polar bear", "n02123045")
    assert class_names(["n01440764", "n99999999"]) == ("tench", "n99999999")  # none of WordNet's
    assert class_names([]) == ()


def test_synsets_that_share_their_first_word_are_told_apart() -> None:
    bird, machine, tights, suit = class_names(["n02012849", "n03126707", "n03710637", "n03710721"])
    assert bird.startswith("crane: large long-necked wading bird")
    assert machine.startswith("crane: lifts and moves heavy objects")
    assert (tights, suit) == ("maillot", "maillot, tank suit")
    # Alone there is nothing to tell it from.
    assert class_names(["n02012849"]) == ("crane",)


@pytest.mark.parametrize(("subset", "count"), [("imagenet-1k", 1000), ("imagenet-21k", 21843)])
def test_no_two_classes_of_imagenet_have_one_name(subset: str, count: int) -> None:
    names = class_names(ImageNetInfo(subset).label_names())
    assert len(set(names)) == len(names) == count
    assert not [name for name in names if not name.strip()]


def test_folders_that_would_be_spoken_alike_keep_their_spelling() -> None:
    assert class_names(["a-b", "a_b", "c_d"]) == ("a-b", "a_b", "c d")


def test_a_file_names_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("n01440764 tench, Tinca tinca\nn02123045 tabby, tabby cat\n\nn02012849 crane\n")
    assert class_names(["n02123045", "n01440764"], path) == ("tabby", "tench")
    path.write_text("cat_1 a cat, black\ndog\tthe dog\nbig cat\tlion\nunused x\n")
    assert class_names(["dog", "big cat"], path) == ("the dog", "lion")
    assert class_names(["cat_1"], path) == ("a cat, black",)  # only a synset's words are parted by commas


def test_a_file_may_tell_shared_words_apart_by_the_others(tmp_path: Path) -> None:
    path = tmp_path / "LOC_synset_mapping.txt"
    path.write_text("n03710637 maillot\nn03710721 maillot, tank suit\n")
    assert class_names(["n03710637", "n03710721"], path) == ("maillot", "maillot, tank suit")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a first\nb\n", r"line 2: names no class .'b'."),
        (b"a first\n", r"has no line for 1 of 2 classes, such as 'b'"),
        (b"a same\nb same\n", r"calls 2 classes 'same'; expected a name of its own for each"),
        (b"a \xff\nb x", "not UTF-8 text"),
        (None, "no such file; expected a line for each class"),
    ],
)
def test_a_file_that_names_classes_wrongly_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "classes.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataFormatError, match=message):
        class_names(["a", "b"], path)


def test_names_do_not_depend_on_the_order_of_the_classes() -> None:
    folders = ImageNetInfo("imagenet-1k").label_names()
    assert Counter(class_names(folders)) == Counter(class_names(folders[::-1]))
