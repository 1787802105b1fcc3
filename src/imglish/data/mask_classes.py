"""Own pictures with masks: where they lie, and their classes, named in a file or inferred from the masks."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imglish.data.formats.mask_folder import MaskRecord, MatchedMasks, match_masks
from imglish.data.formats.mask_labels import IGNORED, MaskLabels, color, color_name
from imglish.data.formats.matlab import read_matlab_array
from imglish.data.pictures import MaskKind, mask_values, read_mask, read_mask_colors
from imglish.errors import DataFormatError

log = logging.getLogger(__name__)
Background = Literal["class", "ignored"]

_SPLITS = {"train": ("train", "training"), "validation": ("val", "validation", "valid")}
_MASK_FOLDERS = ("masks", "annotations", "labels")
_FEW_VALUES = 2
_NUMBERED = re.compile(r"\d+\s*[:;,=]")  # how a line of other programs' lists of classes begins
_NO_CLASS = "ignored"  # the name in a class file of values that count for nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskRules:
    """What is told about masks besides their values.

    Args:
        classes: A text file with a line for each value: ``VALUE NAME``, ``R,G,B NAME``, ``#rrggbb NAME`` or
            just the names in the order of the values. None infers the classes from the training masks.
        background: ``class`` has 0 (black) as a class like any other; ``ignored`` has it for "no label".
        ignored: Values that count for nothing. Colours are ignored by their name in the file.
    """

    classes: Path | None = None
    background: Background = "class"
    ignored: tuple[int, ...] = (IGNORED,)


def read_labels(record: MaskRecord, labels: MaskLabels, size: tuple[int, int]) -> NDArray[np.int64]:
    """Class ids int64 (H, W) of a mask of (height, width) ``size``, IGNORED where there is no class.

    The mask is a picture file, or a MATLAB file with the array ``S``, as COCO-Stuff 10k has them.

    Raises:
        DataFormatError: The mask is missing, damaged, of another size, or has a value that means nothing.
    """
    if record.mask_path.suffix == ".mat":
        values = read_matlab_array(record.mask_path, "S")
        if values.shape != size or values.dtype.kind not in "iu":
            raise DataFormatError(
                f"{record.mask_path}: holds S of {values.dtype} {values.shape}; expected whole numbers of "
                f"its picture's size, {size}: get the pair again, or leave it out"
            )
        return labels.to_ids(values.astype(np.int64), str(record.mask_path))
    read = read_mask_colors if labels.colors else read_mask
    return labels.to_ids(read(record.mask_path, size).numpy(), str(record.mask_path))


def find_masks(root: Path, split: Literal["train", "validation"], held_out: float) -> MatchedMasks:
    """Pictures with masks of a split of an own folder.

    ``images`` and ``masks`` (or ``annotations``, ``labels``) in ``root`` either have a folder for each split
    (train or training; val, valid or validation), or hold the files themselves. Then, and where there is only
    a folder for training, every k-th picture is the validation split.

    Args:
        root: The folder.
        split: Which split.
        held_out: Share of pictures to leave out of training, in (0, 1), where there is no folder of them.

    Raises:
        DataFormatError: There are no such folders, or no pictures in them.
    """
    images = root / "images"
    masks = next((root / name for name in _MASK_FOLDERS if (root / name).is_dir()), root / _MASK_FOLDERS[0])
    if not images.is_dir() or not masks.is_dir():
        missing = masks if images.is_dir() else images
        raise DataFormatError(
            f"{missing}: no such folder; expected pictures in {root / 'images'} and masks of the same names "
            f"in {root / 'masks'}: check the path"
        )
    train, scored_part = _split_folder(images, "train"), _split_folder(images, "validation")
    part = train if split == "train" or scored_part is None else scored_part
    if part is None:
        found = match_masks(images, masks)
    else:
        found = match_masks(
            part, _split_folder(masks, "train" if part == train else split) or masks / part.name
        )
    if not found.records:
        raise DataFormatError(f"{part or images}: no picture has a mask; the first: {found.problems[0]}")
    if scored_part is not None:
        return found
    every = max(2, round(1 / held_out))
    scored = [record for number, record in enumerate(found.records) if number % every == every - 1]
    scored = scored or list(found.records[-1:])
    chosen = [record for record in found.records if (record in scored) == (split == "validation")]
    if not chosen:
        raise DataFormatError(
            f"{images}: has {len(found.records)} pictures with masks; expected at least 2, one to train on "
            "and one to score"
        )
    return MatchedMasks(tuple(chosen), found.problems)


def _split_folder(folder: Path, split: Literal["train", "validation"]) -> Path | None:
    return next((folder / name for name in _SPLITS[split] if (folder / name).is_dir()), None)


def find_labels(
    records: Sequence[MaskRecord], rules: MaskRules, progress: Callable[[int, int], None] | None = None
) -> MaskLabels:
    """The classes of own masks: those of the file, or those that the masks have.

    Args:
        records: The training pictures.
        rules: What is told.
        progress: Called with the number of masks read and of all, where all must be read.

    Raises:
        DataFormatError: The file is wrong, or the masks have no two classes or too many.
    """
    if rules.classes is not None:
        return read_class_file(rules.classes, rules)
    return _inferred(records, rules, progress or (lambda done, total: None))


def read_class_file(path: Path, rules: MaskRules) -> MaskLabels:
    """Classes from a text file; see `MaskRules`. Values of the same name are one class.

    Raises:
        DataFormatError: The file is missing, has no line, one that is not understood, or a value twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise DataFormatError(
            f"{path}: no such file; expected the names of the classes: check the path"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise DataFormatError(
            f"{path}: cannot be read; expected UTF-8 text with a line for each class"
        ) from None
    named = [_value_and_name(line) for line in lines if line]
    for kind, _, name in named:
        if kind == "order" and _NUMBERED.match(name):
            raise DataFormatError(
                f"{path}: has the line {name!r}; expected a space between a value and its name, or names "
                "alone"
            )
    kinds = {kind for kind, _, _ in named}
    if len(kinds) > 1:
        raise DataFormatError(
            f"{path}: names classes by {' and by '.join(sorted(kinds))}; expected one way in all lines"
        )
    first = int(rules.background == "ignored")
    values = [
        (value if kind != "order" else number + first, name)
        for number, (kind, value, name) in enumerate(named)
    ]
    double = [value for value, count in Counter(value for value, _ in values).items() if count > 1]
    if double:
        raise DataFormatError(f"{path}: names the value {double[0]} twice; expected a line for each value")
    colors = kinds == {"colour"}
    known = {} if colors else dict.fromkeys(rules.ignored, IGNORED)
    if rules.background == "ignored":
        known[0] = IGNORED
    told = dict(values)
    if rules.background == "ignored":
        told.pop(0, None)
    classes = tuple(dict.fromkeys(name for name in told.values() if name != _NO_CLASS))
    _check_number(classes, f"{path}: names")
    ids = {value: IGNORED if name == _NO_CLASS else classes.index(name) for value, name in told.items()}
    return MaskLabels(classes=classes, ids=known | ids, colors=colors)


def _value_and_name(line: str) -> tuple[str, int, str]:
    """How a line of a class file tells its value (value, colour or order), the value, and the name."""
    told, name = [*line.split(maxsplit=1), ""][:2]
    if name and told.isdecimal():
        return "value", int(told), name
    if name and told.startswith("#") and len(told) == 7:
        try:
            return "colour", int(told[1:], 16), name
        except ValueError:
            return "order", 0, line
    parts = told.split(",")
    if name and len(parts) == 3 and all(part.isdecimal() and int(part) < 256 for part in parts):
        return "colour", color(int(parts[0]), int(parts[1]), int(parts[2])), name
    return "order", 0, line


def _inferred(
    records: Sequence[MaskRecord], rules: MaskRules, progress: Callable[[int, int], None]
) -> MaskLabels:
    """A class for each value that training masks have; masks that can not be read are left to the loader."""
    found: dict[MaskKind, set[int]] = defaultdict(set)
    damaged = 0
    for number, record in enumerate(records, start=1):
        try:
            kind, values = mask_values(record.mask_path)
        except DataFormatError:
            damaged += 1
            continue
        found[kind] |= values
        if len(found[kind]) > IGNORED + 1:
            raise DataFormatError(
                f"{record.mask_path}: is the mask with which there are {len(found[kind])} different values; "
                f"expected at most {IGNORED} classes: are edges soft from resizing or JPEG? Name the classes "
                "in a file (data.classes), or mend the masks"
            )
        progress(number, len(records))
    where = records[0].mask_path.parent
    if not found:
        raise DataFormatError(
            f"{where}: none of the {len(records)} training masks can be read; get them again"
        )
    if damaged:
        log.warning("%d masks of %s can not be read, and told no classes", damaged, where)
    if "colours" in found:
        if "palette" in found:
            raise DataFormatError(
                f"{where}: some masks are colours, others numbers of a palette; expected one kind: name the "
                "colours in a file (data.classes), by which both are read"
            )
        return _of_values(
            found["colours"] | {color(g, g, g) for g in found["grey"]}, rules, where, colors=True
        )
    return _of_values(found["grey"] | found["palette"], rules, where, colors=False)


def _of_values(found: set[int], rules: MaskRules, where: Path, *, colors: bool) -> MaskLabels:
    """A class for each value that is not ignored."""
    ignored = set() if colors else set(rules.ignored)
    if found == {0, IGNORED} and IGNORED in ignored and rules.background == "class":
        # Painting programs write a single class so, and nobody means "nothing at all".
        log.info("the masks of %s have the values 0 and 255 alone: 255 is taken for a class", where)
        ignored.discard(IGNORED)
    if rules.background == "ignored":
        ignored.add(0)
    values = sorted(found - ignored)
    classes = tuple(_inferred_name(value, rules, colors) for value in values)
    _check_number(classes, f"{where}: the training masks have")
    ids = dict.fromkeys(ignored, IGNORED) | {value: number for number, value in enumerate(values)}
    return MaskLabels(classes=classes, ids=ids, colors=colors)


def _inferred_name(value: int, rules: MaskRules, colors: bool) -> str:
    if value == 0 and rules.background == "class":
        return "background"
    return color_name(value) if colors else f"class {value}"


def _check_number(classes: Sequence[str], who: str) -> None:
    """Refuse fewer than two classes, which leave nothing to tell apart, and more than ids."""
    if len(classes) < _FEW_VALUES:
        what = f"the single class {classes[0]!r}" if classes else "no class"
        raise DataFormatError(
            f"{who} {what}; expected at least two to tell apart: with data.background class, 0 is one as well"
        )
    if len(classes) > IGNORED:
        raise DataFormatError(f"{who} {len(classes)} classes; expected at most {IGNORED}")
