"""Configs are trees of frozen dataclasses; here they become YAML, come back from it, and are changed by name.

A field may hold a scalar, a ``Literal``, a ``Path``, a tuple, a dict with text keys, another dataclass, or
a union. Dataclasses in a union tell themselves apart by a field ``kind: Literal[...]``; one of them may have
none, and is meant where no kind is told. Leaves are read by pydantic, so that ``3e-4``, which YAML 1.1 takes
for text, still becomes a number. Whatever is unknown, missing or illegal raises ``ConfigError`` with the
dotted path of the setting.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from imglish.errors import ConfigError

C = TypeVar("C")


def to_yaml(config: object) -> str:
    """Write a config as YAML, every setting of it, in the order of its fields."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


def from_yaml(cls: type[C], text: str, where: str, base: C | None = None) -> C:
    """Read a config from YAML.

    Args:
        cls: Dataclass of the whole tree.
        text: A YAML mapping of field names to values.
        where: What to call the text in errors, usually its file.
        base: Gives the settings that the text leaves out; without it the defaults of the classes do.

    Raises:
        ConfigError: The text is no YAML mapping, or a setting is unknown, missing or illegal.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not readable as YAML: {' '.join(str(error).split())}") from error
    if value is None:
        value = {}
    return cast(C, _build(cls, value, _Place(cls, where), base))


def override(config: C, changes: Mapping[str, str], where: str = "override") -> C:
    """Change settings by their dotted names.

    Args:
        config: The config to start from; it stays as it is.
        changes: Values as text, such as ``{"train.num_steps": "100", "model.image_size": "[64, 64]"}``.
        where: What to call the changes in errors.

    Raises:
        ConfigError: A name is unknown or a value is illegal.
    """
    tree = _Branch()
    for name, text in changes.items():
        *parents, leaf = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, _Branch())
            if not isinstance(branch, _Branch):
                raise ConfigError(
                    f"{where}: {name} is given together with the whole of {parent}; give one of them"
                )
        if leaf in branch:
            raise ConfigError(
                f"{where}: {name} is given as a whole together with a part of it; give one of them"
            )
        branch[leaf] = _Text(text)
    return cast(C, _build(type(config), tree, _Place(type(config), where), config))


def differences(a: object, b: object) -> dict[str, tuple[object, object]]:
    """Settings that differ: from dotted name to (value in a, value in b), None where a side lacks it."""
    left, right = dict(_leaves(a)), dict(_leaves(b))
    names = [*left, *(name for name in right if name not in left)]
    return {
        name: (left.get(name), right.get(name))
        for name in names
        if name not in left or name not in right or left[name] != right[name]
    }


@dataclass(frozen=True, slots=True)
class _Text:
    """A value that came as text, whose meaning depends on the type of its setting."""

    text: str

    def readings(self) -> list[object]:
        """What the text may mean, best guess first."""
        try:
            return [yaml.safe_load(self.text), self.text]
        except yaml.YAMLError:
            return [self.text]


class _Branch(dict[str, Any]):
    """Changes below one setting, by name; each a _Text or another _Branch."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the tree we are, for error messages."""

    root: type
    where: str
    path: str = ""

    def at(self, name: str) -> _Place:
        return _Place(self.root, self.where, f"{self.path}.{name}" if self.path else name)

    def error(self, message: str) -> ConfigError:
        return ConfigError(f"{self.where}: {self.path or self.root.__name__}{message}")


def _build(kind: Any, value: object, place: _Place, base: object) -> object:
    """Make a value of type ``kind``; ``base`` fills what a mapping leaves out."""
    nodes = _dataclasses_in(kind)
    if nodes and isinstance(value, _Text):
        value = value.readings()[0]
    if nodes and isinstance(value, Mapping):
        return _build_dataclass(_choose(nodes, value, place, base), value, place, base)
    if len(nodes) == 1 and kind is nodes[0]:
        raise place.error(f" is {value!r}; expected a mapping with the settings of {kind.__name__}")
    origin = get_origin(kind)
    if origin is tuple and _holds_dataclass(kind):
        if not isinstance(value, list | tuple):
            raise place.error(f" is {value!r}; expected a list")
        inner = get_args(kind)
        repeated = len(inner) == 2 and inner[1] is Ellipsis
        if not repeated and len(inner) != len(value):
            raise place.error(f" has {len(value)} entries; expected {len(inner)}")
        kinds = [inner[0]] * len(value) if repeated else list(inner)
        return tuple(
            _build(k, v, place.at(str(i)), None) for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict and _holds_dataclass(kind):
        if not isinstance(value, Mapping):
            raise place.error(f" is {value!r}; expected a mapping")
        return {
            str(name): _build(get_args(kind)[1], v, place.at(str(name)), None) for name, v in value.items()
        }
    return _read_leaf(kind, value, place)


def _build_dataclass(cls: type, value: Mapping[Any, object], place: _Place, base: object) -> object:
    """Make one dataclass from a mapping of its fields."""
    kinds = _field_types(cls)
    for name in value:
        if name not in kinds:
            raise place.at(str(name)).error(f" is not a setting; {_suggest(str(name), list(kinds), place)}")
    base = base if type(base) is cls else None
    arguments: dict[str, object] = {}
    for field in fields(cls):
        if not field.init:
            continue
        inherited = getattr(base, field.name, None)
        if field.name in value:
            place_of_field = place.at(field.name)
            arguments[field.name] = _build(kinds[field.name], value[field.name], place_of_field, inherited)
        elif base is not None:
            arguments[field.name] = inherited
        elif field.default is MISSING and field.default_factory is MISSING:
            raise place.at(field.name).error(f" is missing; expected {_describe(kinds[field.name])}")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise place.error(f": {error}") from error


def _choose(nodes: tuple[type, ...], value: Mapping[Any, object], place: _Place, base: object) -> type:
    """The dataclass of a union that a mapping stands for, by its ``kind``."""
    if len(nodes) == 1:
        return nodes[0]
    by_kind = {name: node for node in nodes for name in get_args(_field_types(node).get("kind"))}
    if "kind" not in value and type(base) in nodes:
        return type(base)
    without = [node for node in nodes if "kind" not in _field_types(node)]
    if "kind" not in value and len(without) == 1:
        return without[0]
    wanted = value.get("kind")
    wanted = wanted.text if isinstance(wanted, _Text) else wanted
    if wanted not in by_kind:
        given = f" is {wanted!r}" if "kind" in value else " is missing"
        raise place.at("kind").error(
            f"{given}; expected one of {_listing(by_kind)}{_did_you_mean(wanted, by_kind)}"
        )
    return by_kind[cast(str, wanted)]


def _read_leaf(kind: Any, value: object, place: _Place) -> object:
    """Read a value that holds no dataclass."""
    if isinstance(value, _Branch):
        raise place.at(next(iter(value))).error(f" is not a setting; {place.path} is {_describe(kind)}")
    adapter = _adapter(kind)
    for reading in value.readings() if isinstance(value, _Text) else [value]:
        if _has_bool(reading) and not _takes_bool(kind):
            continue  # pydantic would read true as 1
        try:
            return adapter.validate_python(reading)
        except ValidationError:
            continue
    shown = value.text if isinstance(value, _Text) else value
    options = [str(option) for option in get_args(kind)] if get_origin(kind) is Literal else []
    raise place.error(f" is {shown!r}; expected {_describe(kind)}{_did_you_mean(shown, options)}")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _field_types(cls: type) -> dict[str, Any]:
    """Types of the fields that a config may set, with text annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def _dataclasses_in(kind: Any) -> tuple[type, ...]:
    """The dataclasses that a value of this type may be, itself or as members of a union."""
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return tuple(member for member in members if isinstance(member, type) and is_dataclass(member))


def _holds_dataclass(kind: Any) -> bool:
    """Whether a container has dataclasses in it."""
    return any(_dataclasses_in(inner) or _holds_dataclass(inner) for inner in get_args(kind))


def _has_bool(value: object) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, list | tuple) and any(_has_bool(item) for item in value)
    )


def _takes_bool(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return any(isinstance(option, bool) for option in get_args(kind))
    return kind in (bool, Any, object) or any(_takes_bool(member) for member in get_args(kind))


def _plain(value: object) -> object:
    """The same value as YAML has it: mappings, lists and scalars."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in _field_types(type(value))}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Path):
        return value.as_posix()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a config cannot hold {type(value).__name__}: {value!r}")


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Dotted names and values of all settings below a value."""
    if is_dataclass(value) and not isinstance(value, type):
        for name in _field_types(type(value)):
            yield from _leaves(getattr(value, name), f"{path}.{name}" if path else name)
    else:
        yield path, value


def _names_below(cls: type, path: str = "") -> Iterator[str]:
    """Dotted names of all settings of a class."""
    for name, kind in _field_types(cls).items():
        dotted = f"{path}.{name}" if path else name
        yield dotted
        for node in _dataclasses_in(kind):
            yield from _names_below(node, dotted)


def _suggest(name: str, siblings: list[str], place: _Place) -> str:
    """Advice for an unknown setting: a sibling of like name, one of like name elsewhere, or all siblings."""
    if close := difflib.get_close_matches(name, siblings, n=1):
        return f"did you mean {place.at(close[0]).path}?"
    everywhere = {dotted.rpartition(".")[2]: dotted for dotted in _names_below(place.root)}
    if close := difflib.get_close_matches(name, everywhere, n=1):
        return f"did you mean {everywhere[close[0]]}?"
    return f"expected one of {_listing(siblings)}"


def _did_you_mean(given: object, options: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(str(given), list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _listing(names: typing.Iterable[str]) -> str:
    return ", ".join(names)


def _describe(kind: Any) -> str:
    """A type in plain words."""
    words: dict[Any, str] = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "null",
    }
    if kind in words:
        return words[kind]
    origin, members = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {_listing(str(member) for member in members)}"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(member) for member in members)
    if origin is tuple and members[-1] is Ellipsis:
        return f"a list, each {_describe(members[0])}"
    if origin is tuple:
        return f"a list of {len(members)}: {', '.join(_describe(member) for member in members)}"
    if isinstance(kind, type) and is_dataclass(kind):
        return f"the settings of {kind.__name__}"
    return f"a value of type {kind}"
