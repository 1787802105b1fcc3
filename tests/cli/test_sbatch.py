"""The script for sbatch, run by bash with Slurm's commands as small scripts: two processes here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from imglish.recipes.run_folder import find_run
from imglish.train.checkpoint import Checkpoints

SCRIPT = Path(__file__).parents[2] / "docs" / "slurm" / "train.sbatch"
SMALL = (
    "beit3_demo_pretraining --train.num-workers 0 --train.log-every 1 --task.num-images 2 --task.num-texts 2 "
    "--task.num-pairs 2 --data.num-validation 2 --train.device cpu --task.model.depth 3"
).split()
# Starts the command once for each task, passes on the signal that it is sent, and fails as the worst does.
SRUN = """#!/bin/bash
shift
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & tasks="$tasks $!"; done
trap 'kill -USR1 $tasks' USR1
echo $$ > srun.pid
worst=0
for task in $tasks; do
    while :; do wait $task; code=$?; kill -0 $task 2> /dev/null || break; done
    [ $code -gt $worst ] && worst=$code
done
exit $worst
"""


@pytest.mark.slow
def test_two_processes_train_save_when_told_and_are_queued_again(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    scontrol = f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" = show ] && echo 127.0.0.1\nexit 0\n'
    for name, text in (("srun", SRUN), ("scontrol", scontrol)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "here", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"}
    text = ["--text-tokenizer", str(find_run("world", "encoder").text_path)]

    def start(steps: int) -> subprocess.Popen[bytes]:
        command = [*SMALL, *text, "--out", "run", "--train.num-steps", str(steps)]
        return subprocess.Popen(["bash", str(SCRIPT), *command], cwd=tmp_path, env=environment)

    metrics = tmp_path / "run" / "metrics.jsonl"
    job = start(100_000)
    try:
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            assert job.poll() is None
            time.sleep(0.2)
        os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGUSR1)
        assert job.wait(timeout=120) == 0
    finally:
        job.kill()
    assert f"requeue {slurm['SLURM_JOB_ID']}" in (tmp_path / "calls").read_text()
    assert Checkpoints(tmp_path / "run" / "checkpoints", 2).complete()
    assert not (tmp_path / "run" / "scores.json").exists()


def test_the_script_is_one_that_bash_reads() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert SCRIPT.read_text().startswith("#!/bin/bash\n")
