"""Checkpoints: folders that appear whole or not at all, each rank writing its share."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed as dist, nn

from imglish.errors import CheckpointError
from imglish.train.distributed import Ranks, any_rank
from imglish.train.ema import local
from imglish.train.state import TrainState, named_tensors, restore_rng, rng_state, start_draws

log = logging.getLogger(__name__)
_FORMAT = 2  # 1 held whole tensors of the main rank
_DONE = "checkpoint.json"  # written last: a folder without it was never finished


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of one run.

    Each is a folder ``step_00000100`` in the form of `torch.distributed.checkpoint`: weights, averaged
    weights and moments of the optimiser by the names of the model, so that any number of ranks, whole or
    sharded, can go on from it. ``rng_<rank>.pt`` beside them are the random states, ``checkpoint.json`` the
    step and the size of every file. A folder is written under another name and renamed when complete, so
    that a run killed at any moment leaves only whole ones.

    As a context it waits at its end for what is still being written.

    Args:
        folder: Where they lie.
        keep: How many of the latest are kept.
        background: True copies the state and writes it while training goes on; one at a time.
    """

    folder: Path
    keep: int
    background: bool = False
    _writing: Future[None] | None = field(default=None, init=False)
    _name: str = field(default="", init=False)
    _group: dist.ProcessGroup | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            self._writing.exception()  # wait: a rank that failed can not ask the others how it went

    def save(self, state: TrainState, ranks: Ranks, *, needed: bool = True) -> None:
        """Write a checkpoint of the present state; every rank calls this.

        What can not be written leaves the checkpoints before it as they are.

        Args:
            state: Whole or sharded.
            ranks: This process among all.
            needed: True waits until it is written and fails where it can not be; False logs the failure, as
                the next attempt may succeed.

        Raises:
            CheckpointError: It can not be written, and is needed.
        """
        self.wait(ranks, needed=False)
        self._name = f"step_{state.step:08d}"
        partial = self.folder / f".partial_{state.step:08d}"
        if error := self._prepare(partial, ranks):
            self._writing = Future()
            self._writing.set_exception(error)
        else:
            self._writing = self._write(state, partial, ranks)
        if needed or not self.background:
            self.wait(ranks, needed=needed)

    def wait(self, ranks: Ranks, *, needed: bool = True) -> None:
        """Wait for the checkpoint that is being written, if there is one; every rank calls this.

        Raises:
            CheckpointError: It could not be written on some rank, and is needed.
        """
        if self._writing is None:
            return
        error = self._writing.exception()
        self._writing = None
        if not any_rank(error is not None, ranks):
            return
        if ranks.is_main:
            shutil.rmtree(self.folder / f".partial_{self._name.removeprefix('step_')}", ignore_errors=True)
        whole = [path.name for path in self.complete()]
        last = f"the last good one, {whole[-1]}, is kept" if whole else "there is none before it"
        reason = _reason(error) if error is not None else "another rank says why"
        # Torch's writer does not always say that the disk is full.
        free = shutil.disk_usage(self.folder).free / 2**20 if self.folder.is_dir() else 0.0
        line = (
            f"{self.folder / self._name}: the checkpoint can not be written ({reason}; {free:.0f} MiB are "
            f"free); {last}"
        )
        if needed:
            raise CheckpointError(f"{line}. Make room and go on with --resume")
        log.error("%s; training goes on", line)

    def complete(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return sorted(path.parent for path in self.folder.glob(f"step_*/{_DONE}"))

    def load_latest(self, state: TrainState, ranks: Ranks) -> bool:
        """Go on from the last checkpoint that can be read; False where there is none. Every rank calls this.

        A damaged one is named in the log and the one before it is taken. With another number of ranks than
        it was saved with, random draws start anew, as those of single ranks mean nothing to others; weights,
        optimiser and order of data go on.

        Raises:
            CheckpointError: The checkpoint belongs to another architecture, has no averaged weights although
                the run wants them, or was written by an older version; or some were tried, and none could be
                read whole.
        """
        tried = ""
        for path in self._whole(ranks):
            try:
                saved = json.loads((path / _DONE).read_text())
                tensors = named_tensors(state, saved=_check_fit(path, state))
                self._read(tensors, path, ranks)
                same_ranks = saved["world_size"] == ranks.world_size
                draws = torch.load(path / f"rng_{ranks.rank}.pt", weights_only=True) if same_ranks else None
                error: BaseException | None = None
            except CheckpointError:
                raise
            except BaseException as raised:  # torch's own is no Exception
                if isinstance(raised, KeyboardInterrupt | SystemExit):
                    raise
                error = raised
            if any_rank(error is not None, ranks):
                tried = _reason(error) if error is not None else "on another rank"
                log.warning("%s is damaged (%s); trying the one before it", path, tried)
                continue
            if draws is None:
                log.info("%s was saved by %d ranks, not %d", path, saved["world_size"], ranks.world_size)
                start_draws(int(saved["step"]))
            else:
                restore_rng(draws)
            state.step = int(saved["step"])
            return True
        if tried:  # the state may be half one of them
            raise CheckpointError(self._unreadable(tried))
        return False

    def _whole(self, ranks: Ranks) -> list[Path]:
        """Those whose files are all there, newest first, as the main rank sees them."""
        names: list[str] = []
        refused = ""
        if ranks.is_main:
            for path in reversed(self.complete()):
                fault = _fault(path)
                if fault.startswith("written"):
                    names, refused = [], f"{self.folder} was {fault}; start anew in another folder"
                    break
                if fault:
                    log.warning("%s is damaged (%s); trying the one before it", path, fault)
                    refused = self._unreadable(fault)
                else:
                    names.append(path.name)
        if ranks.world_size > 1:
            box: list[Any] = [(names, refused)]
            dist.broadcast_object_list(box, src=0, group=self._talk(ranks))
            names, refused = box[0]
        if refused and not names:  # a run must not start anew over what may yet be mended
            raise CheckpointError(refused)
        return [self.folder / name for name in names]

    def _unreadable(self, reason: str) -> str:
        return f"{self.folder}: no checkpoint can be read ({reason}); remove the folder to start anew"

    def _prepare(self, partial: Path, ranks: Ranks) -> OSError | RuntimeError | None:
        """Make the folder and write the random states, which each step changes."""
        error: OSError | RuntimeError | None = None
        try:
            if ranks.is_main:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
        except OSError as raised:
            error = raised
        if any_rank(error is not None, ranks):
            return error or RuntimeError("another rank says why")
        try:
            torch.save(rng_state(), partial / f"rng_{ranks.rank}.pt")
        except (OSError, RuntimeError) as raised:
            error = raised
        return (
            (error or RuntimeError("another rank says why")) if any_rank(error is not None, ranks) else None
        )

    def _write(self, state: TrainState, partial: Path, ranks: Ranks) -> Future[None]:
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
        from torch.distributed.checkpoint.filesystem import FileSystemWriter
        from torch.distributed.checkpoint.state_dict_saver import async_save, save

        tensors: dict[str, Any] = _held(named_tensors(state), ranks)
        writer = FileSystemWriter(partial)
        # What all ranks hold alike is the main rank's: batch norm counts each rank's own pictures.
        planner = DefaultSavePlanner(dedup_save_to_lowest_rank=True)
        alone, group, step = ranks.world_size == 1, self._talk(ranks), state.step
        final = self.folder / self._name
        copied: Future[Any] | None = None
        if self.background and alone:
            tensors = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        elif self.background:
            saving = async_save(tensors, storage_writer=writer, planner=planner, process_group=group)
            assert isinstance(saving, Future)
            copied = saving

        def finish() -> None:
            try:
                if copied is not None:
                    copied.result()
                else:
                    with _silent():
                        save(
                            tensors,
                            storage_writer=writer,
                            planner=planner,
                            process_group=group,
                            no_dist=alone,
                        )
            except CheckpointException as error:  # no Exception: nothing else would catch it
                raise RuntimeError(_reason(error)) from error
            if ranks.is_main:  # whose part ends after those of all
                self._publish(partial, final, step, ranks)

        if self.background:
            thread = ThreadPoolExecutor(1)
            writing = thread.submit(finish)
            thread.shutdown(wait=False)
            return writing
        writing = Future()
        try:
            finish()
            writing.set_result(None)
        except (OSError, RuntimeError) as error:
            writing.set_exception(error)
        return writing

    def _publish(self, partial: Path, final: Path, step: int, ranks: Ranks) -> None:
        sizes = {path.name: path.stat().st_size for path in partial.iterdir()}
        about = {"format": _FORMAT, "step": step, "world_size": ranks.world_size, "sizes": sizes}
        (partial / _DONE).write_text(json.dumps(about))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in self.complete()[: -self.keep]:
            shutil.rmtree(old)

    def _read(self, tensors: dict[str, Tensor], path: Path, ranks: Ranks) -> None:
        from torch.distributed.checkpoint.filesystem import FileSystemReader
        from torch.distributed.checkpoint.state_dict_loader import load

        state: dict[str, Any] = _held(tensors, ranks)
        with _silent():
            load(
                state,
                storage_reader=FileSystemReader(path),
                process_group=self._talk(ranks),
                no_dist=ranks.world_size == 1,
            )

    def _talk(self, ranks: Ranks) -> dist.ProcessGroup | None:
        """A group of its own, so that what is written meanwhile does not mix with training."""
        if self._group is None and ranks.world_size > 1:
            group = dist.new_group(backend="gloo")
            assert isinstance(group, dist.ProcessGroup)
            self._group = group
        return self._group


def _held(tensors: dict[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The tensors as torch's checkpoints take them: those that one rank alone has are whole."""
    return {name: local(tensor) for name, tensor in tensors.items()} if ranks.world_size == 1 else tensors


@contextmanager
def _silent() -> Iterator[None]:
    """Torch warns that one process saves alone, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _fault(path: Path) -> str:
    """What is wrong with a finished checkpoint, judged by its list of files; empty where nothing is."""
    try:
        about = json.loads((path / _DONE).read_text())
        if about["format"] != _FORMAT:
            return f"written by another version (format {about['format']}, not {_FORMAT})"
        for name, size in about["sizes"].items():
            found = (path / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _reason(error)
    return ""


def _check_fit(path: Path, state: TrainState) -> set[str]:
    """Compare names and shapes with those of a checkpoint.

    Returns:
        The names in it.

    Raises:
        CheckpointError: Weights are missing, left over, or have another shape.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    saved = FileSystemReader(path).read_metadata().state_dict_metadata
    shapes = {name: tuple(entry.size) for name, entry in saved.items() if hasattr(entry, "size")}
    own = {name: tuple(tensor.shape) for name, tensor in named_tensors(state).items()}
    if state.ema is not None and not any(name.startswith("ema.") for name in shapes):
        raise CheckpointError(f"{path} has no averaged weights; resume with train.ema_decay 0")
    faults = _differences(_models(shapes), _models(own))
    if faults:
        raise CheckpointError(_other_architecture(str(path), faults))
    return set(shapes)


def _models(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix("model."): shape for name, shape in shapes.items() if name.startswith("model.")}


def _reason(error: BaseException) -> str:
    """The first failure behind an error, as one line."""
    failures = getattr(error, "failures", None)
    if failures:
        error = next(iter(failures.values()))[0]
    return (str(error) or type(error).__name__).split("\n")[0]


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
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    faults = _differences({name: tuple(tensor.shape) for name, tensor in weights.items()}, own)
    if faults:
        raise CheckpointError(_other_architecture(where, faults))
    model.load_state_dict(weights)


def _differences(found: dict[str, tuple[int, ...]], own: dict[str, tuple[int, ...]]) -> list[str]:
    """Where names or shapes differ; the first of each kind."""
    missing, unexpected = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    wrong = [
        f"{name} is {found[name]} instead of {shape}"
        for name, shape in own.items()
        if name in found and found[name] != shape
    ]
    faults = [f"missing {', '.join(missing[:3])}"] if missing else []
    faults += [f"unexpected {', '.join(unexpected[:3])}"] if unexpected else []
    return faults + wrong[:3]


def _other_architecture(where: str, faults: list[str]) -> str:
    return (
        f"{where} belongs to another architecture: {'; '.join(faults)}. "
        "Use the config it was trained with, or another output folder"
    )
