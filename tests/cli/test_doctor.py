"""The doctor tells what would be used here, as torch itself answers."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch
from torch.nn.attention import SDPBackend

from imglish.cli import doctor
from imglish.cli.doctor import diagnose
from imglish.cli.main import main

CPU = not torch.cuda.is_available()


def test_the_facts_are_those_of_this_process() -> None:
    facts = {fact.name: fact for fact in diagnose()}
    assert facts["torch"].found == torch.__version__
    assert facts["threads"].found.startswith(f"{torch.get_num_threads()} on ")
    assert facts["device"].found.startswith("cpu: " if CPU else "cuda: ")
    assert facts["precision"].found == ("fp32" if CPU else "bf16")


def test_every_declared_extra_is_looked_at() -> None:
    extras = importlib.metadata.metadata("imglish").get_all("Provides-Extra") or []
    names = [fact.name for fact in diagnose()]
    assert extras
    assert all(f"extra {extra}" in names for extra in extras)


def test_an_extra_is_installed_only_with_all_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = [
        "torch>=2",
        'numpy>=2; extra == "sums"',
        'no-such-package>=1; extra == "sums"',
        "pillow; extra == 'draw'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    facts = {fact.name: fact for fact in diagnose()}
    assert facts["extra sums"].found == "not installed"
    assert facts["extra sums"].why == "imglish[sums] would add no-such-package"
    assert facts["extra draw"].found == "installed"
    assert facts["extra draw"].why == f"pillow {importlib.metadata.version('pillow')}"


@pytest.mark.skipif(not CPU, reason="what a GPU supports depends on the GPU")
def test_backends_that_do_not_run_are_not_named() -> None:
    attention = next(fact for fact in diagnose() if fact.name == "attention")
    assert "math" in attention.found
    assert "cudnn" not in attention.found  # a GPU library
    assert doctor._runs(SDPBackend.MATH, torch.device("cpu"), torch.float32, None)


def test_the_table_keeps_square_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    missing = [fact for fact in diagnose() if fact.found == "not installed"]
    assert all(f"imglish[{fact.name.removeprefix('extra ')}]" in shown for fact in missing)
