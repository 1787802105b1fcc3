"""Packing pictures, texts or pairs into indexed tar shards."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

from PIL import Image

from imglish.data.pictures import decode_picture
from imglish.data.shard_sources import Item, Kind, read_items
from imglish.data.shards import index_shard, write_shard
from imglish.data.transforms.upright import open_image, to_rgb
from imglish.errors import DataFormatError

DESCRIPTION, REFUSED = "shards.json", "refused.jsonl"
_EXTENSIONS = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True, kw_only=True, slots=True)
class PackOptions:
    """How shards are packed.

    Args:
        kind: ``images`` (pictures alone), ``texts`` (documents) or ``pairs`` (pictures with texts).
        shard_size: Samples of a tar; the last has what is left.
        max_side: Longest side in pixels: larger pictures are made smaller and encoded anew. 0 keeps every
            file as it is, byte by byte.
        images: The folder that pictures named in files are relative to; by default that of the file.
    """

    kind: Kind = "pairs"
    shard_size: int = 1000
    max_side: int = 0
    images: Path | None = None

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError(f"shard_size must be at least 1; got {self.shard_size}")
        if self.max_side < 0:
            raise ValueError(f"max_side must be at least 0; got {self.max_side}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedShards:
    """What a folder of shards holds.

    Args:
        num_shards: Tars.
        num_samples: Samples in them.
        num_refused: Samples that were left out; ``refused.jsonl`` says which, and why.
    """

    num_shards: int
    num_samples: int
    num_refused: int


def pack_shards(
    sources: Sequence[Path],
    out: Path,
    options: PackOptions,
    progress: Callable[[int, int], None] | None = None,
) -> PackedShards:
    """Write a folder of shards, which appears, by renaming, when it is whole; the same input, the same bytes.

    Args:
        sources: What to pack, in this order; see `shard_sources.read_items`.
        out: The folder, new or empty.
        options: What is packed, and how.
        progress: Called with the numbers of samples packed and refused so far.

    Raises:
        DataFormatError: A source is missing or of no known layout, ``out`` is not empty, or not one sample
            can be packed.
    """
    target = out.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataFormatError(
            f"{out}: is not empty; expected a new folder, as shards are not added to: choose another, "
            "or remove it"
        )
    items = chain.from_iterable([read_items(source, options.kind, options.images) for source in sources])
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir()
    try:
        packed = _pack(items, unfinished, options, progress)
        if not packed.num_samples:
            first = (unfinished / REFUSED).read_text(encoding="utf-8").partition("\n")[0]
            raise DataFormatError(
                f"{sources[0]}: not one of {packed.num_refused} samples can be packed as {options.kind}; the "
                f"first: {first}"
            )
        settings = {"kind": options.kind, "shard_size": options.shard_size, "max_side": options.max_side}
        description = settings | asdict(packed) | {"sources": [source.name for source in sources]}
        (unfinished / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            target.rmdir()
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return packed


def _pack(
    items: Iterator[Item], folder: Path, options: PackOptions, progress: Callable[[int, int], None] | None
) -> PackedShards:
    """Write tars, their indexes and the list of refused samples."""
    num_samples = num_refused = num_shards = 0
    with (folder / REFUSED).open("w", encoding="utf-8") as refused:

        def samples() -> Iterator[tuple[str, Mapping[str, bytes]]]:
            nonlocal num_samples, num_refused
            for item in items:
                try:
                    contents = _contents(item, options)
                except DataFormatError as error:
                    num_refused += 1
                    line = {"sample": item.place, "reason": str(error)}
                    refused.write(json.dumps(line) + "\n")  # ascii: names of files need not be valid text
                    continue
                key = f"{num_samples:09d}"
                num_samples += 1
                if progress is not None:
                    progress(num_samples, num_refused)
                yield key, contents

        good = samples()
        while (first := next(good, None)) is not None:
            path = folder / f"{options.kind}-{num_shards:06d}.tar"
            write_shard(path, chain([first], islice(good, options.shard_size - 1)))
            index_shard(path)
            num_shards += 1
    return PackedShards(num_shards=num_shards, num_samples=num_samples, num_refused=num_refused)


def _contents(item: Item, options: PackOptions) -> dict[str, bytes]:
    """The members of a sample; raises DataFormatError where it can not be packed."""
    if item.problem:
        raise DataFormatError(item.problem)
    contents: dict[str, bytes] = {}
    if item.picture is not None:
        extension, data = _picture(item.picture, options.max_side)
        contents[extension] = data
    if item.texts:
        contents["txt"] = "\n".join(item.texts).encode()
    return contents


def _picture(path: Path, max_side: int) -> tuple[str, bytes]:
    """Extension and bytes of a picture that decodes, smaller where that is asked for."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataFormatError(f"{path}: no such picture") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise DataFormatError(f"{path}: cannot be read ({error})") from None
    height, width = decode_picture(data, str(path)).shape[1:]
    extension = path.suffix.lower().lstrip(".")
    if max_side and max(height, width) > max_side:
        return _smaller(data, path, max_side)
    if extension not in _EXTENSIONS:
        raise DataFormatError(f"{path}: expected png, jpg, jpeg or webp: convert it")
    return extension, data


def _smaller(data: bytes, path: Path, max_side: int) -> tuple[str, bytes]:
    """The picture, upright, with the longest side ``max_side``: a PNG stays one, others become JPEG."""
    picture = to_rgb(open_image(io.BytesIO(data), str(path)), str(path))
    scale = max_side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small, buffer = picture.resize(size, Image.Resampling.BICUBIC), io.BytesIO()
    if path.suffix.lower() == ".png":
        small.save(buffer, "PNG")
        return "png", buffer.getvalue()
    small.save(buffer, "JPEG", quality=95)
    return "jpg", buffer.getvalue()
