"""BEiT-3 and classifiers as files that run without imglish.

A dual encoder becomes two files, one for each side; a captioner two, one that reads a picture and one that
writes a word; a model that answers, judges or classifies becomes one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim

from imglish.errors import CheckpointError
from imglish.hub.run import LoadedRun
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
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, CaptionMemory
from imglish.nn.attention import KeyValue
from imglish.structures.tokens import TokenLayout
from imglish.text.tokenizer import BOS, EOS, PAD

# The files that a model of a kind becomes, by what follows the target's name; empty where there is one.
PARTS: dict[str, tuple[str, ...]] = {
    "retrieval": ("image", "text"),
    "contrastive": ("image", "text"),
    "class_names": ("image", "text"),
    "captioning": ("start", "step"),
    "vqa": ("",),
    "nlvr2": ("",),
    "image_classification": ("",),
}
_PROBABILITIES = {"vqa": "sigmoid", "nlvr2": "softmax", "image_classification": "softmax"}
_TEXT = ("token_ids", "padding")
_FIRST_WORD = 4  # ids before it are no words


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedParts:
    """What files hold; the same is written beside them as JSON.

    ONNX files have it as metadata, too, but for ``words``, ``error`` and ``checked``.

    Args:
        source: Where the weights came from.
        imglish: Version that wrote them.
        kind: What the model does, as `LoadedRun.kind`.
        files: File name of each part; a single one has no name.
        mean: Of red, green and blue in [0, 1], which is subtracted from pictures.
        deviation: What they are divided by then.
        height: Of the pictures in pixels.
        width: The same.
        crop_share: Pictures keep their shape and this share of the shorter side, cut out of the middle, is
            seen; None squashes all of a picture to ``height`` and ``width``.
        labels: Answers or classes in the order of the logits.
        probabilities: What makes them of logits: ``sigmoid`` or ``softmax``; empty where there are none.
        scale: Factor on cosines before a softmax over texts or pictures, of a dual encoder; 0 of others.
        max_text_tokens: Longest text with its two ends; 0 where no text is read. A caption has at most
            three words less.
        text: File name of the SentencePiece model beside them; empty where there is none.
        bos: Id that begins a text.
        pad: Id that fills it up.
        eos: Id that ends it.
        mask: Id that stands for a hidden word; -1 where there is no text.
        words: Of a captioner, the piece that each id stands for; empty for ids that are no words.
        error: Largest difference to the model, as a share of the largest number of an output.
        checked: (rows, tokens) that each part was checked with.
    """

    source: str
    imglish: str
    kind: str
    files: dict[str, str]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    height: int
    width: int
    crop_share: float | None
    labels: tuple[str, ...]
    probabilities: str
    scale: float = 0.0
    max_text_tokens: int = 0
    text: str = ""
    bos: int = BOS
    pad: int = PAD
    eos: int = EOS
    mask: int = -1
    words: tuple[str, ...] = ()
    error: float = 0.0
    checked: dict[str, tuple[tuple[int, int], ...]] | None = None


class ImageTower(nn.Module):
    """Pictures (B, 3, H, W) to unit vectors (B, C)."""

    def __init__(self, model: Beit3ForRetrieval) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Encode pictures."""
        return self.model.encode_images(images)


class TextTower(nn.Module):
    """Texts int64 (B, T) and padding, bool (B, T), True where padded, to unit vectors (B, C)."""

    def __init__(self, model: Beit3ForRetrieval) -> None:
        super().__init__()
        self.model = model

    def forward(self, token_ids: Tensor, padding: Tensor) -> Tensor:
        """Encode texts."""
        return self.model.encode_texts(token_ids, padding)


class Judge(nn.Module):
    """Two pictures and a statement to logits; as `Beit3ForNlvr2`, whose doubled batch fixes its number."""

    def __init__(self, model: Beit3ForNlvr2) -> None:
        super().__init__()
        self.model = model

    def forward(self, left: Tensor, right: Tensor, token_ids: Tensor, padding: Tensor) -> Tensor:
        """Judge statements; arguments and result as of `Beit3ForNlvr2.forward`."""
        fused = []
        for images in (left, right):
            encoded = self.model.encoder(images, token_ids, padding=padding)
            fused += [encoded.vision[:, 0], encoded.text[:, 0]]
        logits: Tensor = self.model.head(torch.cat(fused, dim=-1))
        return logits


class CaptionStart(nn.Module):
    """Pictures (P, 3, H, W) to keys and values of all blocks, each (blocks, P, heads, 1 + patches, D)."""

    def __init__(self, model: Beit3ForCaptioning) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Read pictures; as `Beit3ForCaptioning.start`, which counts them and so fixes their number."""
        encoder = self.model.encoder
        x = encoder.vision_embedding(images)
        layout = TokenLayout(num_vision=x.shape[1], num_text=0, of_pair=not self.model.picture_alone)
        _, seen = encoder.extend(x, layout, past=None, mask=None)
        return torch.stack([each.keys for each in seen]), torch.stack([each.values for each in seen])


class CaptionStep(nn.Module):
    """Write a word of R texts and predict the next, from what was seen of pictures and words.

    Args:
        model: The captioner.
        mask_id: Id of the mask token.
    """

    def __init__(self, model: Beit3ForCaptioning, mask_id: int) -> None:
        super().__init__()
        self.model = model
        self.mask_id = mask_id

    def forward(
        self,
        words: Tensor,
        owners: Tensor,
        picture_keys: Tensor,
        picture_values: Tensor,
        word_keys: Tensor,
        word_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Go one word on.

        Args:
            words: The words just written, int64 (R,), ``<s>`` first.
            owners: Which picture each text is about, int64 (R,).
            picture_keys: Of `CaptionStart`, (blocks, P, heads, 1 + patches, D).
            picture_values: The same.
            word_keys: Of the N words before, (blocks, R, heads, N, D); N is 0 at first.
            word_values: The same.

        Returns:
            Log-probabilities of the next word (R, V), and keys and values of N + 1 words.
        """
        pictures = [
            KeyValue(keys[owners], values[owners])
            for keys, values in zip(picture_keys, picture_values, strict=True)
        ]
        before = [KeyValue(keys, values) for keys, values in zip(word_keys, word_values, strict=True)]
        memory = CaptionMemory(pictures, before, owners, num_words=word_keys.shape[3])
        log_probabilities, memory = self.model.step(memory, words, self.mask_id)
        assert memory.words is not None
        keys, values = ([block[side] for block in memory.words] for side in (0, 1))
        return log_probabilities, torch.stack(keys), torch.stack(values)


class Part(NamedTuple):
    """One graph of a model.

    Args:
        graph: What is recorded.
        inputs: Their names.
        outputs: Their names.
        sample: Inputs of so many rows and tokens, random.
        free: For each input the dimensions that may differ.
        sizes: (rows, tokens) to record with, and then to check with.
    """

    graph: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sample: Callable[[int, int], tuple[Tensor, ...]]
    free: tuple[dict[int, Any], ...]
    sizes: tuple[tuple[int, int], ...]


def export_parts(run: LoadedRun, target: Path, *, format: Format = "onnx", source: str = "") -> ExportedParts:
    """Write a model as files, and what they hold as JSON beside them, if their numbers are right.

    Graphs take any number of rows and texts of any length that the model takes, and pictures of its size:
    load the model with another ``image_size`` for another. Their inputs and outputs are in docs/export.md.

    Args:
        run: A loaded model of a kind of `PARTS`; it stays as it is.
        target: The file. Where there are several, ``a.onnx`` stands for ``a.image.onnx`` and
            ``a.text.onnx``, or ``a.start.onnx`` and ``a.step.onnx``. Its folder is made.
        format: ``onnx`` (needs the extra ``[export]``) or ``torch_export``.
        source: Where the weights came from, for the files to say.

    Raises:
        CheckpointError: The run is of another kind, lacks its text tokenizer, or a file's numbers are not
            the model's.
        ConfigError: A package is missing.
    """
    if run.kind not in PARTS:
        raise CheckpointError(
            f"a {run.kind} model; expected one of {', '.join(PARTS)}, or a segmenter or detector for "
            "export.export_model"
        )
    if run.text is None and run.kind == "captioning":
        raise CheckpointError("the captioner came without a text tokenizer: put text.spm beside its weights")
    if format == "onnx":
        check_extra()
    parts, told = _parts(run), _told(run, target, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export_") as name:
        folder = Path(name)
        errors: list[float] = []
        for each, part in parts.items():
            path = folder / told.files[each]
            _write(part, path, format, told)
            errors += [_difference(part, path, format, *size) for size in part.sizes]
            if not all(error <= TOLERANCE for error in errors):  # nor NaN
                raise CheckpointError(
                    f"{target.parent / path.name}: its answers differ from the model's by {max(errors):.1e}; "
                    f"expected {TOLERANCE:.0e} at most: nothing was written"
                )
        done = replace(told, error=max(errors), checked={each: part.sizes for each, part in parts.items()})
        text = json.dumps(asdict(done), indent=1, ensure_ascii=False)
        (folder / target.with_suffix(".json").name).write_text(text + "\n", encoding="utf-8")
        if run.text is not None and done.text:
            (folder / done.text).write_bytes(run.text.serialized)
        move_files(folder, target.parent)
    return done


def files_of(kind: str, target: Path) -> dict[str, Path]:
    """Where the parts of a model of a kind of `PARTS` are written, by name."""
    return {
        part: target.with_name(f"{target.stem}.{part}{target.suffix}") if part else target
        for part in PARTS[kind]
    }


def _parts(run: LoadedRun) -> dict[str, Part]:
    """The graphs of a model by the names of its parts."""
    model: Any = in_float32(run.model)
    match run.kind:
        case "retrieval" | "contrastive" | "class_names":
            return {
                "image": _part(run, ImageTower(model), ("images",), ("vectors",)),
                "text": _part(run, TextTower(model), _TEXT, ("vectors",)),
            }
        case "captioning":
            assert run.text is not None  # was looked at
            memory = ("picture_keys", "picture_values")
            return {
                "start": _part(run, CaptionStart(model), ("images",), memory),
                "step": _step(run, CaptionStep(model, run.text.mask_id)),
            }
        case "vqa":
            return {"": _part(run, model, ("images", *_TEXT), ("logits",))}
        case "nlvr2":
            return {"": _part(run, Judge(model), ("left", "right", *_TEXT), ("logits",))}
        case _:
            return {"": _part(run, model, ("images",), ("logits",))}


def _part(run: LoadedRun, graph: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Part:
    """A graph of pictures, texts or both, by the names of its inputs."""
    longest = int(run.settings.get("max_text_tokens", 0))
    rows, tokens = Dim("batch", min=1), Dim("tokens", min=1, max=max(2, longest))
    vocab_size = run.config.vocab_size if isinstance(run.config, Beit3Config) else 0

    def sample(num_rows: int, num_tokens: int) -> tuple[Tensor, ...]:
        draw = torch.Generator().manual_seed(num_rows)
        made = []
        for name in inputs:
            if name == "token_ids":
                made.append(torch.randint(_FIRST_WORD, vocab_size, (num_rows, num_tokens), generator=draw))
            elif name == "padding":  # of the first text nothing, of the last all but its beginning
                lengths = torch.linspace(num_tokens, 1, num_rows).round()
                made.append(torch.arange(num_tokens) >= lengths[:, None])
            else:
                made.append(torch.randn(num_rows, 3, *run.config.image_size, generator=draw))
        return tuple(made)

    free: dict[str, dict[int, Any]] = {name: {0: rows, 1: tokens} for name in _TEXT}
    dims = tuple(free.get(name, {0: rows}) for name in inputs)
    if "token_ids" not in inputs:
        return Part(graph, inputs, outputs, sample, dims, ((2, 0), (1, 0), (3, 0)))
    return Part(graph, inputs, outputs, sample, dims, ((3, min(5, longest)), (1, 1), (2, longest)))


def _step(run: LoadedRun, graph: CaptionStep) -> Part:
    """The graph of a captioner's step; its tokens are the words before the one just written."""
    config = run.config
    assert isinstance(config, Beit3Config)  # a captioner's
    most = config.max_text_tokens - 2  # the new word and the mask come besides
    rows, pictures, words = Dim("rows", min=1), Dim("pictures", min=1), Dim("words", min=0, max=most)
    head_width = config.width // config.num_heads
    depth, num_heads, num_seen = config.depth, config.num_heads, config.num_patches + 1

    def sample(num_rows: int, num_words: int) -> tuple[Tensor, ...]:
        draw = torch.Generator().manual_seed(num_rows)
        num_pictures = (num_rows + 1) // 2
        seen = (depth, num_pictures, num_heads, num_seen, head_width)
        before = (depth, num_rows, num_heads, num_words, head_width)
        written = torch.randint(_FIRST_WORD, config.vocab_size, (num_rows,), generator=draw)
        owners = torch.arange(num_rows) % num_pictures
        return (
            written,
            owners,
            *(torch.randn(shape, generator=draw) for shape in (seen, seen, before, before)),
        )

    return Part(
        graph,
        ("words", "owners", "picture_keys", "picture_values", "word_keys", "word_values"),
        ("log_probabilities", "next_keys", "next_values"),
        sample,
        ({0: rows}, {0: rows}, {1: pictures}, {1: pictures}, {1: rows, 3: words}, {1: rows, 3: words}),
        ((5, min(4, most)), (1, 0), (2, 1), (4, most)),
    )


def _told(run: LoadedRun, target: Path, source: str) -> ExportedParts:
    mean, deviation = picture_range(run.settings)
    height, width = run.config.image_size
    imagenet = run.settings.get("pictures") == "imagenet"
    told = ExportedParts(
        source=source,
        imglish=version("imglish"),
        kind=run.kind,
        files={part: path.name for part, path in files_of(run.kind, target).items()},
        mean=mean,
        deviation=deviation,
        height=height,
        width=width,
        crop_share=run.settings.get("crop_share", 1.0 if imagenet else None) if height == width else None,
        labels=run.labels if run.kind in _PROBABILITIES else (),
        probabilities=_PROBABILITIES.get(run.kind, ""),
    )
    if run.kind == "image_classification":
        return told
    if isinstance(run.model, Beit3ForRetrieval):
        told = replace(told, scale=run.model.logit_scale.detach().exp().item())
    told = replace(told, max_text_tokens=int(run.settings["max_text_tokens"]))
    if run.text is None:
        return told
    told = replace(told, text=target.with_suffix(".spm").name, mask=run.text.mask_id)
    if run.kind != "captioning":
        return told
    pieces = run.text.pieces(range(_FIRST_WORD, run.text.mask_id))
    return replace(told, words=("",) * _FIRST_WORD + tuple(pieces))


def _write(part: Part, path: Path, format: Format, told: ExportedParts) -> None:
    """Record one graph and write it."""
    program = record(part.graph.eval(), part.sample(*part.sizes[0]), part.free)
    noted = {name: value for name, value in asdict(told).items() if name not in ("words", "error", "checked")}
    write_program(program, path, format, inputs=part.inputs, outputs=part.outputs, told=noted)


def _difference(part: Part, path: Path, format: Format, rows: int, tokens: int) -> float:
    """How much a file differs from the model, as `ExportedParts.error` says."""
    inputs = part.sample(rows, tokens)
    with torch.no_grad():
        expected = part.graph(*inputs)
    listed = (expected,) if isinstance(expected, Tensor) else expected
    found = run_file(path, format, dict(zip(part.inputs, inputs, strict=True)), part.outputs)
    return max(
        float((mine - right).abs().max() / right.abs().max())
        for mine, right in zip(found, listed, strict=True)
    )
