"""The share of a run's time that it waits for data, by the number of loader workers.

    python benchmarks/waiting.py [--steps 40] [--workers 0 1 2]

Trains the World's masked data modelling for some steps and reads ``waiting`` and ``samples_per_second`` from
the log of the run, the first line left out: in it workers start. Scenes are drawn, not read, so this is about
the dearest data there is for so small a model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import MaskedDataModelingTask
from imglish.recipes.world import world_masked_data_modeling
from imglish.train.logging import read_log


def measure(folder: Path, steps: int, workers: int) -> tuple[float, float]:
    """Share of time spent waiting, and samples a second."""
    config = world_masked_data_modeling(num_steps=steps)
    assert isinstance(config.task, MaskedDataModelingTask)
    config = replace(
        config,
        task=replace(config.task, visual_tokenizer="world"),
        data=replace(config.data, num_validation=32),  # type: ignore[arg-type]
        init="world",
        train=replace(
            config.train, save_every=0, evaluate_every=0, log_every=5, num_workers=workers, tensorboard=False
        ),
    )
    train_recipe(config, folder)
    lines = [line for line in read_log(folder / "metrics.jsonl") if "waiting" in line][1:]
    names = ("waiting", "samples_per_second")
    waiting, speed = (statistics.mean(line[name] for line in lines) for name in names)
    return waiting, speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    print("| workers | waiting for data | samples a second | load of the machine |\n|---:|---:|---:|---:|")
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory() as folder:
            waiting, speed = measure(Path(folder) / "run", arguments.steps, workers)
        print(f"| {workers} | {waiting:.1%} | {speed:.0f} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
