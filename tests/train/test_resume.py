from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imglish.train.logging import read_log

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
# Processes that go on are never waited for as long; on a busy machine alone their start takes minutes.
PATIENCE = 400
# Gradients of two ranks are summed in another order than those of one batch.
ROUNDING = {"rtol": 1e-4, "atol": 1e-6}


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "tests.train.tiny", str(out), *options]


def run(out: Path, *options: str) -> None:
    subprocess.run(command(out, *options), cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)


def start_and_stop(out: Path, number: signal.Signals) -> None:
    """Send a signal to a run that has saved a checkpoint and is between two."""
    process = start(out, command(out, "--pause"))
    wait_for_lines(out, 13, process)
    if number is signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.wait(timeout=PATIENCE)


def start(out: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """Start a process whose output goes to a file in ``out``."""
    out.mkdir()
    with (out / "said").open("wb") as said:
        return subprocess.Popen(
            words, cwd=ROOT, stdout=said, stderr=said, env=ONE_THREAD, start_new_session=True
        )


def wait_for_lines(out: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run has logged so many steps; one that ends before fails with what it said."""
    deadline = time.monotonic() + PATIENCE
    while len(read_log(out / "metrics.jsonl")) < number:
        said = (out / "said").read_text(errors="replace")
        assert process.poll() is None, f"the run ended before step {number}:\n{said}"
        assert time.monotonic() < deadline, f"no step {number} in {PATIENCE} s:\n{said}"
        time.sleep(0.02)


def counted(out: Path) -> list[float]:
    """Damaged samples so far, line by line of the log."""
    return [record.get("num_skipped", 0) for record in read_log(out / "metrics.jsonl")]


def assert_same(a: Path, b: Path) -> None:
    for name in ("final.safetensors", "ema.safetensors"):
        ours, theirs = load_file(a / name), load_file(b / name)
        assert ours.keys() == theirs.keys()
        for key, tensor in ours.items():
            assert torch.equal(tensor, theirs[key]), f"{name}: {key} differs"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("resume") / "whole"
    run(out)
    return out


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in the middle; for tests to copy."""
    out = tmp_path_factory.mktemp("resume") / "killed"
    start_and_stop(out, signal.SIGKILL)
    return out


def test_a_run_killed_in_the_middle_resumes_bit_for_bit(whole: Path, cut_off: Path, tmp_path: Path) -> None:
    shutil.copytree(cut_off, tmp_path / "killed")
    assert not (tmp_path / "killed" / "final.safetensors").exists()
    run(tmp_path / "killed")
    assert_same(whole, tmp_path / "killed")
    steps = [record["step"] for record in read_log(tmp_path / "killed" / "metrics.jsonl")]
    assert steps == list(range(1, 41))
    losses = [[r["loss"] for r in read_log(out / "metrics.jsonl")] for out in (whole, tmp_path / "killed")]
    assert losses[0] == losses[1]
    assert (tmp_path / "killed" / "skipped.log").read_text() == (whole / "skipped.log").read_text()


def test_a_polite_signal_saves_the_present_step_and_leaves(tmp_path: Path) -> None:
    start_and_stop(tmp_path / "left", signal.SIGTERM)
    last = sorted((tmp_path / "left" / "checkpoints").glob("step_*"))[-1]
    assert int(last.name.removeprefix("step_")) % 5 != 0 or int(last.name.removeprefix("step_")) < 40
    assert not (tmp_path / "left" / "final.safetensors").exists()
    run(tmp_path / "left")
    assert (tmp_path / "left" / "final.safetensors").exists()


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    whole: Path, cut_off: Path, tmp_path: Path
) -> None:
    shutil.copytree(cut_off, tmp_path / "killed")
    last = sorted((tmp_path / "killed" / "checkpoints").glob("step_*"))[-1]
    (last / "__0_0.distcp").write_bytes(b"cut")
    run(tmp_path / "killed")
    assert_same(whole, tmp_path / "killed")


def test_damaged_samples_are_replaced_counted_and_listed(whole: Path) -> None:
    lines = (whole / "skipped.log").read_text().splitlines()
    assert any("sample 13 is damaged" in line for line in lines)
    assert read_log(whole / "metrics.jsonl")[-1]["num_skipped"] == len(lines)


@pytest.mark.slow
def test_a_rank_that_dies_under_torchrun_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    ends = []
    for name in ("undisturbed", "killed"):
        out = tmp_path / name
        options = ("--background", "--pause") if name == "killed" else ("--background",)
        process = start(out, [*TORCHRUN, "--max-restarts", "1", "-m", "tests.train.tiny", str(out), *options])
        if name == "killed":
            wait_for_lines(out, 13, process)
            victim = int((out / "process_1").read_text())
            os.kill(victim, signal.SIGKILL)
        assert process.wait(timeout=PATIENCE) == 0, (out / "said").read_text(errors="replace")
        ends.append(out)
    assert int((tmp_path / "killed" / "process_1").read_text()) != victim
    assert_same(*ends)
    losses = [[r["loss"] for r in read_log(out / "metrics.jsonl")] for out in ends]
    assert losses[0] == losses[1] and len(losses[0]) == 40


def test_two_ranks_train_as_one_with_the_whole_batch(tmp_path: Path) -> None:
    run(tmp_path / "one", "--no-dropout")
    subprocess.run(
        [*TORCHRUN, "-m", "tests.train.tiny", str(tmp_path / "two"), "--no-dropout"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
        env=ONE_THREAD,
    )
    one, two = (
        load_file(tmp_path / "one" / "final.safetensors"),
        load_file(tmp_path / "two" / "final.safetensors"),
    )
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, **ROUNDING)
    # What either rank could not read is listed, and counted as in one process.
    names = ("skipped.log", "skipped.rank1.log")
    first, second = ((tmp_path / "two" / name).read_text().splitlines() for name in names)
    listed = (tmp_path / "one" / "skipped.log").read_text().splitlines()
    assert first and second and sorted(first + second) == sorted(listed)
    assert counted(tmp_path / "two") == counted(tmp_path / "one")
