"""Two-way maps between the names of two state dicts, strict in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from imglish.errors import CheckpointError

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Rule:
    """One family of names, written as two templates with the same placeholders.

    ``{name}`` stands for one dot-free part of a name and is carried over; where ``values`` has an entry
    for the placeholder, its official value is exchanged for ours (and back).

    Args:
        official: Template of the official name, such as ``layers.{layer}.ffn.{expert}.fc1.{part}``.
        ours: Template of our name.
        values: Placeholder to a mapping from official to our value; other values do not match.
    """

    official: str
    ours: str
    values: Mapping[str, Mapping[str, str]] | None = None

    def to_ours(self, key: str) -> str | None:
        """Our name of an official one, or None where the rule does not apply."""
        return self._translate(key, self.official, self.ours, self.values or {})

    def to_official(self, key: str) -> str | None:
        """The official name of one of ours, or None where the rule does not apply."""
        back = {name: {b: a for a, b in table.items()} for name, table in (self.values or {}).items()}
        return self._translate(key, self.ours, self.official, back)

    @staticmethod
    def _translate(key: str, source: str, target: str, values: Mapping[str, Mapping[str, str]]) -> str | None:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^.]+)", re.escape(source))
        match = re.fullmatch(pattern, key)
        if match is None:
            return None
        parts = match.groupdict()
        for name, table in values.items():
            if name in parts:
                if parts[name] not in table:
                    return None
                parts[name] = table[parts[name]]
        return target.format(**parts)


def conv_norm_rules(official: str, ours: str, *, norm: str = "bn") -> tuple[Rule, ...]:
    """Rules of a convolution with its norm, whose official name is ``bn`` or ``gn``."""
    return (
        Rule(f"{official}conv.{{part}}", f"{ours}conv.{{part}}"),
        Rule(f"{official}{norm}.{{part}}", f"{ours}norm.{{part}}"),
    )


@dataclass(frozen=True, slots=True)
class WeightMap:
    """All rules of one model.

    Args:
        rules: Tried in order; the first that applies wins.
        dropped: Regular expressions of official names that carry nothing we need, named on purpose.
    """

    rules: tuple[Rule, ...]
    dropped: tuple[str, ...] = ()

    def our_name(self, official: str) -> str | None:
        """Our name of an official one; None where no rule applies."""
        return next((new for rule in self.rules if (new := rule.to_ours(official)) is not None), None)

    def official_name(self, ours: str) -> str | None:
        """The official name of one of ours; None where no rule applies."""
        return next((new for rule in self.rules if (new := rule.to_official(ours)) is not None), None)

    def to_ours(self, state: StateDict) -> dict[str, Tensor]:
        """Rename an official state dict.

        Raises:
            CheckpointError: A name has no rule and is not dropped on purpose.
        """
        kept = [key for key in state if not any(re.fullmatch(pattern, key) for pattern in self.dropped)]
        names = {key: self.our_name(key) for key in kept}
        _refuse_orphans(names, "checkpoint")
        return {str(names[key]): state[key] for key in kept}

    def to_official(self, state: StateDict) -> dict[str, Tensor]:
        """Rename one of our state dicts to the official names.

        Raises:
            CheckpointError: A name has no rule.
        """
        names = {key: self.official_name(key) for key in state}
        _refuse_orphans(names, "model")
        return {str(names[key]): state[key] for key in state}


def _refuse_orphans(names: Mapping[str, str | None], where: str) -> None:
    orphans = sorted(key for key, new in names.items() if new is None)
    if orphans:
        raise CheckpointError(
            f"{len(orphans)} {where} names have no rule in the weight map, first: {', '.join(orphans[:3])}"
        )


def check_state(state: StateDict, expected: StateDict, *, where: str) -> None:
    """Refuse a state dict that does not fit a model exactly.

    Args:
        state: What was read.
        expected: The model's own ``state_dict()``.
        where: The file, for the message.

    Raises:
        CheckpointError: Names are missing or left over, or a shape differs.
    """
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: checkpoint of another architecture: {_some('missing', missing)}"
            f"{_some('unexpected', unexpected)}load it with the config it was trained with"
        )
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            raise CheckpointError(
                f"{where}: {key} has shape {tuple(state[key].shape)}, the model expects "
                f"{tuple(tensor.shape)}; load it with the config it was trained with"
            )


def _some(word: str, keys: Iterable[str]) -> str:
    keys = list(keys)
    if not keys:
        return ""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{word} {', '.join(keys[:3])}{more}; "
