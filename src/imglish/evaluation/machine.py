"""What the machine is, in the words of a report."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from imglish.evaluation.results import Machine


def this_machine(device: torch.device, precision: str) -> Machine:
    """Describe the machine that runs this process.

    Args:
        device: Where the run computes.
        precision: In which number format it computes.
    """
    return Machine(
        processor=_processor(),
        cores=num_cores(),
        memory_gb=_memory_bytes() / 2**30,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        precision=precision,
        python=platform.python_version(),
        torch=str(torch.__version__),
    )


def num_cores() -> int:
    """Processor cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def _memory_bytes() -> float:
    """Main memory; not a number where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("nan")
