"""A machine is described by what the system itself says."""

from __future__ import annotations

import json
import math
import os
import platform

import pytest
import torch

from imglish.evaluation import machine
from imglish.evaluation.machine import num_cores, this_machine
from imglish.evaluation.report import plain


def test_the_description_is_of_this_process() -> None:
    described = this_machine(torch.device("cpu"), "fp32")
    assert (described.device, described.precision) == ("cpu", "fp32")
    assert (described.python, described.torch) == (platform.python_version(), torch.__version__)
    assert described.processor.strip()
    assert 1 <= described.cores <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_only_the_cores_that_may_be_used_count() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_unknown_memory_is_reported_as_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(machine.os, "sysconf", refuse)
    described = this_machine(torch.device("cpu"), "fp32")
    assert math.isnan(described.memory_gb)
    assert json.loads(json.dumps(plain(described), allow_nan=False))["memory_gb"] is None
