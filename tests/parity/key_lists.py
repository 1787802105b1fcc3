"""Our necks and heads beside the official names and shapes: what the ``*_keys`` checks share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from imglish.models.weight_map import WeightMap

Shapes = Mapping[str, list[int]]


def compare_names(weight_map: WeightMap, model: nn.Module, shapes: Shapes) -> list[str]:
    """What differs between official names with their shapes and a model's, both ways."""
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = []
    if {weight_map.our_name(name): shape for name, shape in shapes.items()} != ours:
        found.append("official names do not become ours")
    if {weight_map.official_name(name): shape for name, shape in ours.items()} != dict(shapes):
        found.append("our names do not become official ones")
    if len(shapes) != len(ours):
        found.append(f"{len(shapes)} official names, {len(ours)} of ours")
    return found


def compare_totals(content: Mapping[str, Any], model: nn.Module) -> list[str]:
    """What differs between a list's number of parameters, the backbone's left out, and a model's."""
    counted = sum(parameter.numel() for parameter in model.parameters())
    expected = content["n_params"] - content["parts"]["backbone"]
    return [] if counted == expected else [f"{counted} parameters, officially {expected}"]


def count_parts(shapes: Shapes, prefix: str) -> int:
    """How many numbered parts have names with a prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})


def check_folder(
    words: Sequence[str] | None,
    what: str,
    is_one: Callable[[Mapping[str, Any]], bool],
    differences: Callable[[Mapping[str, Any]], list[str]],
) -> int:
    """Check each list of a folder and print a line for it.

    Args:
        words: The command line; None takes the process's.
        what: What the lists are of, such as "a segmenter".
        is_one: Whether a list is of that.
        differences: What differs; empty where nothing does.

    Returns:
        The exit status: 1 where anything differs; where there is no list the process ends with 2.
    """
    parser = argparse.ArgumentParser(description=f"Compare {what} with official parameter names.")
    parser.add_argument("folder", type=Path)
    lists = {
        path.stem: content
        for path in sorted(parser.parse_args(words).folder.glob("*.json"))
        if is_one(content := json.loads(path.read_text()))
    }
    if not lists:
        parser.error(f"no list of {what}'s parameters in the folder")
    wrong = 0
    for name, content in lists.items():
        found = differences(content)
        wrong += bool(found)
        print(f"{name}: {'; '.join(found) or 'ok'}")
    return int(wrong > 0)
