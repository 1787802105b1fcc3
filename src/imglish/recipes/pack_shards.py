"""Packing pictures, texts or pairs into indexed tar shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from imglish.data.shard_sources import Item, Kind, read_items
from imglish.data.shards import index_shard, write_shard
from imglish.errors import DataFormatError
from imglish.recipes.packed_samples import pack_samples
from imglish.recipes.unfinished_shards import REFUSED, Reached, UnfinishedShards

DESCRIPTION = "shards.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackOptions:
    """How shards are packed.

    Args:
        kind: ``images`` (pictures alone), ``texts`` (documents) or ``pairs`` (pictures with texts).
        shard_size: Samples of a tar; the last has what is left.
        max_side: Longest side in pixels: larger pictures are made smaller and encoded anew. 0 keeps every
            file as it is, byte by byte.
        images: The folder that pictures named in files are relative to; by default that of the file.
        num_workers: Processes that decode pictures; 0 decodes in this one. The bytes are the same.
    """

    kind: Kind = "pairs"
    shard_size: int = 1000
    max_side: int = 0
    images: Path | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError(f"shard_size must be at least 1; got {self.shard_size}")
        for name in ("max_side", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0; got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedShards:
    """What a folder of shards holds.

    Args:
        num_shards: Tars.
        num_samples: Samples in them.
        num_refused: Samples that were left out; ``refused.jsonl`` says which, and why.
        num_done_before: Tars that a run that was stopped had packed.
    """

    num_shards: int
    num_samples: int
    num_refused: int
    num_done_before: int


def pack_shards(
    sources: Sequence[Path],
    out: Path,
    options: PackOptions,
    progress: Callable[[int, int], None] = lambda packed, refused: None,
) -> PackedShards:
    """Write a folder of shards, which appears, by renaming, when it is whole; the same input, the same bytes.

    Called again after it was stopped, even by a kill, it goes on after the last whole tar. It goes through
    the names and texts packed before once more, to see that they are still the same, but through no picture.

    Args:
        sources: What to pack, in this order; see `shard_sources.read_items`.
        out: The folder, new or empty.
        options: What is packed, and how.
        progress: Called with the numbers of samples packed and refused so far.

    Raises:
        DataFormatError: A source is missing, of no known layout or changed since the run was stopped; ``out``
            is not empty, in use, or of a run with other options; or not one sample can be packed.
    """
    target = out.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataFormatError(
            f"{out}: is not empty; expected a new folder, as shards are not added to: choose another, "
            "or remove it"
        )
    items = chain.from_iterable([read_items(source, options.kind, options.images) for source in sources])
    settings = {"kind": options.kind, "shard_size": options.shard_size, "max_side": options.max_side}
    command = settings | {
        "sources": [[str(source), str(source.resolve())] for source in sources],
        "images": None if options.images is None else [str(options.images), str(options.images.resolve())],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with UnfinishedShards(target, options.kind, options.shard_size, command) as unfinished:
        packed = _pack(items, unfinished, options, progress)
        if not packed.num_samples:
            if not packed.num_refused:
                raise DataFormatError(f"{sources[0]}: has no samples to pack as {options.kind}")
            first = json.loads((unfinished.folder / REFUSED).read_bytes().partition(b"\n")[0])
            raise DataFormatError(
                f"{sources[0]}: not one of {packed.num_refused} samples can be packed as {options.kind}; the "
                f"first, {first['sample']}: {first['reason']}"
            )
        numbers = {
            "num_shards": packed.num_shards,
            "num_samples": packed.num_samples,
            "num_refused": packed.num_refused,
        }
        description = settings | numbers | {"sources": [source.name for source in sources]}
        path = unfinished.folder / DESCRIPTION
        path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        unfinished.finish()
    return packed


def _pack(
    items: Iterator[Item],
    unfinished: UnfinishedShards,
    options: PackOptions,
    progress: Callable[[int, int], None],
) -> PackedShards:
    """Write the tars that are missing, their indexes and the list of refused samples."""
    before, reached = unfinished.num_tars, unfinished.reached
    num_items, num_samples, num_refused = reached.items, reached.samples, reached.refused
    progress(num_samples, num_refused)
    digest = _pass_over(items, reached, unfinished)
    with (unfinished.folder / REFUSED).open("ab") as refused:

        def samples() -> Iterator[tuple[str, Mapping[str, bytes]]]:
            nonlocal num_items, num_samples, num_refused
            for item, sample in pack_samples(items, options.max_side, options.num_workers):
                digest.update(_bytes(item))
                num_items += 1
                if sample.problem:
                    num_refused += 1
                    line = {"sample": item.place, "reason": sample.problem}
                    refused.write(json.dumps(line).encode() + b"\n")
                else:
                    num_samples += 1
                progress(num_samples, num_refused)
                if not sample.problem:
                    yield f"{num_samples - 1:09d}", sample.contents

        good = samples()
        while (first := next(good, None)) is not None:
            path = unfinished.tar(unfinished.num_tars)
            write_shard(path, chain([first], islice(good, options.shard_size - 1)))
            index_shard(path)
            refused.flush()
            unfinished.add(Reached(num_items, num_samples, num_refused, refused.tell(), digest.hexdigest()))
    return PackedShards(
        num_shards=unfinished.num_tars,
        num_samples=num_samples,
        num_refused=num_refused,
        num_done_before=before,
    )


def _pass_over(items: Iterator[Item], reached: Reached, unfinished: UnfinishedShards) -> hashlib._Hash:
    """Go past the items packed before, and give their digest.

    Raises:
        DataFormatError: They are others now.
    """
    digest = hashlib.sha256()
    for item in islice(items, reached.items):
        digest.update(_bytes(item))
    if reached.items and digest.hexdigest() != reached.digest:
        raise DataFormatError(
            f"{unfinished.folder}: a run that packed other names or texts has stopped here, so the sources "
            "have changed; give them as they were to go on, or remove the folder to start anew"
        )
    return digest


def _bytes(item: Item) -> bytes:
    """All that an item says, to see whether it is still the same."""
    return repr((item.place, str(item.picture), item.texts, item.problem)).encode()
