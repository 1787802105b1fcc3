"""Caption splits of Karpathy and Fei-Fei (2015): dataset_coco.json, dataset_flickr30k.json.

    {"images": [{"filepath": "val2014", "filename", "split", "cocoid", "imgid", "sentids",
                 "sentences": [{"raw", "tokens", "sentid", "imgid"}]}]}

Flickr30k's has no filepath and no cocoid. Training on COCO customarily uses "train" and "restval" together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.json_entries import Entry, load_json
from imglish.data.formats.picture_folder import PictureFolder

_LAYOUT = "Karpathy split json (images with split and sentences)"

SPLITS = ("train", "restval", "val", "test")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One caption: its id in the file and its words as written."""

    sentence_id: int
    text: str


@dataclass(frozen=True, slots=True)
class KarpathyRecord:
    """A picture with its captions.

    Args:
        image_id: The picture's COCO id, or its number in the file for Flickr30k.
        path: The picture.
        split: One of SPLITS.
        sentences: Five for most pictures; none where they are still to be written.
        domain: One of `nocaps.DOMAINS` in NoCaps, which are scored apart; empty elsewhere.
    """

    image_id: int
    path: Path
    split: str
    sentences: tuple[Sentence, ...]
    domain: str = ""


def read_karpathy(annotations: Path, images: Path, splits: tuple[str, ...]) -> tuple[KarpathyRecord, ...]:
    """Read some splits.

    Args:
        annotations: The json.
        images: The folder that "filepath" and "filename" are relative to.
        splits: Those wanted, of SPLITS; pictures of others need not exist.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, has an unknown split or none of
            the wanted ones, or a picture does not exist.
    """
    file, folder = load_json(annotations, _LAYOUT), PictureFolder(images)
    records = []
    for entry in file.entries("images"):
        split = entry.text("split")
        if split not in SPLITS:
            entry.fail(f"has split {split!r}, not one of {', '.join(SPLITS)}")
        if split in splits:
            records.append(_record(entry, folder, split))
    if not records:
        file.fail(f"has no images of split {' or '.join(splits)}")
    return tuple(records)


def _record(entry: Entry, folder: PictureFolder, split: str) -> KarpathyRecord:
    name = entry.text("filename")
    if "filepath" in entry:
        name = f"{entry.text('filepath')}/{name}"
    path = folder.find(name)
    if path is None:
        entry.fail(f"names picture {name!r}, which {folder.root} does not have")
    sentences = tuple(
        Sentence(each.integer("sentid"), each.text("raw")) for each in entry.entries("sentences")
    )
    if not sentences:
        entry.fail("has no sentences")
    return KarpathyRecord(entry.integer("cocoid" if "cocoid" in entry else "imgid"), path, split, sentences)
