"""``imglish shards``: pack folders, tables, text files or COCO's captions into indexed tar shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from imglish.recipes.pack_shards import PackOptions, pack_shards
from imglish.recipes.unfinished_shards import REFUSED


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """Pack pictures, texts or pairs into indexed tar shards (webdataset's layout); see docs/data.md.

    Args:
        sources: Folders, tables (.jsonl, .csv, .tsv), text files (.txt, one document a line) or the .json of
            COCO's captions; a .tsv without names of columns has caption and picture, as Conceptual Captions.
        out: The folder to write, new or empty.
        kind: Pictures alone, documents, or pictures with texts.
        shard_size: Samples of a tar.
        max_side: Longest side in pixels: larger pictures are made smaller and encoded anew; 0 keeps every
            file as it is.
        images: The folder that pictures named in files are relative to; by default that of the file.
        num_workers: Processes that decode pictures; 0 decodes in this one. The bytes are the same.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    out: Path
    kind: Literal["images", "texts", "pairs"] = "pairs"
    shard_size: int = 1000
    max_side: int = 0
    images: Path | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("name at least one folder or file to pack")
        self.options()

    def options(self) -> PackOptions:
        """What the recipe wants to know."""
        return PackOptions(
            kind=self.kind,
            shard_size=self.shard_size,
            max_side=self.max_side,
            images=self.images,
            num_workers=self.num_workers,
        )


def run(arguments: Sequence[str]) -> None:
    """Pack with a count of samples."""
    options = tyro.cli(Shards, args=arguments, prog="imglish shards")
    console = Console(stderr=True)
    columns = (TextColumn("packing: {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("0 samples", total=None)
        packed = pack_shards(
            options.sources,
            options.out,
            options.options(),
            progress=lambda done, refused: progress.update(
                bar, description=f"{done} samples, {refused} refused"
            ),
        )
    print(f"{options.out}: {packed.num_samples} {options.kind} in {packed.num_shards} tars")
    if packed.num_done_before:
        print(f"{packed.num_done_before} of the tars had been packed before")
    if packed.num_refused:
        print(f"{packed.num_refused} samples were refused; {options.out / REFUSED} says which, and why")
