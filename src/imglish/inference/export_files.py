"""Recording a model as a graph, writing it as a file that runs without imglish, and running that file."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from imglish.data.transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD
from imglish.errors import ConfigError
from imglish.models.joint import lent_to, whole

Format = Literal["onnx", "torch_export"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2"}
TOLERANCE = 1e-4  # of the largest number, by which a file may differ from the model
_NEEDED = ("onnx", "onnxscript", "onnxruntime")  # the extra [export]


def check_extra() -> None:
    """See that ONNX files can be written and run.

    Raises:
        ConfigError: A package of the extra is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs {', '.join(missing)}; pip install 'imglish[export]'")


def in_float32(model: nn.Module) -> nn.Module:
    """The model in float32 on the processor, whole: itself where it is so already, else a copy.

    Args:
        model: Of a joint run a part, too, whose encoder is lent to it and not among its own modules.
    """
    if any(map(lent_to, model.modules())):
        return whole(model).cpu().float()
    if all(w.device.type == "cpu" and w.dtype == torch.float32 for w in model.parameters()):
        return model
    return copy.deepcopy(model).cpu().float()


def record(
    graph: nn.Module, inputs: tuple[Tensor, ...], free: Sequence[Mapping[int, Any] | None]
) -> ExportedProgram:
    """The graph of a model.

    Args:
        graph: What is recorded, in evaluation mode.
        inputs: It is recorded with.
        free: For each input its dimensions that may differ later, with their ranges; None where none may.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        return torch.export.export(
            graph,
            inputs,
            dynamic_shapes=tuple(None if dims is None else dict(dims) for dims in free),
            strict=False,
            # That two sizes are equal for every picture can not always be proven: the graph asks then.
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def write_program(
    program: ExportedProgram,
    path: Path,
    format: Format,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    told: Mapping[str, Any],
) -> None:
    """Write a graph as a file.

    Args:
        program: The graph.
        path: The file.
        format: ONNX, or torch's own.
        inputs: Names of its inputs, which an ONNX file has.
        outputs: Names of its outputs, the same.
        told: What an ONNX file says of itself as metadata, texts as they are and the rest as JSON.
    """
    if format == "torch_export":
        torch.export.save(program, path)
        return
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx = torch.onnx.export(
            program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False
        )
    assert onnx is not None  # it is where no file was named
    for key, value in told.items():
        onnx.model.metadata_props[key] = (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
    onnx.save(path)


@torch.no_grad()
def run_file(
    path: Path,
    format: Format,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
) -> tuple[Tensor, ...]:
    """What a file answers: an ONNX file in onnxruntime, on the processor.

    Args:
        path: The file.
        format: Of the file.
        inputs: By name, in their order.
        outputs: Names of what it answers.
    """
    if format == "torch_export":
        answer = torch.export.load(path).module()(*inputs.values())
        return (answer,) if isinstance(answer, Tensor) else tuple(answer)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    fed = {name: tensor.numpy() for name, tensor in inputs.items()}
    return tuple(torch.from_numpy(array) for array in session.run(list(outputs), fed))


def move_files(source: Path, target: Path) -> None:
    """Put what was written and checked where it belongs; weights of 2 GB and more have a file of their own.

    Args:
        source: The folder of the files, on the same disk.
        target: The folder they shall lie in.
    """
    for file in sorted(source.iterdir()):
        os.replace(file, target / file.name)


def picture_range(settings: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pictures, of colours in [0, 1].

    Args:
        settings: Of a loaded run.
    """
    pictures = settings.get("pictures")
    told = pictures.get("range", "model") if isinstance(pictures, Mapping) else pictures
    if told == "imagenet":
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.5,) * 3, (0.5,) * 3
