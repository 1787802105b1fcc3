"""Jobs without a cluster: submitit's local executor, and Slurm's commands as scripts that note each call."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imglish.cli.main import main
from imglish.recipes.run_folder import find_run

submitit = pytest.importorskip("submitit")
SMALL = (
    "--train.num-workers 0 --train.log-every 1 --task.num-images 2 --task.num-texts 2 --task.num-pairs 2 "
    "--data.num-validation 2 --train.device cpu --task.model.depth 3"
).split()
RECIPE = "beit3_demo_pretraining"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path


def slurm(folder: Path) -> None:
    """Slurm's commands, as far as they are called: they note it, and answer."""
    (folder / "bin").mkdir()
    answers = {"sbatch": "Submitted batch job 7", "scontrol": "127.0.0.1", "srun": "", "sacct": ""}
    for name, answer in answers.items():
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $@" >> {folder}/calls\necho "{answer}"\n')
        path.chmod(0o755)


def settings(*more: str) -> list[str]:
    return [*SMALL, "--text-tokenizer", str(find_run("world", "encoder").text_path), *more]


def test_a_job_trains_what_the_command_would(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = settings("--train.num-steps", "2")
    assert main(["submit", RECIPE, "--cluster", "local", "--gpus-per-node", "0", "--", *trained]) == 0
    number = re.match(r"job (\d+): logs in runs/\w+/slurm", capsys.readouterr().out)
    assert number is not None
    logs = folder / "runs" / RECIPE / "slurm"
    submitit.LocalJob(logs, number[1], tasks=[0]).result()
    assert main(["train", RECIPE, *trained, "--out", "direct"]) == 0
    job, direct = (folder / name / "model.safetensors" for name in (f"runs/{RECIPE}", "direct"))
    assert job.read_bytes() == direct.read_bytes()


def test_slurm_is_asked_for_what_was_said(folder: Path) -> None:
    slurm(folder)
    command = "--nodes 3 --gpus-per-node 4 --cpus-per-gpu 5 --hours 2.5 --partition gpu --notice 77".split()
    assert main(["submit", RECIPE, *command, "--", *settings()]) == 0
    assert (folder / "calls").read_text().startswith("sbatch ")
    lines = (folder / "runs" / RECIPE / "slurm" / "7_submission.sh").read_text().splitlines()
    for wish in (
        "nodes=3", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=5", "time=150", "partition=gpu",
        "signal=USR2@77", "requeue", f"job-name={RECIPE}",
    ):  # fmt: skip
        assert f"#SBATCH --{wish}" in lines


def test_a_job_that_must_leave_saves_and_is_queued_again(folder: Path) -> None:
    slurm(folder)
    slurm_says = {"JOB_ID": "7", "JOB_NODELIST": "here", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}
    slurm_says |= {"NODEID": "0", "JOB_NUM_NODES": "1", "NNODES": "1"}
    environment = {**os.environ, **{f"SLURM_{key}": value for key, value in slurm_says.items()}}
    environment |= {"SUBMITIT_EXECUTOR": "slurm"}
    arguments = (RECIPE, *settings("--train.num-steps", "100000"), "--resume", "--out", str(folder / "run"))
    program = f"from imglish.cli.submit import TrainJob; TrainJob({arguments!r})()"
    job = subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=folder)
    metrics = folder / "run" / "metrics.jsonl"
    try:
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            assert job.poll() is None
            time.sleep(0.2)
        job.send_signal(signal.SIGUSR2)
        assert job.wait(timeout=120) == 0
    finally:
        job.kill()
    assert "scontrol requeue 7" in (folder / "calls").read_text()
    assert list((folder / "run" / "checkpoints").glob("step_*"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bet3_demo_pretraining"], "there is no recipe"),
        ([RECIPE, "--", "--task.num-images", "-1"], "num_images must be at least 0"),
        ([RECIPE], "there is no Slurm here"),
        (["world"], "a single recipe"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent_off(
    arguments: list[str], line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *arguments]) in (1, 2)
    assert line in capsys.readouterr().err
    assert not (folder / "runs").exists()
