"""NoCaps (Agrawal et al. 2019), captions of objects that COCO's do not name: two files after COCO's layout.

    nocaps_val_4500_captions.json   {"images": [{"id", "file_name", "open_images_id", "domain"}],
                                     "annotations": [{"id", "image_id", "caption"}]}
    nocaps_test_image_info.json     the same without annotations: test captions are kept by its authors

The domain says how near a picture's objects are to COCO's; each is scored apart.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from imglish.data.formats.json_entries import Entry, load_json
from imglish.data.formats.karpathy import KarpathyRecord, Sentence
from imglish.data.formats.picture_folder import PictureFolder

_LAYOUT = "NoCaps json (images with id and file_name, annotations with image_id and caption)"

DOMAINS = ("in-domain", "near-domain", "out-domain")


def read_nocaps(annotations: Path, images: Path, split: str) -> tuple[KarpathyRecord, ...]:
    """Read a split.

    Args:
        annotations: The json.
        images: The folder that "file_name" is relative to.
        split: Goes into the records: "val" or "test".

    Returns:
        One record for each picture, in the order of the file; without captions where the file has none.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, has an unknown domain, a caption
            of an unknown picture or none of a picture where others have some, or a picture does not exist.
    """
    file, folder = load_json(annotations, _LAYOUT), PictureFolder(images)
    pictures: dict[int, tuple[Entry, Path]] = {}
    for entry in file.entries("images"):
        name, image_id = entry.text("file_name"), entry.integer("id")
        path = folder.find(name)
        if path is None:
            entry.fail(f"names picture {name!r}, which {folder.root} does not have")
        if image_id in pictures:
            entry.fail(f"repeats image id {image_id}")
        pictures[image_id] = entry, path
    if not pictures:
        file.fail("has no images")
    captions = _captions(file, pictures.keys())
    records = []
    for image_id, (entry, path) in pictures.items():
        if captions and not captions.get(image_id):
            entry.fail(f"is image id {image_id}, which has no caption")
        records.append(
            KarpathyRecord(image_id, path, split, tuple(captions.get(image_id, ())), _domain(entry))
        )
    return tuple(records)


def _captions(file: Entry, known: Collection[int]) -> dict[int, list[Sentence]]:
    """Captions by image id; none in a test file."""
    captions: dict[int, list[Sentence]] = {}
    for number, entry in enumerate(file.entries("annotations") if "annotations" in file else ()):
        image_id = entry.integer("image_id")
        if image_id not in known:
            entry.fail(f"belongs to image id {image_id}, which is not among the images")
        sentence_id = entry.integer("id") if "id" in entry else number
        captions.setdefault(image_id, []).append(Sentence(sentence_id, entry.text("caption")))
    return captions


def _domain(entry: Entry) -> str:
    domain = entry.text("domain") if "domain" in entry else ""
    if domain and domain not in DOMAINS:
        entry.fail(f"has domain {domain!r}, not one of {', '.join(DOMAINS)}")
    return domain
