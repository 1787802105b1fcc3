"""``imglish index``: make the pictures of a folder searchable."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from imglish.inference.index_update import Updated

_MOST_NAMED = 5  # pictures that were skipped


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """Index the pictures of a folder and the folders in it, for imglish search.

    The first time every picture is encoded; the same command later reads what was added or changed, and
    forgets what is gone. It can be stopped at any moment and goes on where it was.

    Args:
        folder: The pictures.
        run: A finished run of a dual encoder, or a folder of several such as the demo's. If neither this nor
            weights are given: runs/demo where it is, else the World model that ships in the package.
        weights: Instead of a run, official weights by name (downloaded once), a .pth or .safetensors file, or
            a Hugging Face Hub id, org/name or org/name@revision.
        out: The index file; .imglish-index.sqlite in the folder if not given.
        rebuild: Begin anew, deleting an index that is there, as for other weights or if it is damaged.
        batch_size: Pictures encoded and stored together.
        workers: Threads that read and decode pictures; 0 takes one for each core.
        json: Print one JSON object instead of lines.
    """

    folder: tyro.conf.Positional[Path]
    run: Path | None = None
    weights: str = ""
    out: Path | None = None
    rebuild: bool = False
    batch_size: int = 32
    workers: int = 0
    json: bool = False

    def __post_init__(self) -> None:
        if self.run is not None and self.weights:
            raise ValueError("give --run or --weights, not both")
        for name, least in {"batch_size": 1, "workers": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")


def run(arguments: Sequence[str]) -> None:
    """Bring an index up to date with a progress bar."""
    options = tyro.cli(Index, args=arguments, prog="imglish index")

    from imglish.cli.progress import counting
    from imglish.cli.weights import open_predictor
    from imglish.evaluation.machine import num_cores
    from imglish.inference.index import SearchIndex, default_path
    from imglish.inference.index_identity import model_identity
    from imglish.inference.index_scan import check_folder, shown_path

    check_folder(options.folder)  # before the weights, which may take long to come
    predictor = open_predictor(options.run, options.weights)
    path = options.out or default_path(options.folder)
    begun = time.perf_counter()
    index = SearchIndex.create(path, options.folder, model_identity(predictor), rebuild=options.rebuild)
    with counting("indexing") as progress:
        updated = index.update(
            predictor,
            batch_size=options.batch_size,
            workers=options.workers or num_cores(),
            progress=progress,
        )
    seconds = time.perf_counter() - begun
    if options.json:
        told = {"index": str(path), "pictures": len(index), "model": index.model.name, "seconds": seconds}
        skipped = [one._asdict() for one in updated.skipped]
        print(json.dumps(told | asdict(updated) | {"skipped": skipped}, indent=2))
        return
    print(
        f"{shown_path(str(path))}: {len(index)} pictures, {updated.added} added, {updated.changed} changed, "
        f"{updated.forgotten} forgotten; {updated.encoded} encoded in {seconds:.1f} s"
    )
    _print_skipped(updated)


def _print_skipped(updated: Updated) -> None:
    from imglish.inference.index_scan import shown_path

    if updated.skipped:
        print(f"could not be used: {len(updated.skipped)}")
    for one in updated.skipped[:_MOST_NAMED]:
        print(f"  {shown_path(one.path)}: {shown_path(one.reason)}")
    if len(updated.skipped) > _MOST_NAMED:
        print(f"  and {len(updated.skipped) - _MOST_NAMED} more (--json names all)")
    if updated.num_links:
        print(f"symbolic links that were not followed: {updated.num_links}")
