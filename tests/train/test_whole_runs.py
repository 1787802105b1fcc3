"""Through loader, loop and recipe: whoever makes the batches, wherever a run stops, it computes the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imglish.errors import ConfigError
from imglish.recipes.assemble import assemble, train_recipe
from imglish.recipes.assembly.base import Shares
from imglish.recipes.run_folder import RunFolder
from imglish.train.logging import read_log
from tests.train.test_resume import ONE_THREAD, PATIENCE, ROOT, TORCHRUN
from tests.train.whole_run import NUM_STEPS, config_of, write

# Gradients of two ranks are summed in another order, in float32.
RELATIVE, ABSOLUTE = 1e-4, 1e-5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("whole")
    write(made)
    train_recipe(config_of(made), made / "run")
    return made


def losses(run: Path) -> list[dict[str, float]]:
    """Every loss of every step."""
    lines = [line for line in read_log(run / "metrics.jsonl") if "lr" in line]
    assert [line["step"] for line in lines] == list(range(1, NUM_STEPS + 1))
    return [{name: value for name, value in line.items() if name.startswith("loss")} for line in lines]


def assert_same(found: Path, expected: Path) -> None:
    ours, theirs = load_file(found / "model.safetensors"), load_file(expected / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert losses(found) == losses(expected)
    assert (found / "scores.json").read_bytes() == (expected / "scores.json").read_bytes()


def stopped(run: Path, step: int, out: Path) -> Path:
    """A folder as a run leaves it that is killed after a step was saved."""
    shutil.copytree(run, out)
    for path in (out / "checkpoints").iterdir():
        if int(path.name.removeprefix("step_")) > step:
            shutil.rmtree(path)
    (out / "model.safetensors").unlink()
    (out / "scores.json").unlink()
    return out


@pytest.mark.parametrize("num_workers", [2, 3])
def test_workers_change_no_bit_of_the_weights(root: Path, tmp_path: Path, num_workers: int) -> None:
    train_recipe(config_of(root, num_workers), tmp_path / "run")
    assert_same(tmp_path / "run", root / "run")


@pytest.mark.parametrize("step", range(1, NUM_STEPS))
def test_a_run_stopped_at_any_step_ends_in_the_same_weights(root: Path, tmp_path: Path, step: int) -> None:
    out = stopped(root / "run", step, tmp_path / "run")
    train_recipe(config_of(root, num_workers=step - 1), out, resume=True)
    assert_same(out, root / "run")


def test_a_run_in_bf16_stops_and_ends_in_the_same_fp32_weights(root: Path, tmp_path: Path) -> None:
    config = config_of(root)
    config = replace(config, train=replace(config.train, precision="bf16_params"))
    train_recipe(config, tmp_path / "whole")
    out = stopped(tmp_path / "whole", 2, tmp_path / "run")
    train_recipe(config, out, resume=True)
    assert_same(out, tmp_path / "whole")
    assert all(t.dtype == torch.float32 for t in load_file(out / "model.safetensors").values())
    for ours, theirs in zip(losses(out), losses(root / "run"), strict=True):
        assert ours != theirs and ours == pytest.approx(theirs, rel=0.05)  # bf16 keeps 8 bits


@pytest.mark.slow
def test_two_ranks_go_on_with_the_same_data_and_losses(root: Path, tmp_path: Path) -> None:
    out = stopped(root / "run", 2, tmp_path / "run")
    subprocess.run(
        [*TORCHRUN, "-m", "tests.train.whole_run", str(root), str(out)],
        cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE, env=ONE_THREAD,
    )  # fmt: skip
    for ours, theirs in zip(losses(out), losses(root / "run"), strict=True):
        assert ours == pytest.approx(theirs, rel=RELATIVE)
    found, expected = load_file(out / "model.safetensors"), load_file(root / "run" / "model.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=RELATIVE, atol=ABSOLUTE, msg=name)


def test_quotas_that_do_not_divide_are_refused_by_their_size(root: Path, tmp_path: Path) -> None:
    line = "num_images of 4 does not divide by 3 ranks x 2 micro steps; choose a multiple of 6"
    with pytest.raises(ConfigError, match=re.escape(line)):
        assemble(config_of(root), RunFolder(tmp_path), Shares(rank=0, world_size=3, grad_accumulation=2))
