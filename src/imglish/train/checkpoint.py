"""Checkpoints: folders that appear whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed as dist, nn

from imglish.errors import CheckpointError
from imglish.train.distributed import Ranks
from imglish.train.state import TrainState, restore_rng, rng_state

log = logging.getLogger(__name__)
_FORMAT = 1
_DONE = "checkpoint.json"  # written last: a folder without it was never finished


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run.

    Each is a folder ``step_00000100`` with ``model.safetensors``, ``ema.safetensors`` where there is an
    average, ``optimizer.pt``, ``rng_<rank>.pt`` and ``checkpoint.json``. It is written under another name
    and renamed when complete, so that a run killed at any moment leaves only whole ones.

    Args:
        folder: Where they lie.
        keep: How many of the latest are kept.
    """

    folder: Path
    keep: int

    def save(self, state: TrainState, ranks: Ranks) -> Path:
        """Write a checkpoint of the present state; every rank calls this."""
        final = self.folder / f"step_{state.step:08d}"
        partial = self.folder / f".partial_{state.step:08d}"
        if ranks.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._wait(ranks)
        torch.save(rng_state(), partial / f"rng_{ranks.rank}.pt")
        self._wait(ranks)
        if ranks.is_main:
            save_weights(state.model.state_dict(), partial / "model.safetensors")
            if state.ema is not None:
                save_weights(state.ema.weights, partial / "ema.safetensors")
            torch.save(state.optimizer.state_dict(), partial / "optimizer.pt")
            (partial / _DONE).write_text(json.dumps({"format": _FORMAT, "step": state.step}))
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            for old in self.complete()[: -self.keep]:
                shutil.rmtree(old)
        self._wait(ranks)
        return final

    def complete(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return sorted(path.parent for path in self.folder.glob(f"step_*/{_DONE}"))

    def load_latest(self, state: TrainState, ranks: Ranks) -> bool:
        """Go on from the last checkpoint that can be read; False where there is none.

        A damaged one is named in the log and the one before it is taken.

        Raises:
            CheckpointError: The checkpoint belongs to another architecture.
        """
        for path in reversed(self.complete()):
            try:
                weights = load_weights(path / "model.safetensors")
                average = load_weights(path / "ema.safetensors") if state.ema is not None else None
                optimizer = torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu")
                draws = torch.load(path / f"rng_{ranks.rank}.pt", weights_only=True, map_location="cpu")
                step = int(json.loads((path / _DONE).read_text())["step"])
            except (OSError, RuntimeError, ValueError, KeyError, EOFError, CheckpointError) as error:
                log.warning("%s is damaged (%s); trying the one before it", path, str(error).split("\n")[0])
                continue
            load_strictly(state.model, weights, where=str(path))
            state.optimizer.load_state_dict(optimizer)
            if state.ema is not None and average is not None:
                state.ema.load(average)
            restore_rng(draws)
            state.step = step
            return True
        return False

    @staticmethod
    def _wait(ranks: Ranks) -> None:
        if ranks.world_size > 1:
            dist.barrier()


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors; tensors that share memory are written once each."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own, unexported, error type
        raise CheckpointError(f"{path}: missing or damaged safetensors file ({error})") from error


def load_strictly(model: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Load weights that must fit a model exactly.

    Raises:
        CheckpointError: A name is missing or left over, or a shape differs; the first ones are named.
    """
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    wrong = [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    faults = [f"missing {', '.join(missing[:3])}"] if missing else []
    faults += [f"unexpected {', '.join(unexpected[:3])}"] if unexpected else []
    faults += wrong[:3]
    if faults:
        raise CheckpointError(
            f"{where} belongs to another architecture: {'; '.join(faults)}. "
            "Use the config it was trained with, or another output folder"
        )
    model.load_state_dict(weights)
