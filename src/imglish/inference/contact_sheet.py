"""A contact sheet: found pictures on one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from PIL import Image

from imglish.errors import DataFormatError
from imglish.inference.index import Found, SearchIndex
from imglish.inference.index_scan import shown_path
from imglish.inference.pictures import Picture, open_picture

_SIDE = 256  # pixels of a thumbnail's longer side
_TEMPLATE = "contact_sheet.html.jinja"


class Section(NamedTuple):
    """Pictures under a heading; an empty heading shows none."""

    heading: str
    found: Sequence[Found]


class _Tile(NamedTuple):
    """A picture on the page: its path, similarity, and address; an empty address where it is gone."""

    path: str
    similarity: float
    address: str


def write_contact_sheet(
    target: Path, index: SearchIndex, title: str, sections: Sequence[Section], like: Picture | None = None
) -> None:
    """Write a page of pictures with their similarities; light or dark as the reader's system is.

    Thumbnails are part of the page, which names no other file or address. A picture that is not there any
    more, or cannot be decoded, keeps its place and says so. Nothing is half written: the page is renamed
    into its place once it is whole, and replaces an older one.

    Args:
        target: The file, ending in ``.html`` or ``.htm``.
        index: Where the pictures were found.
        title: What was asked.
        sections: The pictures.
        like: A picture that others were compared with, shown at the top.

    Raises:
        DataFormatError: ``target`` has another ending, or ``like`` cannot be used.
        OSError: It cannot be written.
    """
    if target.suffix.lower() not in (".html", ".htm"):
        raise DataFormatError(f"{target}: a contact sheet ends in .html")
    page = (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            title=shown_path(title),
            folder=shown_path(index.folder.name or str(index.folder)),
            count=len(index),
            model=shown_path(index.model.name),
            like="" if like is None else _address(like),
            sections=[
                (section.heading, [_tile(index, *found) for found in section.found]) for section in sections
            ],
        )
    )
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def thumbnail(picture: Picture, side: int = _SIDE) -> bytes:
    """A small JPEG of a picture, its longer side at most ``side`` pixels.

    Raises:
        DataFormatError: The picture cannot be used.
    """
    image = Image.fromarray(open_picture(picture).permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _tile(index: SearchIndex, path: str, similarity: float) -> _Tile:
    try:
        address = _address(index.file(path))
    except DataFormatError:  # it has changed since it was indexed
        address = ""
    return _Tile(shown_path(path), similarity, address)


def _address(picture: Picture) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(picture)).decode()}"


def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_read_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _read_template(name: str) -> str:
    return resources.files("imglish.inference").joinpath(name).read_text(encoding="utf-8")
