"""``imglish export``: a model as ONNX files or exported programs of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write a model as files that run without imglish, once they give the model's numbers.

    What is written follows from the model: a segmenter, a detector, a model that answers questions or judges
    statements and a classifier become one file; a dual encoder TARGET.image and TARGET.text; a captioner
    TARGET.start, which reads a picture, and TARGET.step, which writes a word.

    The classes, the pictures' mean and deviation, and where the weights came from are written beside them as
    JSON, and into ONNX files as metadata; a text tokenizer is put beside them.

    Args:
        source: A finished run, an official name, a .pth or .safetensors file, or a Hugging Face Hub id.
        target: The file to write: .onnx, or .pt2 of torch_export. Of two files what their names begin with.
        format: ONNX (needs the extra [export]), or torch's own format.
        size: Height and width of the pictures that the graph is made with. A segmenter's or detector's takes
            others, too, but for models with relative positions; of other models tables are resampled for it,
            unless they are parts of a model with several heads. The model's own where not given.
        part: Of a model with several heads, such as world, the one to export.
        overwrite: Replace files that are there.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_NAME")]
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    format: Literal["onnx", "torch_export"] = "onnx"
    size: tuple[int, int] | None = None
    part: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        suffix = ".onnx" if self.format == "onnx" else ".pt2"
        if self.target.suffix != suffix:
            raise ValueError(f"target must end in {suffix} for --format {self.format}; got {self.target}")


def run(arguments: Sequence[str]) -> None:
    """Export one model."""
    options = tyro.cli(Export, args=arguments, prog="imglish export")

    from imglish.cli.weights import choose_part
    from imglish.errors import ConfigError
    from imglish.hub.load import load_model
    from imglish.inference.export_beit3 import PARTS
    from imglish.inference.export_files import check_extra

    _refuse_present(options, [options.target, options.target.with_suffix(".json")])
    if options.format == "onnx":
        check_extra()
    loaded = choose_part(load_model(options.source), options.part, options.source)
    if loaded.kind not in PARTS:
        _export_dense(loaded, options)
        return
    if options.size is not None and options.size != loaded.config.image_size:
        if loaded.is_part:
            height, width = loaded.config.image_size
            raise ConfigError(
                f"size is {options.size[0]} x {options.size[1]}; {options.source} has several heads for "
                f"pictures of {height} x {width}: leave --size out, or export what imglish convert "
                f"{options.source} FOLDER --to pretrained --part {options.part} writes"
            )
        loaded = load_model(options.source, options.size)
    _export_parts(loaded, options)


def _export_dense(loaded: Any, options: Export) -> None:
    """Export a segmenter or detector."""
    from imglish.inference.export import export_model, fixed_sizes

    done = export_model(
        loaded, options.target, format=options.format, size=options.size, source=options.source
    )
    sizes = "any size from 16 pixels on"
    if done.height:
        sizes = f"{done.height} x {done.width} only, as {fixed_sizes(loaded.model)}"
    checked = ", ".join(" x ".join(map(str, size)) for size in done.checked)
    print(f"{options.target}: {done.scores} of {len(done.classes)} classes for pictures of {sizes}")
    print(f"checked against the model at {checked}: largest difference {done.error:.1e}")


def _export_parts(loaded: Any, options: Export) -> None:
    """Export a BEiT-3 or a classifier."""
    from imglish.inference.export_beit3 import export_parts, files_of

    files = files_of(loaded.kind, options.target)
    _refuse_present(options, [*files.values(), options.target.with_suffix(".spm")])
    done = export_parts(loaded, options.target, format=options.format, source=options.source)
    for name, path in files.items():
        print(f"{path}: {name or done.kind}, pictures of {done.height} x {done.width}")
    print(f"checked against the model: largest difference {done.error:.1e}")


def _refuse_present(options: Export, paths: Sequence[Path]) -> None:
    from imglish.errors import ConfigError

    for path in paths:
        if path.exists() and not options.overwrite:
            raise ConfigError(f"{path}: is there already; add --overwrite to replace it")
