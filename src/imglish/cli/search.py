"""``imglish search``: find pictures of an indexed folder by words or by a picture, and double ones."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from imglish.inference.index import SearchIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Find pictures of a folder that imglish index has indexed.

    Args:
        text: What is to be seen on them.
        like: Instead of a text, a picture that they shall be like.
        duplicates: Instead, list pictures that are equal byte by byte, and different ones that are very like
            each other; needs no weights.
        threshold: The least cosine of near-duplicates, in (0, 1].
        folder: The indexed folder.
        index: The index file, if it is not .imglish-index.sqlite in the folder.
        run: The run that the folder was indexed with. If neither this nor weights are given: runs/demo where
            it is, else the World model that ships in the package.
        weights: Instead of a run, the weights that the folder was indexed with.
        num_best: How many pictures to show, at most.
        engine: How vectors are compared: exact multiplies with all of them, faiss (the extra [search]) does
            so in half the memory, auto takes faiss from a million pictures on where it is installed. All find
            the same.
        html: Write a contact sheet to this file as well.
        json: Print one JSON object instead of lines.
    """

    text: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEXT")] = ""
    like: Path | None = None
    duplicates: bool = False
    threshold: float = 0.98
    folder: Path = Path(".")
    index: Path | None = None
    run: Path | None = None
    weights: str = ""
    num_best: int = 10
    engine: Literal["auto", "exact", "faiss"] = "auto"
    html: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        if [bool(self.text), self.like is not None, self.duplicates].count(True) != 1:
            raise ValueError("say what to look for: a text, --like PICTURE or --duplicates, one of them")
        if self.run is not None and self.weights:
            raise ValueError("give --run or --weights, not both")
        if self.num_best < 1:
            raise ValueError(f"num_best must be at least 1; got {self.num_best}")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1]; got {self.threshold}")
        if self.html is not None and self.html.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--html {self.html}: expected a name that ends in .html")


def run(arguments: Sequence[str]) -> None:
    """Search and print."""
    options = tyro.cli(Search, args=arguments, prog="imglish search")

    from imglish.cli.weights import open_predictor
    from imglish.inference.contact_sheet import Section, write_contact_sheet
    from imglish.inference.index import SearchIndex, default_path

    path = options.index or default_path(options.folder)
    index = SearchIndex.open(path, engine=options.engine)  # before the weights, which may take long to come
    if options.duplicates:
        _tell_duplicates(options, index)
        return
    predictor = open_predictor(options.run, options.weights)
    if options.like is not None:
        found = index.search_picture(predictor, options.like, options.num_best)
    else:
        found = index.search_text(predictor, options.text, options.num_best)
    if options.html is not None:
        title = options.text or f"like {options.like}"
        write_contact_sheet(options.html, index, title, [Section("", found)], options.like)
    if options.json:
        asked = {"text": options.text} if options.text else {"like": str(options.like)}
        _print_json(index, asked | {"found": [one._asdict() for one in found]})
        return
    for one in found:
        print(f"{one.similarity:.3f}  {_shown(index, one.path)}")


def _tell_duplicates(options: Search, index: SearchIndex) -> None:
    from imglish.inference.contact_sheet import Section, write_contact_sheet
    from imglish.inference.index import Found

    equal, near = index.duplicates(), index.near_duplicates(options.threshold)
    if options.html is not None:
        sections = [
            *(Section("equal byte by byte", [Found(path, 1.0) for path in group]) for group in equal),
            *(Section("very like each other", group) for group in near),
        ]
        write_contact_sheet(options.html, index, "duplicates and near-duplicates", sections)
    if options.json:
        told = [[one._asdict() for one in group] for group in near]
        _print_json(index, {"duplicates": equal, "threshold": options.threshold, "near_duplicates": told})
        return
    print(f"groups that are equal byte by byte: {len(equal)}")
    for paths in equal:
        print(*(f"  {_shown(index, path)}" for path in paths), sep="\n", end="\n\n")
    print(f"groups that are very like each other (cosine at least {options.threshold:g}): {len(near)}")
    for group in near:
        print(*(f"  {one.similarity:.3f}  {_shown(index, one.path)}" for one in group), sep="\n", end="\n\n")


def _shown(index: SearchIndex, path: str) -> str:
    """Where a picture is, seen from here."""
    from imglish.inference.index_scan import shown_path

    return shown_path(os.path.relpath(index.folder / path))


def _print_json(index: SearchIndex, told: dict[str, Any]) -> None:
    about = {"index": str(index.path), "folder": str(index.folder), "model": index.model.name}
    print(json.dumps(about | told, indent=2))
