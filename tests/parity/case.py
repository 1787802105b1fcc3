"""A parity case: numbers recorded from an official implementation, and how ours is held against them.

A case is a folder with `case.json` and, where needed, safetensors of weights, inputs and outputs. Everything
(sizes, options, seeds) is read from the case; nothing may depend on its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

Kind = Literal["forward", "loss", "integer", "gradient_norm", "statistic"]


class NotCoveredError(Exception):
    """A family meets an option that we do not have; the message says which."""


@dataclass(frozen=True)
class Call:
    """One recorded call of a case.

    Args:
        name: Its name within the case, for messages only.
        inputs: Tensors by argument.
        literals: Other arguments.
        outputs: Tensors, or plain values of the json, by name.
    """

    name: str
    inputs: Mapping[str, Tensor]
    literals: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A folder of recorded numbers; files are read when they are asked for."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, for the report only."""
        return self.folder.name

    @cached_property
    def json(self) -> dict[str, Any]:
        """The whole of `case.json`."""
        content: dict[str, Any] = json.loads((self.folder / "case.json").read_text())
        return content

    @property
    def cls(self) -> str:
        """Name of the official class, "" where the case is about none."""
        return str(self.json.get("class") or self.json.get("cls") or "")

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the official class."""
        config: dict[str, Any] = self.json.get("config") or {}
        return config

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """State dict with official names."""
        return load_file(self.folder / "weights.safetensors")

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """All input tensors by key; empty where the case has none."""
        return self._optional("inputs.safetensors")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """All output tensors by key; empty where the case has none."""
        return self._optional("outputs.safetensors")

    def calls(self) -> Iterator[Call]:
        """The recorded calls, their tensors looked up."""
        for call in self.json.get("calls", []):
            yield Call(
                name=call["name"],
                inputs={name: self.inputs[entry["key"]] for name, entry in call["inputs"].items()},
                literals=call["literals"],
                outputs={
                    name: self.outputs[entry["key"]] if "key" in entry else entry["value"]
                    for name, entry in call["outputs"].items()
                },
            )

    def _optional(self, name: str) -> dict[str, Tensor]:
        path = self.folder / name
        return load_file(path) if path.exists() else {}


@dataclass(frozen=True)
class Check:
    """One number or tensor of ours beside the recorded one.

    Args:
        name: What is compared, for the report.
        ours: Tensor, number, list, text, or (gradient norms) a mapping from parameter to number or None.
        reference: The recorded one, of the same structure.
        kind: ``forward`` 1e-4 relative to the largest reference value; ``loss`` 1e-5 relative; ``integer``
            equal (also lists of texts); ``gradient_norm`` 1e-4 relative, by parameter; ``statistic`` within
            ``tolerance``.
        tolerance: Largest absolute difference of a statistic.
    """

    name: str
    ours: Any
    reference: Any
    kind: Kind
    tolerance: float = field(default=0.0, kw_only=True)


class Family(NamedTuple):
    """Cases of one kind: which ones (from the contents of `case.json`), and what to compare."""

    applies: Callable[[Case], bool]
    run: Callable[[Case], list[Check]]
