"""Typed access to json files, with errors that name the file and the place in it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeGuard

from imglish.errors import DataFormatError

_SPACE = re.compile(r"[ \t\n\r]*")


class _Source(NamedTuple):
    path: Path
    layout: str

    def message(self, place: str, problem: str, remedy: str = "") -> str:
        if remedy:
            return f"{self.path}: {place} {problem}: {remedy}"
        element = "mend or remove it, or get the file again"
        whole = "check that this is the file you mean, or get it again"
        return (
            f"{self.path}: {place} {problem}; expected {self.layout}: "
            f"{element if place.endswith(']') else whole}"
        )


class Entry:
    """One json object; its accessors raise DataFormatError naming the file, the place and the key."""

    __slots__ = ("_index", "_name", "_parent", "_source", "_values")

    def __init__(
        self, source: _Source, values: object, parent: Entry | None = None, name: str = "", index: int = 0
    ) -> None:
        self._source, self._parent, self._name, self._index = source, parent, name, index
        self._values: dict[str, object] = {}
        if not isinstance(values, dict):
            self.fail(f"is {_describe(values)}, not an object")
        self._values = values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def fail(self, problem: str, remedy: str = "") -> NoReturn:
        """Raise a DataFormatError.

        Args:
            problem: Continues a sentence that begins with this object's place.
            remedy: What to do about it, where it is not the layout of the file that is wrong.
        """
        raise DataFormatError(self._source.message(self._place(), problem, remedy))

    def text(self, key: str) -> str:
        """The string at ``key``."""
        value = self._get(key)
        if not isinstance(value, str):
            self._wrong(key, value, "a string")
        if any("\ud800" <= character <= "\udfff" for character in value):
            self._wrong(key, value, "Unicode text: it has half of a surrogate pair")
        return value

    def integer(self, key: str) -> int:
        """The whole number of 64 bits at ``key``, which tables may have written with a point: 5.0."""
        value = self._get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int:  # a json true would pass isinstance
            self._wrong(key, value, "a whole number")
        if not -(1 << 63) <= value < 1 << 63:
            self._wrong(key, value, "a whole number of 64 bits")
        return value

    def flag(self, key: str) -> bool:
        """Whether 1 or true, rather than 0 or false, is at ``key``."""
        value = self._get(key)
        return value if isinstance(value, bool) else self.integer(key) == 1

    def number(self, key: str) -> float:
        """The finite number at ``key``."""
        value = self._get(key)
        if not _is_number(value):
            self._wrong(key, value, "a number")
        return float(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """The list of ``count`` finite numbers at ``key``."""
        values = self._list(key)
        if len(values) != count or not all(map(_is_number, values)):
            self._wrong(key, values, f"a list of {count} numbers")
        return tuple(float(value) for value in values if _is_number(value))

    def entry(self, key: str) -> Entry:
        """The object at ``key``."""
        return Entry(self._source, self._get(key), self, key, -1)

    def entries(self, key: str) -> Iterator[Entry]:
        """The objects of the list at ``key``."""
        for index, values in enumerate(self._list(key)):
            yield Entry(self._source, values, self, key, index)

    def raw(self, key: str) -> object:
        """The unchecked value at ``key``."""
        return self._get(key)

    def _get(self, key: str) -> object:
        try:
            return self._values[key]
        except KeyError:
            self.fail(f"has no key {key!r}")

    def _list(self, key: str) -> list[object]:
        values = self._get(key)
        if not isinstance(values, list):
            self._wrong(key, values, "a list")
        return values

    def _wrong(self, key: str, value: object, expected: str) -> NoReturn:
        self.fail(f"has {_describe(value)} at key {key!r}, not {expected}")

    def _place(self) -> str:
        if self._parent is None:
            return self._name
        place = self._name if self._index < 0 else f"{self._name}[{self._index}]"
        return place if self._parent._parent is None else f"{self._parent._place()}.{place}"


def load_json(path: Path, layout: str) -> Entry:
    """Read a json file whose top level is an object.

    Args:
        path: The file.
        layout: What it should be, in words for error messages, such as "COCO captions json".

    Raises:
        DataFormatError: The file is missing, cut short, not json or not an object.
    """
    source = _Source(path, layout)
    return Entry(source, _parse(source, _read(source), 0), None, "the file")


class JsonStream:
    """The lists of a large json file whose top level is an object, one element after the other.

    Only the text and one element are in memory at a time: a tree of Python objects takes ten times the room.

    Args:
        path: The file.
        layout: What it should be, in words for error messages.
    """

    def __init__(self, path: Path, layout: str) -> None:
        self._source = _Source(path, layout)
        self._root = Entry(self._source, {}, None, "the file")

    def fail(self, problem: str) -> NoReturn:
        """Raise a DataFormatError about the file; see `Entry.fail`."""
        self._root.fail(problem)

    def line(self, name: str, index: int, problem: str) -> str:
        """What an error about element ``index`` of list ``name`` says."""
        return self._source.message(f"{name}[{index}]", problem)

    def elements(
        self, lists: Sequence[str], optional: Collection[str] = ()
    ) -> Iterator[tuple[str, int, Entry]]:
        """Name of the list, place in it and element, in the order of the file.

        Args:
            lists: Those to read; what lies at other keys is passed over, but must be valid json.
            optional: Those of them that may be missing.

        Raises:
            DataFormatError: The file is missing, cut short or not json, not an object, or one of the lists is
                missing that may not be, or has something else than objects in it.
        """
        text = _text(self._source)
        decoder, place, found = json.JSONDecoder(), _skip(text, 0), set[str]()
        try:
            if text[place : place + 1] != "{":
                value, _ = decoder.raw_decode(text, place)
                self.fail(f"is {_describe(value)}, not an object")
            place = _skip(text, place + 1)
            while text[place : place + 1] != "}":
                key, place = decoder.raw_decode(text, place)
                place = _expect(text, _skip(text, place), ":")
                if key in lists and text[place : place + 1] == "[":
                    found.add(key)
                    place, index = _skip(text, place + 1), 0
                    while text[place : place + 1] != "]":
                        value, place = decoder.raw_decode(text, place)
                        yield key, index, Entry(self._source, value, self._root, key, index)
                        place, index = _next(text, place, "]"), index + 1
                    place += 1
                else:
                    value, place = decoder.raw_decode(text, place)
                    if key in lists:
                        self.fail(f"has {_describe(value)} at key {key!r}, not a list")
                place = _next(text, place, "}")
            if _skip(text, place + 1) != len(text):
                raise json.JSONDecodeError("Extra data", text, _skip(text, place + 1))
        except json.JSONDecodeError as error:
            raise _invalid(self._source, error, error.lineno) from None
        except (ValueError, RecursionError):
            raise _no_json(self._source) from None
        for name in lists:
            if name not in found and name not in optional:
                self.fail(f"has no key {name!r}")


def load_json_list(path: Path, layout: str) -> Iterator[Entry]:
    """Read a json file whose top level is a list of objects. Errors as in `load_json`."""
    source = _Source(path, layout)
    values = _parse(source, _read(source), 0)
    if not isinstance(values, list):
        raise DataFormatError(
            f"{path}: is {_describe(values)}, not a list; expected {layout}: check that this is the file"
        )
    for number, value in enumerate(values):
        yield Entry(source, value, None, f"entry {number}")


def load_json_lines(path: Path, layout: str) -> Iterator[Entry]:
    """Read a file with one json object a line; blank lines are passed over. Errors as in `load_json`."""
    source = _Source(path, layout)
    for number, line in enumerate(_read(source).splitlines(), start=1):
        if line.strip():
            yield Entry(source, _parse(source, line, number), None, f"line {number}")


def _read(source: _Source) -> bytes:
    try:
        return source.path.read_bytes()
    except FileNotFoundError:
        raise DataFormatError(
            f"{source.path}: no such file; expected {source.layout}: check the path"
        ) from None
    except OSError as error:
        raise DataFormatError(
            f"{source.path}: cannot be read ({error.strerror}); expected {source.layout}: check the path"
        ) from None


def _parse(source: _Source, data: bytes, line: int) -> object:
    try:
        value: object = json.loads(data)
    except json.JSONDecodeError as error:
        raise _invalid(source, error, line or error.lineno) from None
    except (ValueError, RecursionError):
        raise _no_json(source) from None
    return value


def _text(source: _Source) -> str:
    """The whole file as text, without the mark that some programs begin it with."""
    try:
        return _read(source).decode("utf-8-sig")
    except ValueError:
        raise _no_json(source) from None


def _invalid(source: _Source, error: json.JSONDecodeError, line: int) -> DataFormatError:
    return DataFormatError(
        f"{source.path}: not valid json at line {line} column {error.colno} ({error.msg}); expected "
        f"{source.layout}: the file may be cut short, get it again"
    )


def _no_json(source: _Source) -> DataFormatError:
    """The file is no text, or has numbers of thousands of digits, or is nested without end."""
    return DataFormatError(
        f"{source.path}: not a json text; expected {source.layout}: check that this is the file you mean"
    )


def _skip(text: str, place: int) -> int:
    """Where the next character that is no white space is."""
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()


def _expect(text: str, place: int, mark: str) -> int:
    """Where the text goes on after ``mark``, which must be at ``place``."""
    if text[place : place + 1] != mark:
        raise json.JSONDecodeError(f"Expecting {mark!r} delimiter", text, place)
    return _skip(text, place + 1)


def _next(text: str, place: int, end: str) -> int:
    """Where the next element begins, or where ``end`` is, after an element that ends at ``place``."""
    place = _skip(text, place)
    if text[place : place + 1] == end:
        return place
    place = _expect(text, place, ",")
    if text[place : place + 1] == end:
        raise json.JSONDecodeError("Illegal trailing comma", text, place)
    return place


def _is_number(value: object) -> TypeGuard[int | float]:
    # Not isinstance alone: a json true is an int, and json has integers that no float holds.
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )


def _describe(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
