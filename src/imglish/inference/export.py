"""Segmenters and detectors as files that run without imglish: ONNX, or torch's exported programs.

One graph takes pictures of any size, where the model does; see `fixed_sizes`. Files are checked against the
model before they are told to be there.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from imglish.decoding.masks import class_scores
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.detection import shown_views
from imglish.inference.export_detection import (
    FoundCells,
    FoundRegions,
    detector_graph,
    telling_score,
    unlikeness,
)
from imglish.inference.export_files import (
    TOLERANCE,
    Format,
    check_extra,
    in_float32,
    move_files,
    picture_range,
    record,
    run_file,
    write_program,
)
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.vit.positions import RelativePositionBias
from imglish.models.vit_adapter.attention import MapAttention
from imglish.models.vit_adapter.timm_backbone import TimmBackbone

_LEAST_SIDE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What a file holds; the same is written beside it as JSON, and into ONNX files as metadata.

    Args:
        source: Where the weights came from.
        imglish: Version that wrote it.
        scores: What a segmenter's output is: ``logits``, or Mask2Former's ``class_scores``, which are no
            logits; the largest is the class either way. A detector's are ``probabilities``.
        classes: Names, in the order of the output's channels or of labels.
        mean: Of red, green and blue in [0, 1], which is subtracted from pictures.
        deviation: What they are divided by then.
        height: Of the pictures in pixels; 0 takes any.
        width: The same.
        scale: (longer, shorter) sides in pixels that a detector's pictures are fitted into, their shape kept;
            none of a segmenter.
        min_score: A detector's own; 0 of a segmenter.
        error: Largest difference to the model among the sizes checked: as a share of the largest score, or
            what `export_detection.unlikeness` says of a detector.
        checked: Batch, height and width of the pictures that it was checked with.
    """

    source: str
    imglish: str
    scores: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    height: int
    width: int
    scale: tuple[int, ...] = ()
    min_score: float = 0.0
    error: float = 0.0
    checked: tuple[tuple[int, int, int], ...] = ()


class ScoredPixels(nn.Module):
    """A segmenter whose scores have the size of the pictures.

    Args:
        model: Of either kind.
    """

    outputs: tuple[str, ...] = ("scores",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures (B, 3, H, W) to scores (B, num_classes, H, W), enlarged bilinearly."""
        size = (images.shape[-2], images.shape[-1])
        scores = class_scores(self.model(images))
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


Graph = ScoredPixels | FoundRegions | FoundCells


def fixed_sizes(model: nn.Module) -> str:
    """Why an exported graph of a model takes pictures of one size only; empty where it takes all.

    Tables of relative positions are fitted to a picture by a search and a linear system, and bands of CSwin's
    and Pale's attention are as many as its rows: neither is a graph for every size. timm's own models fix the
    sizes by themselves.
    """
    for module in model.modules():
        if isinstance(module, RelativePositionBias):
            return "it has relative positions"
        if isinstance(module, MapAttention) and module.pattern != "global":
            return f"it has {module.pattern} attention"
        if isinstance(module, TimmBackbone):
            return "its ViT is timm's"
    return ""


def export_model(
    run: LoadedRun,
    target: Path,
    *,
    format: Format = "onnx",
    size: tuple[int, int] | None = None,
    source: str = "",
) -> Exported:
    """Write a segmenter or detector as a file, and what it holds as JSON beside it, if its numbers are right.

    A segmenter's graph has the input ``images``, float32 (B, 3, H, W), normalised by mean and deviation, and
    the output ``scores`` (B, num_classes, H, W). B is free, and H and W are from 16 pixels on unless
    `fixed_sizes` says otherwise; sides that do not divide by 32 are padded within. A detector's has one
    picture as ``images`` and ``min_score``, float32 (); its outputs are those of
    `export_detection.FoundRegions`.

    Args:
        run: A loaded segmenter or detector; it stays as it is.
        target: The file; its folder is made.
        format: ``onnx`` (needs the extra ``[export]``) or ``torch_export``.
        size: (height, width) of the pictures that it is traced with: the only ones it takes where sizes are
            fixed. None is the model's own.
        source: Where the weights came from, for the file to say.

    Raises:
        CheckpointError: The run is of another kind, or the file's numbers are not the model's.
        ConfigError: A package is missing, the model does not take pictures of that size, or has a part that
            is no graph.
    """
    graph = _graph(run)
    if format == "onnx":
        check_extra()
    height, width = size or run.config.image_size
    if min(height, width) < _LEAST_SIDE:
        raise ConfigError(f"size is {height} x {width}; expected at least {_LEAST_SIDE} pixels a side")
    is_free = not fixed_sizes(graph)
    program = _traced(graph, (height, width), is_free=is_free)
    told = _told(run, graph, source, (0, 0) if is_free else (height, width))
    batch = 2 if isinstance(graph, ScoredPixels) else 1
    sizes = [(batch, height, width), (1, height, width)]
    if is_free:  # neither the size traced nor one that divides by 32
        sizes[1] = (2 * batch - 1, height // 2 + 19, width // 2 + 35)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export_") as folder:
        partial = Path(folder) / target.name
        noted = {name: value for name, value in asdict(told).items() if name not in ("error", "checked")}
        write_program(program, partial, format, inputs=_inputs(graph), outputs=graph.outputs, told=noted)
        error = max(_difference(graph, partial, format, each) for each in dict.fromkeys(sizes))
        if not error <= TOLERANCE:  # nor NaN
            raise CheckpointError(
                f"{target}: its answers differ from the model's by {error:.1e}; expected {TOLERANCE:.0e} at "
                "most: nothing was written"
            )
        done = replace(told, error=error, checked=tuple(dict.fromkeys(sizes)))
        text = json.dumps(asdict(done), indent=1, ensure_ascii=False)
        partial.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        move_files(Path(folder), target.parent)
    return done


def _graph(run: LoadedRun) -> Graph:
    run = replace(run, model=in_float32(run.model))
    if run.kind == "semantic_segmentation":
        return ScoredPixels(run.model).eval()
    if run.kind == "detection":
        return detector_graph(run).eval()
    raise CheckpointError(
        f"a {run.kind} model; expected a segmenter or detector; export_beit3.export_parts writes the other "
        "models that can be exported"
    )


def _told(run: LoadedRun, graph: Graph, source: str, size: tuple[int, int]) -> Exported:
    mean, deviation = picture_range(run.settings)
    told = Exported(
        source=source,
        imglish=version("imglish"),
        scores="class_scores" if isinstance(run.model, Mask2Former) else "logits",
        classes=run.labels,
        mean=mean,
        deviation=deviation,
        height=size[0],
        width=size[1],
    )
    if isinstance(graph, ScoredPixels):
        return told
    (longer, shorter), *_ = shown_views(run, None, None).views.scales
    return replace(told, scores="probabilities", scale=(longer, shorter), min_score=graph.min_score)


def _example(graph: Graph, size: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """Inputs of a graph for pictures of a size (batch, height, width), by names of `_inputs`."""
    batch, height, width = size
    images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    return (images,) if isinstance(graph, ScoredPixels) else (images, telling_score(graph, images))


def _inputs(graph: Graph) -> list[str]:
    return ["images"] if isinstance(graph, ScoredPixels) else ["images", "min_score"]


def _traced(graph: Graph, size: tuple[int, int], *, is_free: bool) -> ExportedProgram:
    batch = 2 if isinstance(graph, ScoredPixels) else 1
    free: dict[int, Any] = {0: Dim("batch", min=1)} if batch > 1 else {}
    if is_free:
        free |= {2: Dim("height", min=_LEAST_SIDE), 3: Dim("width", min=_LEAST_SIDE)}
    inputs = (torch.zeros(batch, 3, *size), torch.tensor(0.5))[: len(_inputs(graph))]
    try:
        return record(graph, inputs, (free, None)[: len(inputs)])
    except ValueError as error:
        raise ConfigError(f"size {size[0]} x {size[1]}: {str(error).splitlines()[0]}") from error


def _difference(graph: Graph, path: Path, format: Format, size: tuple[int, int, int]) -> float:
    """How much a file differs from the model for random pictures, as `Exported.error` says."""
    inputs = _example(graph, size)
    with torch.no_grad():
        expected = graph(*inputs)
    found = run_file(path, format, dict(zip(_inputs(graph), inputs, strict=True)), graph.outputs)
    if not isinstance(graph, ScoredPixels):
        return unlikeness(found, expected, size[1:])
    return float((found[0] - expected).abs().max() / expected.abs().max())
