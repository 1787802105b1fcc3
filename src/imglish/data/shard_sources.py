"""What can be packed into shards: folders, tables, text files, COCO captions, Conceptual Captions' TSVs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from imglish.data.formats.json_entries import load_json
from imglish.data.formats.picture_folder import PICTURE_SUFFIXES
from imglish.data.formats.table import SUFFIXES as TABLE_SUFFIXES, Row, Unreadable, json_row, rows_of
from imglish.errors import DataFormatError

Kind = Literal["images", "texts", "pairs"]
_LONGEST_LINE = 1 << 26  # bytes; a longer one is no sample, but perhaps a file of another kind


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
        return _documents(source)
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
    for path in _files_below(root):
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


def _files_below(root: Path) -> Iterator[Path]:
    """All files in a folder and the folders in it, sorted; linked folders too, but each folder once."""

    def stop(error: OSError) -> None:
        raise DataFormatError(f"{error.filename}: cannot be read ({error.strerror}): check your rights")

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=stop, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Place and text of each line, or its place, "" and what is wrong with it."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(_LONGEST_LINE):
            number += 1
            place = f"{path}: line {number}"
            if len(data) == _LONGEST_LINE and not data.endswith(b"\n"):
                while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield place, "", f"is longer than {_LONGEST_LINE >> 20} MiB"
                continue
            if b"\0" in data:
                yield place, "", "has null bytes, which UTF-8 text has not, but UTF-16"
                continue
            try:
                yield place, data.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"), ""
            except UnicodeDecodeError as error:
                yield place, "", f"is not UTF-8 text ({error.reason} at byte {error.start})"


def _documents(path: Path) -> Iterator[Item]:
    """One document a line."""
    found = False
    for place, text, problem in _lines(path):
        document = text.strip()
        if document or problem:
            found = True
            yield Item(place, None, (document,) if document else (), problem)
    if not found:
        raise DataFormatError(f"{path}: is empty; expected one document a line: get the file again")


def _with_texts(place: str, picture: Path | None, file: Path, by_line: bool) -> Item:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Item(place, picture, problem=f"there is no {file.name} with its texts")
    except (OSError, UnicodeDecodeError) as error:
        return Item(place, picture, problem=f"{file.name} can not be read as UTF-8 ({error})")
    texts = text.split("\n") if by_line else [" ".join(text.split())]
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
    if path.suffix.lower() == ".jsonl":
        for place, text, problem in _lines(path):
            if text.strip() or problem:
                row = problem or json_row(text)
                yield Item(place, problem=row) if isinstance(row, str) else _row(place, row, kind, images)
        return
    for line, row in rows_of(path):
        place = f"{path}: line {line}"
        if isinstance(row, Unreadable):  # to go on would leave out all that follows
            raise DataFormatError(f"{place}: {row}")
        if isinstance(row, Mapping):
            _check_columns(path, row, kind)
        yield Item(place, problem=row) if isinstance(row, str) else _row(place, row, kind, images)


def _check_columns(path: Path, row: Row, kind: Kind) -> None:
    """Refuse a table that names other columns than those wanted, of which every line would be refused."""
    wanted = {"images": ("image",), "texts": ("text",), "pairs": ("image", "text")}[kind]
    if missing := [name for name in wanted if name not in row]:
        raise DataFormatError(
            f"{path}: has the columns {', '.join(map(repr, row))}, and no {missing[0]!r}; expected "
            f"{' and '.join(wanted)}: name them so in the first line, with commas in .csv and tabs in .tsv"
        )


def _is_conceptual(path: Path) -> bool:
    """True for a TSV whose first line names no column: Conceptual Captions', caption and picture."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        names = lines.readline(1 << 16).rstrip("\r\n").split("\t")
    return not {"image", "text"} & set(names)


def _conceptual(path: Path, kind: Kind, images: Path) -> Iterator[Item]:
    """Lines ``caption <tab> picture``, where the published file has the picture's address."""
    for place, text, problem in _lines(path):
        columns = text.split("\t")
        if problem:
            yield Item(place, problem=problem)
        elif len(columns) != 2:
            yield Item(place, problem=f"has {len(columns)} fields; expected caption and picture")
        elif "://" in columns[1] and kind != "texts":
            yield Item(
                place,
                problem=f"names an address, {columns[1][:60]}; expected a local picture: download the "
                "pictures, and write their names into that column",
            )
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
    """Pictures in the order of the file, each with its captions; or the captions alone."""
    file = load_json(path, "COCO captions json (images, annotations)")
    names: dict[int, str] = {}
    for entry in file.entries("images"):
        key = entry.integer("id")
        if key in names:
            entry.fail(f"repeats image id {key}")
        names[key] = entry.text("file_name")
    captions: dict[int, list[str]] = {key: [] for key in names}
    for entry in file.entries("annotations") if "annotations" in file else ():
        key = entry.integer("image_id")
        if key not in captions:
            entry.fail(f"belongs to image id {key}, which is not among the images")
        captions[key].append(entry.text("caption"))
    for key, name in names.items():
        place, picture = f"{path}: image {key}", images / name
        if kind == "images":
            yield Item(place, picture)
        elif kind == "texts":
            for caption in captions[key]:
                yield _item(place, None, [caption])
        else:
            yield _item(place, picture, captions[key])
