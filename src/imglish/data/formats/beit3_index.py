"""The index files of the released BEiT-3 fine-tuning: one json object a line, texts as token ids.

    captions, retrieval  {"image_path", "text_segment": [ids] or null, "image_id"}
    NLVR2                {"image_path", "image2_path", "text_segment": [ids], "label": 0 or 1, "identifier"}
    VQAv2                {"image_path", "text_segment": [ids], "labels": [...], "scores": [...], "qid"}
    ImageNet             {"image_path", "label"}

Ids are those of beit3.spm without special tokens: `text.tokenizer.with_ends` adds these. Whoever has such
files need not index the published annotations again (parity FACTS, section 12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from imglish.data.formats.image_folder import LabelledPicture
from imglish.data.formats.json_entries import Entry, load_json_lines
from imglish.data.formats.picture_folder import PictureFolder
from imglish.errors import DataFormatError

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class IndexedText:
    """A text about a picture; ``token_ids`` is None where captions are still to be written.

    ``image_id`` is COCO's (or nocaps') id in captioning files, a running number in retrieval files.
    """

    path: Path
    token_ids: tuple[int, ...] | None
    image_id: int


@dataclass(frozen=True, slots=True)
class IndexedStatement:
    """A statement about two pictures, and whether it is true."""

    left: Path
    right: Path
    token_ids: tuple[int, ...]
    label: bool
    identifier: str


@dataclass(frozen=True, slots=True)
class IndexedQuestion:
    """A question about a picture.

    ``labels`` are places in answer2label.txt with a score in (0, 1] each; both are empty in test files.
    """

    question_id: int
    path: Path
    token_ids: tuple[int, ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]


def read_text_index(index: Path, images: Path) -> tuple[IndexedText, ...]:
    """Read an index of captions or of retrieval (COCO, Flickr30k, nocaps).

    Args:
        index: The json lines.
        images: The folder that the picture paths start from.

    Raises:
        DataFormatError: The file is missing, empty, damaged or of another layout, or a picture is missing.
    """

    def read(entry: Entry, folder: PictureFolder) -> IndexedText:
        ids = None if entry.raw("text_segment") is None else _token_ids(entry)
        return IndexedText(_picture(entry, folder, "image_path"), ids, entry.integer("image_id"))

    return _read(index, images, "image_path, text_segment, image_id", read)


def read_nlvr2_index(index: Path, images: Path) -> tuple[IndexedStatement, ...]:
    """Read an index of NLVR2. Arguments and errors as in `read_text_index`."""

    def read(entry: Entry, folder: PictureFolder) -> IndexedStatement:
        left, right = (_picture(entry, folder, key) for key in ("image_path", "image2_path"))
        label = entry.integer("label")
        if label not in (0, 1):
            entry.fail(f"has label {label}, not 0 or 1")
        return IndexedStatement(left, right, _token_ids(entry), label == 1, entry.text("identifier"))

    return _read(index, images, "image_path, image2_path, text_segment, label, identifier", read)


def read_vqa_index(index: Path, images: Path) -> tuple[IndexedQuestion, ...]:
    """Read an index of VQAv2. Arguments and errors as in `read_text_index`; its split may be empty."""

    def read(entry: Entry, folder: PictureFolder) -> IndexedQuestion:
        labels = _integers(entry, "labels")
        scores = entry.numbers("scores", len(labels))
        if not all(0 < score <= 1 for score in scores):
            entry.fail(f"has scores {list(scores)}, not all in (0, 1]")
        path = _picture(entry, folder, "image_path")
        return IndexedQuestion(entry.integer("qid"), path, _token_ids(entry), labels, scores)

    return _read(index, images, "image_path, text_segment, labels, scores, qid", read, may_be_empty=True)


def read_class_index(index: Path, images: Path) -> tuple[LabelledPicture, ...]:
    """Read an index of ImageNet. Arguments and errors as in `read_text_index`."""

    def read(entry: Entry, folder: PictureFolder) -> LabelledPicture:
        label = entry.integer("label")
        if label < 0:
            entry.fail(f"has label {label}, not a class number")
        return LabelledPicture(_picture(entry, folder, "image_path"), label)

    return _read(index, images, "image_path, label", read)


def _read(
    index: Path,
    images: Path,
    keys: str,
    read: Callable[[Entry, PictureFolder], _Record],
    *,
    may_be_empty: bool = False,
) -> tuple[_Record, ...]:
    layout = f"BEiT-3 index json lines ({keys})"
    folder = PictureFolder(images)
    records = tuple(read(entry, folder) for entry in load_json_lines(index, layout))
    if not records and not may_be_empty:
        raise DataFormatError(f"{index}: has no lines; expected {layout}: write the index again")
    return records


def _picture(entry: Entry, folder: PictureFolder, key: str) -> Path:
    name = entry.text(key)
    path = folder.find(name)
    if path is None:
        entry.fail(f"is about picture {name!r}, which {folder.root} does not have")
    return path


def _token_ids(entry: Entry) -> tuple[int, ...]:
    ids = _integers(entry, "text_segment")
    if not ids:
        entry.fail("has an empty text_segment")
    return ids


def _integers(entry: Entry, key: str) -> tuple[int, ...]:
    values = entry.raw(key)
    if not isinstance(values, list) or any(type(value) is not int or value < 0 for value in values):
        entry.fail(f"has no list of whole numbers from 0 on at key {key!r}")
    return tuple(values)
