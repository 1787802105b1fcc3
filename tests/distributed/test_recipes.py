"""A recipe on two ranks with a sharded model, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imglish.cli.main import main
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from tests.recipes.tiny_runs import segmenting

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SHARDED = ("--train.strategy", "fsdp2", "--train.activation-checkpointing", "--train.save-in-background")


@pytest.mark.slow
def test_a_sharded_run_ends_in_whole_weights_that_one_process_scores_alike(tmp_path: Path) -> None:
    write_world(WorldConfig(), tmp_path / "world", num_train=4, num_validation=3)
    out = tmp_path / "run"
    settings = ("--train.ema-decay", "0.5", "--train.evaluate-every", "1")
    subprocess.run(
        [*TORCHRUN, "-m", "imglish", *segmenting(tmp_path / "world", out, *settings, *SHARDED)],
        check=True, capture_output=True, timeout=180, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    scores, weights = json.loads((out / "scores.json").read_text()), load_file(out / "model.safetensors")
    (out / "scores.json").unlink()
    (out / "model.safetensors").unlink()
    assert main(segmenting(tmp_path / "world", out, *settings, "--resume")) == 0
    again = load_file(out / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
    assert json.loads((out / "scores.json").read_text()) == pytest.approx(scores)
