"""Files of tensors, read without running anything that lies in them, and written as safetensors."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from imglish.errors import CheckpointError
from imglish.hub.official_file import PictureRange
from imglish.hub.sizes import Hints

# Where the official training codes keep the weights among other things of a run.
_WRAPPERS = ("model", "module", "state_dict")
# Ends of the names of files that torch.save wrote, within a zip archive.
_PICKLES = (".pth", ".pth.tar", ".pt")
# What a pickle may hold besides tensors and plain Python: options of official training codes, and single
# numbers of NumPy, as which mmcv notes its best score. Older files have the old path.
_SCALAR = np.float64(0).__reduce__()[0]
_SAFE: tuple[Any, ...] = (
    argparse.Namespace,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
)
_METADATA = "imglish"


@dataclass(frozen=True, slots=True)
class StateFile:
    """Tensors by name, and what the file says about their model besides."""

    tensors: dict[str, Tensor]
    hints: Hints


def read_state(path: Path) -> StateFile:
    """Read a ``.safetensors`` file, arrays of NumPy in an ``.npz``, or any file that ``torch.save`` wrote.

    Tensors may lie under ``model``, ``module`` or ``state_dict``; mmcv's files name a segmenter's classes
    beside them. A zip archive may hold one such file. A pickle can hold code: only tensors, plain Python,
    numbers of NumPy and ``argparse.Namespace`` (official checkpoints of one's own carry one) are let in.

    Args:
        path: The file, on this machine.

    Raises:
        CheckpointError: It is missing, empty, damaged, a web page, or holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected weights (.pth, .pt, .npz or .safetensors)")
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if not start:
        raise CheckpointError(f"{path}: empty file; expected weights; get it anew")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            f"{path}: a web page saved under this name; expected weights; download the file itself"
        )
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: a pointer of git-lfs, not the weights; fetch them with git lfs pull")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        return _read_arrays(path)
    member = _zipped(path)
    if member is None:
        return _read_pickled(path, path)
    # Beside the archive: the file may be too large for a folder of temporary files.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = Path(archive.extract(member, folder))
        except (zipfile.BadZipFile, OSError, RuntimeError, zlib.error) as error:
            raise CheckpointError(f"{path}: {member} cannot be unpacked ({error}); get it anew") from error
        return _read_pickled(unpacked, path)


def _zipped(path: Path) -> str | None:
    """Name of the one file of weights in a zip archive; None where the file is no archive but torch's own."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None  # whose reader says what is wrong
    if any(PurePosixPath(name).name in ("data.pkl", "constants.pkl") for name in names):
        return None
    found = [name for name in names if name.endswith(_PICKLES) and not name.startswith("__MACOSX")]
    if len(found) != 1:
        raise CheckpointError(
            f"{path}: a zip archive with {len(found)} files of weights; expected one "
            f"({', '.join(_PICKLES)}); unpack it and give the file"
        )
    return found[0]


def _read_pickled(path: Path, where: Path) -> StateFile:
    """What `torch.save` wrote at ``path``; messages say ``where``."""
    found = _read_pickle(path, where)
    return StateFile(_apart(_tensors(found, where)), Hints(labels=_class_names(found)))


def _class_names(found: object) -> tuple[str, ...] | None:
    """The classes that mmcv notes beside a segmenter's weights."""
    meta = found.get("meta") if isinstance(found, Mapping) else None
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _read_safetensors(path: Path) -> StateFile:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied out of the file's own memory, whose alignment follows from the names before it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        return StateFile(_tensors(tensors, path), _hints(metadata))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged safetensors file ({str(error).splitlines()[0]}); get it anew"
        ) from error


def _read_arrays(path: Path) -> StateFile:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except TypeError as error:
        raise CheckpointError(f"{path}: an array of no number type ({error}); expected weights") from error
    except Exception as error:  # whatever a damaged archive makes the reader stumble over
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise CheckpointError(f"{path}: no .npz of arrays, or cut short ({reason}); get it anew") from error
    return StateFile(_tensors(arrays, path), Hints())


def _read_pickle(path: Path, where: Path) -> object:
    try:
        with torch.serialization.safe_globals(list(_SAFE)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _damaged(where, error) from error
        raise CheckpointError(
            f"{where}: holds {found[1]}, which is code and is not run; expected tensors only; "
            "save its state_dict() alone, or as safetensors"
        ) from error
    except Exception as error:  # whatever a damaged pickle or archive makes the reader stumble over
        raise _damaged(where, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    lines = str(error).splitlines() or [""]
    if "TorchScript" in lines[0]:
        return CheckpointError(
            f"{path}: a TorchScript archive, which is code and is not run; expected tensors only; save its "
            "state_dict() alone, or as safetensors"
        )
    # The unpickler's own first line is advice to run the code; an error of a key names nothing but the key.
    told = isinstance(error, (RuntimeError, OSError, EOFError)) and lines[0]
    reason = f" ({lines[0].rstrip('.')[:120]})" if told else ""
    return CheckpointError(
        f"{path}: no file of torch.save, or cut short{reason}; expected weights; get it anew"
    )


def _tensors(found: object, path: Path) -> dict[str, Tensor]:
    """The tensors of what was read, out of their wrapping."""
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(
            f"{path}: holds {_article(found)}, no tensors by name; expected a state dict, "
            f"bare or under {', '.join(_WRAPPERS)}"
        )
    strange = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(
            f"{path}: {strange[0]!r} is {_article(found[strange[0]])}, no tensor; expected a state dict, "
            f"bare or under {', '.join(_WRAPPERS)}"
        )
    tensors = {str(name): tensor.detach() for name, tensor in found.items()}
    if all(name.startswith("module.") for name in tensors):  # as data parallelism saves them
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _article(value: object) -> str:
    if isinstance(value, Mapping):
        return "a dict" if value else "an empty dict"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _hints(metadata: Mapping[str, str]) -> Hints:
    """What `write_state` noted; raises ValueError where it is not that."""
    noted: dict[str, Any] = json.loads(metadata.get(_METADATA, "{}"))
    unknown = noted.keys() - set(Hints._fields)
    if noted.get("labels") is not None:
        noted["labels"] = tuple(str(name) for name in noted["labels"])
    if unknown:
        raise ValueError(f"metadata with unknown {', '.join(sorted(unknown))}")
    if noted.get("image_size") is not None:
        height, width = noted["image_size"]
        noted["image_size"] = (int(height), int(width))
    if noted.get("pictures") not in (None, *get_args(PictureRange)):
        raise ValueError(f"metadata with pictures {noted['pictures']!r}")
    return Hints(**noted)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor memory of its own: safetensors knows no sharing, and models must not be tied by it."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        kept, memory = tensor.contiguous(), tensor.untyped_storage()
        if memory.data_ptr() in seen or memory.nbytes() != tensor.numel() * tensor.element_size():
            kept = kept.clone()
        seen.add(memory.data_ptr())
        own[name] = kept
    return own


def write_state(tensors: Mapping[str, Tensor], hints: Hints, path: Path) -> None:
    """Write tensors and hints as safetensors; the file appears whole or not at all.

    Raises:
        CheckpointError: It cannot be written.
    """
    own = _apart({name: tensor.detach().cpu() for name, tensor in tensors.items()})
    noted = {name: value for name, value in hints._asdict().items() if value is not None}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(own, partial, metadata={"format": "pt", _METADATA: json.dumps(noted)})
        os.replace(partial, path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: could not be written ({str(error).splitlines()[0]}); choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
