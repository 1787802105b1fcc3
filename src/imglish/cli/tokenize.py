"""``imglish tokenize``: write the visual tokens of tar shards once, for pretraining to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from imglish.cli.progress import counting
from imglish.recipes.store_tokens import StoreOptions, store_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenize:
    """Write the visual tokens of the pictures in tar shards; the same command goes on where it stopped.

    A run reads them with --task.stored-tokens DIR. They are the tokens of whole pictures, so such a run can
    neither crop nor flip (docs/tokenizers.md).

    Args:
        shards: The tars; a folder stands for all tars in it.
        tokenizer: Folder of a visual tokenizer run, world, or an official tokenizer by name or as a file.
        out: Folder of the tokens.
        image_size: Height and width in pixels of the pictures of the model to come; the tokenizer's own by
            default.
        patch_size: Side in pixels of that model's patches; 0 is the tokenizer's own. For patches of 14 pixels
            the tokenizer's view is resized.
        batch_size: Pictures at once.
        num_workers: Processes that decode pictures; 0 decodes in this one.
        device: Where the tokenizer runs, such as cuda or cpu; auto takes a GPU where there is one.
    """

    shards: tyro.conf.Positional[tuple[Path, ...]]
    tokenizer: str
    out: Path
    image_size: tuple[int, int] | None = None
    patch_size: int = 0
    batch_size: int = 64
    num_workers: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.shards:
            raise ValueError("name at least one tar or folder of tars")
        self.options()

    def options(self) -> StoreOptions:
        """What the recipe wants to know."""
        return StoreOptions(
            tokenizer=self.tokenizer,
            image_size=self.image_size,
            patch_size=self.patch_size,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            device=self.device,
        )

    def tars(self) -> list[Path]:
        """The tars that are meant."""
        return [
            tar for path in self.shards for tar in (sorted(path.glob("*.tar")) if path.is_dir() else [path])
        ]


def run(arguments: Sequence[str]) -> None:
    """Write tokens with a progress bar."""
    options = tyro.cli(Tokenize, args=arguments, prog="imglish tokenize")
    with counting("tokenizing") as progress:
        stored = store_tokens(
            options.tars(),
            options.out,
            options.options(),
            progress=progress,
        )
    rows, num_columns = stored.description.grid_size
    print(f"{options.out}: {rows} x {num_columns} tokens of each of {stored.num_pictures} pictures")
    if stored.num_done_before:
        print(f"{stored.num_done_before} tars had been done before")
    if stored.num_damaged:
        print(f"{stored.num_damaged} pictures did not decode and have no tokens")
