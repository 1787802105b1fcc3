"""``imglish export``: a segmenter or detector as an ONNX file or an exported program of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write a segmenter or detector as a file that runs without imglish, once it gives the model's numbers.

    The classes, the pictures' mean and deviation, and where the weights came from are written beside it as
    JSON, and into ONNX files as metadata.

    Args:
        source: A finished run, an official name, a .pth or .safetensors file, or a Hugging Face Hub id.
        target: The file to write: .onnx, or .pt2 of torch_export.
        format: ONNX (needs the extra [export]), or torch's own format.
        size: Height and width of the pictures that the graph is made with; it takes others, too, but for
            models with relative positions. The model's own where not given.
        overwrite: Replace a file that is there.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_NAME")]
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    format: Literal["onnx", "torch_export"] = "onnx"
    size: tuple[int, int] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        suffix = ".onnx" if self.format == "onnx" else ".pt2"
        if self.target.suffix != suffix:
            raise ValueError(f"target must end in {suffix} for --format {self.format}; got {self.target}")


def run(arguments: Sequence[str]) -> None:
    """Export one model."""
    options = tyro.cli(Export, args=arguments, prog="imglish export")

    from imglish.errors import ConfigError
    from imglish.hub.load import load_model
    from imglish.inference.export import check_extra, export_model, fixed_sizes

    for path in (options.target, options.target.with_suffix(".json")):
        if path.exists() and not options.overwrite:
            raise ConfigError(f"{path}: is there already; add --overwrite to replace it")
    if options.format == "onnx":
        check_extra()
    loaded = load_model(options.source)
    done = export_model(
        loaded, options.target, format=options.format, size=options.size, source=options.source
    )
    sizes = "any size from 16 pixels on"
    if done.height:
        sizes = f"{done.height} x {done.width} only, as {fixed_sizes(loaded.model)}"
    checked = ", ".join(" x ".join(map(str, size)) for size in done.checked)
    print(f"{options.target}: {done.scores} of {len(done.classes)} classes for pictures of {sizes}")
    print(f"checked against the model at {checked}: largest difference {done.error:.1e}")
