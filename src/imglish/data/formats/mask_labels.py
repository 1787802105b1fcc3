"""What the values of masks mean: which class each of them is, and which count for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imglish.errors import DataFormatError

IGNORED = 255  # the id of pixels without a class, and so one more than the largest id of a class
_UNKNOWN = -1
_GREY_VALUES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskLabels:
    """Classes, and how they are written in masks.

    Args:
        classes: Their names, in the order of their ids; at most 255.
        ids: The class id, or IGNORED, of every value that a mask may have.
        colors: True where masks are read as colours: a value is then 65536 R + 256 G + B.

    Raises:
        ValueError: There are too many classes, or a value has the id of none.
    """

    classes: tuple[str, ...]
    ids: Mapping[int, int]
    colors: bool = False
    _values: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _table: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.classes) <= IGNORED:
            raise ValueError(f"there must be 1 to {IGNORED} classes; got {len(self.classes)}")
        strange = [i for i in self.ids.values() if i != IGNORED and not 0 <= i < len(self.classes)]
        if strange:
            raise ValueError(f"id {strange[0]} is that of none of the {len(self.classes)} classes")
        values = np.array(sorted(self.ids), dtype=np.int64)
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_table", np.array([self.ids[int(v)] for v in values], dtype=np.int64))

    def to_ids(self, values: NDArray[np.integer], name: str) -> NDArray[np.int64]:
        """Map the values of a mask (H, W) to class ids int64 (H, W), IGNORED where there is no class.

        Args:
            values: As read: grey levels, palette indices, or packed colours.
            name: What to call the mask in an error message.

        Raises:
            DataFormatError: A value means nothing.
        """
        if self.colors or not values.size or values.min() < 0 or values.max() >= _GREY_VALUES:
            places = np.searchsorted(self._values, values).clip(max=len(self._values) - 1)
            ids = np.where(self._values[places] == values, self._table[places], _UNKNOWN)
        else:  # looking up is several times faster than searching
            grey = self._values < _GREY_VALUES
            table = np.full(_GREY_VALUES, _UNKNOWN, dtype=np.int64)
            table[self._values[grey]] = self._table[grey]
            ids = table[values]
        strangers = values[ids == _UNKNOWN]
        if strangers.size:
            raise DataFormatError(f"{name}: {self._refusal(int(strangers[0]))}")
        return ids

    def _refusal(self, value: int) -> str:
        """What is wrong with a mask that has ``value``."""
        if self.colors:
            return (
                f"has the colour {color_name(value)}, which is none of the {len(self.ids)} known ones; "
                "expected the colours of the classes, without soft edges: name it, or leave the mask out"
            )
        named = sorted(v for v, i in self.ids.items() if i != IGNORED)
        whole = named == list(range(named[0], named[-1] + 1))
        known = f"{named[0]} to {named[-1]}" if whole else f"one of {', '.join(map(str, named[:5]))}, ..."
        ignored = [v for v in self.ids if self.ids[v] == IGNORED and v not in range(named[0])]
        rest = f", or {ignored[0]} for ignored" if len(ignored) == 1 else ""
        return (
            f"has the value {value}; expected {known} for {len(self.classes)} classes{rest}: "
            "map its values to classes, or leave it out"
        )


def numbered(classes: Sequence[str], *, first: int = 0) -> MaskLabels:
    """Masks in which class c is written as ``first`` + c; what is below and 255 is ignored.

    ``first`` is 1 where 0 is no class ("reduce_zero_label" of mmsegmentation), as in ADE20K.
    """
    below = dict.fromkeys([*range(first), IGNORED], IGNORED)
    return MaskLabels(
        classes=tuple(classes), ids=below | {first + number: number for number in range(len(classes))}
    )


def mapped(classes: Sequence[str], ids: Mapping[int, int], known: Iterable[int]) -> MaskLabels:
    """Masks with values of their own; those that are ``known`` but have no class, and 255, are ignored."""
    return MaskLabels(classes=tuple(classes), ids=dict.fromkeys([*known, IGNORED], IGNORED) | dict(ids))


def color(red: int, green: int, blue: int) -> int:
    """A colour as a value: 65536 R + 256 G + B."""
    return (red << 16) + (green << 8) + blue


def color_name(value: int) -> str:
    """A packed colour as written on the web: #rrggbb."""
    return f"#{value:06x}"
