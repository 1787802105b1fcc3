"""What can be packed into shards: folders, tables, text files, COCO captions, Conceptual Captions' TSVs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from imglish.data.formats.coco import read_captions
from imglish.data.formats.picture_folder import PICTURE_SUFFIXES
from imglish.data.formats.table import SUFFIXES as TABLE_SUFFIXES, Row, rows_of
from imglish.data.formats.text_corpus import read_text_corpus
from imglish.errors import DataFormatError

Kind = Literal["images", "texts", "pairs"]


class Item(NamedTuple):
    """A sample to pack.

    Args:
        place: Where it comes from, for the list of refused samples.
        picture: Its file; None for a text.
        texts: Its texts; empty for a picture alone.
        problem: Why it can not be packed; empty where nothing is known against it.
    """

    place: str
    picture: Path | None = None
    texts: tuple[str, ...] = ()
    problem: str = ""


def read_items(source: Path, kind: Kind, images: Path | None = None) -> Iterator[Item]:
    """The samples of one source, in a fixed order: files sorted by path, lines as they stand.

    Args:
        source: A folder; a table (``.jsonl``, ``.csv``, ``.tsv``); a ``.txt`` with one document a line; or
            the ``.json`` of COCO's captions.
        kind: What is wanted of it.
        images: The folder that the pictures of a table or of COCO are relative to; by default that of the
            file itself.

    Raises:
        DataFormatError: The source is missing, of no known layout, or has nothing of this kind.
    """
    suffix = source.suffix.lower()
    if not source.exists():
        raise DataFormatError(f"{source}: no such file or folder; expected something to pack: check the path")
    if source.is_dir():
        return _folder(source, kind)
    if suffix in TABLE_SUFFIXES:
        return _table(source, kind, images or source.parent)
    if suffix == ".txt" and kind == "texts":
        lines = enumerate(read_text_corpus(source), start=1)
        return (Item(f"{source}: document {number}", None, (line,)) for number, line in lines)
    if suffix == ".json":
        return _coco(source, kind, images or source.parent)
    expected = "a folder, .jsonl, .csv, .tsv, or the .json of COCO's captions"
    if kind == "texts":
        expected += ", or .txt"
    raise DataFormatError(f"{source}: nothing to pack as {kind}; expected {expected}: check the path")


def _folder(root: Path, kind: Kind) -> Iterator[Item]:
    """Pictures, texts (a document a file), or pictures with a ``.txt`` of the same name (a text a line)."""
    wanted = {".txt"} if kind == "texts" else PICTURE_SUFFIXES
    found = False
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() not in wanted:
                continue
            found = True
            if kind == "images":
                yield Item(str(path), path)
            elif kind == "texts":
                yield _with_texts(str(path), None, path, by_line=False)
            else:
                yield _with_texts(str(path), path, path.with_suffix(".txt"), by_line=True)
    if not found:
        raise DataFormatError(
            f"{root}: has no {'.txt files' if kind == 'texts' else 'pictures'}; check the path"
        )


def _with_texts(place: str, picture: Path | None, file: Path, by_line: bool) -> Item:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Item(place, picture, problem=f"there is no {file.name} with its texts")
    except (OSError, UnicodeDecodeError) as error:
        return Item(place, picture, problem=f"{file.name} can not be read as UTF-8 ({error})")
    texts = text.splitlines() if by_line else [" ".join(text.split())]
    return _item(place, picture, texts)


def _item(place: str, picture: Path | None, texts: list[str]) -> Item:
    """An item with texts: each on one line, blank ones left out, at least one."""
    said = tuple(line for text in texts if (line := " ".join(text.split())))
    if any("\ud800" <= character <= "\udfff" for line in said for character in line):
        return Item(place, picture, problem="has a text with half of a surrogate pair, no Unicode")
    return Item(place, picture, said, problem="" if said else "has no text")


def _table(path: Path, kind: Kind, images: Path) -> Iterator[Item]:
    if path.suffix.lower() == ".tsv" and _is_conceptual(path):
        yield from _conceptual(path, kind, images)
        return
    for line, row in rows_of(path):
        place = f"{path}: line {line}"
        yield Item(place, problem=row) if isinstance(row, str) else _row(place, row, kind, images)


def _is_conceptual(path: Path) -> bool:
    """True for a TSV whose first line names no column: Conceptual Captions', caption and picture."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        names = lines.readline().rstrip("\r\n").split("\t")
    return not {"image", "text"} & set(names)


def _conceptual(path: Path, kind: Kind, images: Path) -> Iterator[Item]:
    """Lines ``caption <tab> picture``, where the published file has the picture's address."""
    with path.open("rb") as lines:
        for number, data in enumerate(lines, start=1):
            place = f"{path}: line {number}"
            try:
                columns = data.decode("utf-8-sig").rstrip("\r\n").split("\t")
            except UnicodeDecodeError as error:
                yield Item(place, problem=f"is not UTF-8 text ({error.reason})")
                continue
            if len(columns) != 2:
                yield Item(place, problem=f"has {len(columns)} fields; expected caption and picture")
            elif "://" in columns[1] and kind != "texts":
                yield Item(place, problem=f"names an address, {columns[1][:60]}; expected a local picture")
            else:
                yield _row(place, {"text": columns[0], "image": columns[1]}, kind, images)


def _row(place: str, row: Row, kind: Kind, images: Path) -> Item:
    picture, texts = None, list[str]()
    if kind != "texts":
        name = row.get("image")
        if not isinstance(name, str) or not name.strip():
            return Item(place, problem="has no 'image'")
        picture = images / name.strip()
    if kind != "images":
        value = row.get("text")
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            return Item(place, picture, problem="has no 'text' that is a text or a list of texts")
        texts = [str(each) for each in values]
        return _item(place, picture, texts)
    return Item(place, picture)


def _coco(path: Path, kind: Kind, images: Path) -> Iterator[Item]:
    for record in read_captions(path, images):
        place = f"{path}: image {record.image.image_id}"
        if kind == "images":
            yield Item(place, record.image.path)
        elif kind == "texts":
            for caption in record.captions:
                yield _item(place, None, [caption])
        else:
            yield _item(place, record.image.path, list(record.captions))
