"""``imglish benchmark segmentation``: what the paper's segmenters cost, here and in the paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import tyro

from imglish.cli.usage import UsageError, did_you_mean
from imglish.recipes.segmentation_benchmark import ROWS, Costs, count, measure, to_json

_KINDS = ("segmentation",)
_SMALLEST = "vit_tiny_semantic_fpn"  # what a CPU is asked for where nothing is said


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """Costs of the paper's segmenters: parameters, FLOPs, training memory, seconds a step, pictures a second.

    Parameters and FLOPs are counted for all rows. Time and memory are measured on this machine for some.

    Args:
        rows: Those to measure; on a CPU the smallest where none is named, on a GPU all.
        measure: --no-measure counts only.
        size: Height and width of the pictures, multiples of 16.
        batch_size: Pictures of a training step; the paper has two on each GPU.
        rounds: Of each measurement, whose median is told.
        device: cpu, cuda or cuda:1 and so on; a GPU where there is one if not given.
        json: Print JSON instead of a table.
    """

    rows: tuple[str, ...] = ()
    measure: bool = True
    size: tuple[int, int] = (512, 512)
    batch_size: int = 2
    rounds: int = 5
    device: str = ""
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Run one of the benchmarks."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: imglish benchmark segmentation [--help] [OPTIONS]")
        return
    kind, *rest = arguments
    if kind not in _KINDS:
        raise UsageError(f"there is no benchmark {kind!r}{did_you_mean(kind, _KINDS)}; there is segmentation")
    options = tyro.cli(Segmentation, args=rest, prog="imglish benchmark segmentation")
    for row in options.rows:
        if row not in ROWS:
            raise UsageError(
                f"there is no row {row!r}{did_you_mean(row, ROWS)}; the rows are {', '.join(ROWS)}"
            )
    device = _device(options.device)
    named = options.rows or (tuple(ROWS) if device.type == "cuda" else (_SMALLEST,))
    costs = [count(row, size=options.size) for row in ROWS]
    if options.measure:
        costs = [
            measure(
                each,
                device,
                size=options.size,
                batch_size=options.batch_size,
                rounds=options.rounds,
            )
            if each.row in named
            else each
            for each in costs
        ]
    if options.json:
        machine = {"device": _called(device), "threads": torch.get_num_threads(), "size": options.size}
        print(json.dumps(machine | {"batch_size": options.batch_size, "rows": to_json(costs)}, indent=1))
        return
    print(table(costs))
    print(_notes(options, device))


def table(costs: Sequence[Costs]) -> str:
    """Rows as lines; each number is followed by the paper's in brackets, where it has one."""
    titles = ("", "parameters/M", "FLOPs/G", "s a step", "memory/GB", "pictures/s")
    lines = [titles]
    for each in costs:
        paper = each.published
        lines.append(
            (
                each.row,
                _beside(each.parameters / 1e6, paper.parameters, 1),
                _beside(each.flops / 1e9, paper.flops, 1),
                _beside(each.seconds, paper.seconds, 2),
                _beside(each.memory, paper.memory, 1),
                _beside(each.fps, paper.fps, 1),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def _beside(own: float | None, paper: float, digits: int) -> str:
    mine = "-" if own is None else f"{own:.{digits}f}"
    return f"{mine} ({paper:g})" if paper else mine


def _notes(options: Segmentation, device: torch.device) -> str:
    where = (
        f"{_called(device)}, {torch.get_num_threads()} threads" if device.type == "cpu" else _called(device)
    )
    size = f"{options.size[0]} x {options.size[1]}"
    return (
        f"\nIn brackets: the paper's, at 512 x 512. Here: {size}, {options.batch_size} pictures a step, on "
        f"{where}.\nA multiplication with its addition is one operation, as the paper counts. Memory is "
        "measured on a GPU only.\nOur SETR-PUP rows have no auxiliary heads and so fewer parameters than "
        "the paper's."
    )


def _called(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _device(name: str) -> torch.device:
    """The device of that name; raises UsageError where there is none."""
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}; expected cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"there is no device {name!r} here; expected cpu, or cuda where there is a GPU")
    return device
