"""Words for the folder names of classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

from imglish.errors import DataFormatError

_SYNSET = re.compile(r"n\d{8}")
_LAYOUT = "a line for each class, its folder and then its name"


def class_names(folders: Sequence[str], listed: Path | None = None) -> tuple[str, ...]:
    """What the classes of a class-folder data set are called; no two of them the same.

    ImageNet's folders (n01440764) get the first of the synset's words, from WordNet's list that timm carries.
    Where two classes share it, as the bird and the machine "crane" do, they get all their words, and where
    those are the same too the definition after them. Other names are taken as they are, with spaces for
    underscores and hyphens.

    Args:
        folders: Names of the folders, in the order of their labels.
        listed: A file that names the classes instead: a line for each, its folder and then its name after a
            tab or spaces, such as ImageNet's LOC_synset_mapping.txt. Of a synset's words, which commas
            part, the first that is not shared is taken here too.

    Raises:
        DataFormatError: The file is missing, or leaves out a class, or two classes have one name.
    """
    if listed is not None:
        given = read_class_names(listed, folders)
        forms = [_forms(folder, given[folder]) for folder in folders]
    elif folders and all(_SYNSET.fullmatch(folder) for folder in folders):
        info = ImageNetInfo("imagenet-21k")
        forms = [_wordnet_forms(info, folder) for folder in folders]
    else:
        spoken = (re.sub(r"[_-]+", " ", folder).strip() or folder for folder in folders)
        forms = [(name, folder) for name, folder in zip(spoken, folders, strict=True)]
    names = _told_apart(forms)
    shared = [name for name, count in Counter(names).items() if count > 1]
    if shared:
        raise DataFormatError(
            f"{listed}: calls {Counter(names)[shared[0]]} classes {shared[0]!r}; expected a name of its own "
            "for each: tell them apart"
        )
    return names


def read_class_names(path: Path, folders: Sequence[str]) -> dict[str, str]:
    """Names of classes by folder.

    Args:
        path: The file; see `class_names`. Lines about folders that are none of ``folders`` are passed over:
            a list of ImageNet serves its subsets.
        folders: The classes that must be named.

    Raises:
        DataFormatError: The file is missing or no UTF-8 text, a line names nothing, or a folder has no line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataFormatError(f"{path}: no such file; expected {_LAYOUT}: check the path") from None
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path}: not UTF-8 text ({error.reason}); expected {_LAYOUT}") from None
    names: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        # A tab parts folders that have spaces in their names.
        folder, *rest = line.strip().split("\t" if "\t" in line else None, maxsplit=1)
        if not rest or not rest[0].strip():
            raise DataFormatError(
                f"{path}, line {number}: names no class ({line[:40]!r}); expected {_LAYOUT}"
            )
        names[folder] = rest[0].strip()
    missing = [folder for folder in folders if folder not in names]
    if missing:
        raise DataFormatError(
            f"{path}: has no line for {len(missing)} of {len(folders)} classes, such as {missing[0]!r}; "
            f"expected {_LAYOUT}"
        )
    return names


def _forms(folder: str, words: str) -> tuple[str, ...]:
    """Names of a class, from the shortest to the longest; only a synset's words are parted by commas."""
    return (words.split(",")[0].strip(), words) if _SYNSET.fullmatch(folder) else (words,)


def _wordnet_forms(info: ImageNetInfo, synset: str) -> tuple[str, ...]:
    """The first of its words, all of them, these with the definition; an unknown synset has but its id."""
    try:
        words, detailed = (info.label_name_to_description(synset, detailed=more) for more in (False, True))
    except KeyError:
        return (synset,)
    return (*_forms(synset, words), detailed)


def _told_apart(forms: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The shortest form of each name, and a longer one of those that several classes share."""
    names = [form[0] for form in forms]
    for level in range(1, max(map(len, forms), default=1)):
        counts = Counter(names)
        names = [
            form[min(level, len(form) - 1)] if counts[name] > 1 else name
            for name, form in zip(names, forms, strict=True)
        ]
    return tuple(names)
