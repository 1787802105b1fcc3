"""``imglish doctor``: what this machine has, what imglish would use on it, and why."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from imglish.evaluation.machine import this_machine
from imglish.evaluation.results import Machine
from imglish.hub.load import EMBEDDED
from imglish.recipes.run_folder import find_run
from imglish.train.precision import resolve_precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Doctor:
    """Say what this machine has, what imglish would use on it, and why."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the diagnosis: what it is about, what was found, and why it is so."""

    name: str
    found: str
    why: str


def run(arguments: Sequence[str]) -> None:
    """Print the diagnosis as a table."""
    tyro.cli(Doctor, args=arguments, prog="imglish doctor")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_column(style="dim")
    for fact in diagnose():
        table.add_row(Text(fact.name), Text(fact.found), Text(fact.why))
    Console(highlight=False).print(table)


def diagnose() -> list[Fact]:
    """Look at the machine; nothing is changed and no network is used."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = this_machine(device, resolve_precision("auto", device))
    return [
        Fact("imglish", importlib.metadata.version("imglish"), f"in {Path(__file__).parents[1]}"),
        Fact("python", machine.python, platform.platform()),
        Fact("torch", machine.torch, _built_for()),
        _device(device, machine),
        _precision(device),
        _attention(device),
        Fact(
            "deformable attention", "grid_sample", "plain torch on every device; there is no other form yet"
        ),
        _threads(machine),
        Fact("memory", f"{machine.memory_gb:.1f} GiB", "main memory"),
        _weights(),
        *_extras(),
    ]


def _built_for() -> str:
    return f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPU only"


def _device(device: torch.device, machine: Machine) -> Fact:
    if device.type == "cuda":
        memory = f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
        return Fact("device", f"cuda: {machine.device}", f"{torch.cuda.device_count()} found; {memory} each")
    why = "this build of torch has no CUDA" if not torch.version.cuda else "torch finds no CUDA device"
    return Fact("device", f"cpu: {machine.processor}", why)


def _precision(device: torch.device) -> Fact:
    precision = resolve_precision("auto", device)
    if precision == "bf16":
        why = "the device computes in bfloat16; weights and gradients stay in float32"
    elif device.type == "cpu":
        why = "bfloat16 is emulated, and slower, on most processors"
    else:
        why = "the device has no bfloat16"
    return Fact("precision", precision, why)


def _attention(device: torch.device) -> Fact:
    """Which backends of scaled-dot-product attention run here, found by running them."""
    backends = (
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    )
    dtype = torch.bfloat16 if resolve_precision("auto", device) == "bf16" else torch.float32
    mask = torch.ones(1, 1, 1, 64, dtype=torch.bool, device=device)
    plain = [_short(backend) for backend in backends if _runs(backend, device, dtype, None)]
    masked = [_short(backend) for backend in backends if _runs(backend, device, dtype, mask)]
    why = f"torch takes the first that fits; with a padding mask: {', '.join(masked)}"
    return Fact("attention", ", ".join(plain), why)


def _runs(backend: SDPBackend, device: torch.device, dtype: torch.dtype, mask: torch.Tensor | None) -> bool:
    x = torch.zeros(1, 2, 64, 64, device=device, dtype=dtype)
    try:
        with sdpa_kernel(backend):
            scaled_dot_product_attention(x, x, x, attn_mask=mask)
    except RuntimeError:
        return False
    return True


def _short(backend: SDPBackend) -> str:
    return backend.name.lower().removesuffix("_attention")


def _threads(machine: Machine) -> Fact:
    asked = os.environ.get("OMP_NUM_THREADS")
    why = f"OMP_NUM_THREADS is {asked}" if asked else "torch takes one for each core"
    return Fact("threads", f"{torch.get_num_threads()} on {machine.cores} cores", why)


def _weights() -> Fact:
    """The World model that ships in the package."""
    folders = [find_run(EMBEDDED, part) for part in ("encoder", "visual_tokenizer", "heads")]
    sizes = [folder.weights_path.stat().st_size for folder in folders if folder.weights_path.is_file()]
    if len(sizes) < len(folders):
        return Fact(
            "World model", "missing", "the package was built without it; imglish train makes it again"
        )
    return Fact("World model", f"{sum(sizes) / 1e6:.1f} MB", f"in {folders[0].path.parent}")


def _extras() -> list[Fact]:
    """Optional extras, as the installed package declares them, and whether their packages are there."""
    packages: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("imglish") or []:
        if match := re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", requirement):
            packages.setdefault(match[2], []).append(match[1])
    return [_extra(extra, names) for extra, names in packages.items()]


def _extra(extra: str, names: list[str]) -> Fact:
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Fact(f"extra {extra}", "not installed", f"imglish[{extra}] would add {', '.join(missing)}")
    return Fact(
        f"extra {extra}", "installed", ", ".join(f"{name} {version}" for name, version in versions.items())
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
