"""``imglish submit RECIPE``: train a recipe as a Slurm job that goes on by itself after a preemption."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from imglish.cli.train import configure
from imglish.cli.usage import UsageError
from imglish.errors import ConfigError, ImglishError

_LEFT = 130  # exit code of a run that was asked to leave


@dataclass(frozen=True, kw_only=True, slots=True)
class Submit:
    """Train a recipe as a Slurm job.

    imglish submit RECIPE [OPTIONS] -- [OPTIONS OF imglish train RECIPE]. What stands behind the dashes is
    checked before the job is sent off. Before its time is over, or when it is preempted, the job saves, is
    queued again and goes on.

    Args:
        nodes: Machines.
        gpus_per_node: Processes of a machine, one for each GPU.
        cpus_per_gpu: CPU cores of each process: its loader workers need them.
        hours: Longest time before the job is queued again.
        partition: Of Slurm; its own default where empty.
        account: Of Slurm; its own default where empty.
        notice: Seconds before the end at which the run is asked to save.
        cluster: ``local`` starts the job here and now, without Slurm; with --gpus-per-node 0 one process on
            the CPU: to try.
    """

    nodes: int = 1
    gpus_per_node: int = 8
    cpus_per_gpu: int = 12
    hours: float = 24.0
    partition: str = ""
    account: str = ""
    notice: int = 300
    cluster: Literal["slurm", "local"] = "slurm"


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What each process of the job does.

    Args:
        arguments: Of ``imglish train``.
    """

    arguments: tuple[str, ...]

    def __call__(self) -> None:
        """Train; queue the job again where it was asked to leave before its end.

        Raises:
            ImglishError: Training failed; its own line stands in the job's error log.
        """
        import submitit

        from imglish.cli.main import main

        submitit.helpers.TorchDistributedEnvironment().export()
        code = main(["train", *self.arguments])
        if code == _LEFT and submitit.JobEnvironment().cluster == "slurm":
            if os.environ["RANK"] == "0":  # all ranks leave together, so the state is saved
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
        elif code:
            raise ImglishError(f"imglish train {' '.join(self.arguments)} ended with exit code {code}")


def run(arguments: Sequence[str]) -> None:
    """Send a job off and say where its logs are.

    Raises:
        ConfigError: submitit is not installed, or there is no Slurm here.
        UsageError: There is no such recipe.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        tyro.cli(Submit, args=["--help"], prog="imglish submit RECIPE")
    name, *rest = arguments
    cut = rest.index("--") if "--" in rest else len(rest)
    options = tyro.cli(Submit, args=rest[:cut], prog=f"imglish submit {name}")
    if name == "world":
        raise UsageError(
            "imglish submit takes a single recipe; imglish train world runs four on two CPU cores"
        )
    settings = configure(name, rest[cut + 1 :])
    out = settings.out or Path("runs") / name
    # A job that is queued again must go on; a folder with another run is still refused.
    job = TrainJob((name, *rest[cut + 1 :], *([] if settings.resume else ["--resume"])))
    print(f"job {submit(job, options, out)}: logs in {out / 'slurm'}, progress in {out / 'metrics.jsonl'}")


def submit(job: TrainJob, options: Submit, out: Path) -> str:
    """Send a job off; gives its number. Logs go to ``out/slurm``."""
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "imglish submit needs submitit; install it with: pip install 'imglish[slurm]'. Without it, "
            "docs/pretraining.md has a script for sbatch"
        ) from error
    try:
        executor = submitit.AutoExecutor(folder=out / "slurm", cluster=options.cluster)
    except RuntimeError as error:
        raise ConfigError(
            f"there is no Slurm here ({error}); run this where sbatch is, or give --cluster local to try"
        ) from error
    executor.update_parameters(
        name=job.arguments[0],
        nodes=options.nodes,
        tasks_per_node=max(1, options.gpus_per_node),
        gpus_per_node=options.gpus_per_node,
        cpus_per_task=options.cpus_per_gpu,
        timeout_min=round(60 * options.hours),
    )
    if options.cluster == "slurm":
        wishes = {"slurm_partition": options.partition, "slurm_account": options.account}
        executor.update_parameters(
            slurm_signal_delay_s=options.notice,
            slurm_additional_parameters={"requeue": True},
            **{key: wish for key, wish in wishes.items() if wish},
        )
    return str(executor.submit(job).job_id)
