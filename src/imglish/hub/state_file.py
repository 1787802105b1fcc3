"""Files of tensors, read without running anything that lies in them, and written as safetensors."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from imglish.errors import CheckpointError
from imglish.hub.official_file import PictureRange
from imglish.hub.sizes import Hints

# Where the official training codes keep the weights among other things of a run.
_WRAPPERS = ("model", "module", "state_dict")
_METADATA = "imglish"


@dataclass(frozen=True, slots=True)
class StateFile:
    """Tensors by name, and what the file says about their model besides."""

    tensors: dict[str, Tensor]
    hints: Hints


def read_state(path: Path) -> StateFile:
    """Read a ``.safetensors`` file, or any file that ``torch.save`` wrote.

    Tensors may lie under ``model``, ``module`` or ``state_dict``. A pickle can hold code: only tensors, plain
    Python and ``argparse.Namespace`` (official checkpoints of one's own carry one) are let in.

    Args:
        path: The file, on this machine.

    Raises:
        CheckpointError: It is missing, empty, damaged, a web page, or holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected weights (.pth, .pt or .safetensors)")
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
    return StateFile(_apart(_tensors(_read_pickle(path), path)), Hints())


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


def _read_pickle(path: Path) -> object:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _damaged(path, error) from error
        raise CheckpointError(
            f"{path}: holds {found[1]}, which is code and is not run; expected tensors only; "
            "save its state_dict() alone, or as safetensors"
        ) from error
    except Exception as error:  # whatever a damaged pickle or archive makes the reader stumble over
        raise _damaged(path, error) from error


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
