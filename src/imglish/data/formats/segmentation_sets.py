"""Published segmentation sets in their layouts, as pictures with masks and what the masks mean.

Which value is which class follows the sets' own documents and, where a set is used in a converted form, the
converters of mmsegmentation 0.20.2, with which the official ViT-Adapter was trained (adapter FACTS, section
8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imglish.data.formats import segmentation_classes as names
from imglish.data.formats.mask_folder import MaskRecord, MatchedMasks, match_files, match_masks
from imglish.data.formats.mask_labels import IGNORED, MaskLabels, color, mapped, numbered
from imglish.data.formats.picture_folder import list_pictures
from imglish.data.pictures import has_colors
from imglish.errors import DataFormatError

SegmentationSet = Literal[
    "ade20k",
    "cityscapes",
    "mapillary",
    "coco_stuff10k",
    "coco_stuff164k",
    "pascal_context",
    "potsdam",
    "chase_db1",
]
Split = Literal["train", "validation"]

# labels.py of cityscapesScripts: the id of each of the 19 classes; the other ids up to 33 are not scored.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# MapillaryHack of the official code: which of Mapillary's 66 classes become which of Cityscapes'.
_MAPILLARY_IDS = (
    (13, 24, 41),  # road, lane marking, manhole
    (2, 15),  # curb, sidewalk
    (17,),
    (6,),
    (3,),
    (45, 47),  # pole, utility pole
    (48,),
    (50,),  # the front of traffic signs
    (30,),
    (29,),
    (27,),
    (19,),
    (20, 21, 22),  # bicyclist, motorcyclist, other rider
    (55,),
    (61,),
    (54,),
    (58,),  # "on rails"
    (57,),
    (52,),
)
# Ids of COCO's 182 categories that no picture has.
_COCO_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
_POTSDAM_COLORS = (
    (255, 255, 255),
    (0, 0, 255),
    (0, 255, 255),
    (0, 255, 0),
    (255, 255, 0),
    (255, 0, 0),
)
_CHASE_TRAINING = 20  # the first pictures, by name, of 28


@dataclass(frozen=True, slots=True)
class SegmentationFiles:
    """What masks mean, the pictures that have one, and a line for each file that is alone."""

    labels: MaskLabels
    records: tuple[MaskRecord, ...]
    problems: tuple[str, ...] = ()

    def strict(self) -> SegmentationFiles:
        """These files; raises DataFormatError where one is alone."""
        if self.problems:
            raise DataFormatError(self.problems[0])
        return self


def read_segmentation_set(name: SegmentationSet, root: Path, split: Split) -> SegmentationFiles:
    """List the files of a published set; docs/tasks/segmentation.md shows the layouts.

    Args:
        name: Which set.
        root: Its folder.
        split: ``validation`` is what is scored; of COCO-Stuff 10k that is called test.

    Raises:
        DataFormatError: A folder is missing, or has no pictures.
    """
    train = split == "train"
    match name:
        case "ade20k":
            part = "training" if train else "validation"
            found = match_masks(root / "images" / part, root / "annotations" / part)
            return _files(numbered(names.ADE20K, first=1), found)
        case "cityscapes":
            return _cityscapes(root, "train" if train else "val")
        case "mapillary":
            return _mapillary(root, "training" if train else "validation")
        case "coco_stuff10k":
            if (root / "imageLists").is_dir():
                return _coco_stuff10k(root, "train" if train else "test")
            return _coco_stuff(root, "train2014" if train else "test2014", first=1)
        case "coco_stuff164k":
            return _coco_stuff(root, "train2017" if train else "val2017", first=0)
        case "pascal_context":
            return _pascal_context(root, "train" if train else "val")
        case "potsdam":
            return _potsdam(root, "train" if train else "val")
        case "chase_db1":
            return _chase_db1(root, train=train)


def _files(labels: MaskLabels, found: MatchedMasks) -> SegmentationFiles:
    return SegmentationFiles(labels, found.records, found.problems)


def _cityscapes(root: Path, part: str) -> SegmentationFiles:
    """``leftImg8bit/train/CITY/X_leftImg8bit.png`` and ``gtFine/train/CITY/X_gtFine_label(Train)Ids.png``."""
    images, masks = root / "leftImg8bit" / part, root / "gtFine" / part
    pictures = _in_folders(images, "_leftImg8bit")
    of_training = _in_folders(masks, "_gtFine_labelTrainIds")
    if of_training:
        found = match_files(pictures, of_training, images, masks, "_gtFine_labelTrainIds")
        return _files(numbered(names.CITYSCAPES), found)
    found = match_files(pictures, _in_folders(masks, "_gtFine_labelIds"), images, masks, "_gtFine_labelIds")
    ids = {value: number for number, value in enumerate(_CITYSCAPES_IDS)}
    return _files(mapped(names.CITYSCAPES, ids, range(34)), found)


def _mapillary(root: Path, part: str) -> SegmentationFiles:
    """``training/images`` and ``training/labels`` of version 1.2, which version 2 has in ``v1.2/labels``."""
    masks = root / part / "v1.2" / "labels"
    masks = masks if masks.is_dir() else root / part / "labels"
    ids = {value: number for number, values in enumerate(_MAPILLARY_IDS) for value in values}
    return _files(mapped(names.CITYSCAPES, ids, range(66)), match_masks(root / part / "images", masks))


def _coco_stuff(root: Path, part: str, *, first: int) -> SegmentationFiles:
    """``images/PART`` and ``annotations/PART``: the published masks, or mmsegmentation's ``_labelTrainIds``.

    ``first`` is the value of COCO's category 1: 0 in the 164k masks, whose 255 is unlabelled; 1 in those of
    10k, whose 0 is.
    """
    images, masks = root / "images" / part, root / "annotations" / part
    suffix = "_labelTrainIds"
    if any(path.stem.endswith(suffix) for path in list_pictures(masks)):
        return _files(numbered(names.COCO_STUFF, first=first), match_masks(images, masks, suffix))
    return _files(_coco_labels(first), match_masks(images, masks))


def _coco_labels(first: int) -> MaskLabels:
    """COCO's 182 categories as 171 classes; ``first`` is the value of category 1."""
    categories = [category for category in range(1, 183) if category not in _COCO_GAPS]
    ids = {category - 1 + first: number for number, category in enumerate(categories)}
    return mapped(names.COCO_STUFF, ids, range(first))


def _coco_stuff10k(root: Path, part: str) -> SegmentationFiles:
    """As published: ``images/X.jpg``, ``annotations/X.mat`` and ``imageLists/train.txt`` and ``test.txt``."""
    masks = {path.stem: path for path in sorted((root / "annotations").glob("*.mat"))}
    listed = root / "imageLists" / f"{part}.txt"
    return _listed(_coco_labels(1), listed, root / "images", masks, root / "annotations", "check the path")


def _pascal_context(root: Path, part: str) -> SegmentationFiles:
    """VOC2010's ``JPEGImages``, and ``SegmentationClassContext`` as mmsegmentation's converter writes it."""
    folder = root / "SegmentationClassContext"
    masks = {path.stem: path for path in list_pictures(folder)} if folder.is_dir() else {}
    advice = "as the converter of mmsegmentation writes them: check the path, which ends in VOC2010"
    listed = root / "ImageSets" / "SegmentationContext" / f"{part}.txt"
    labels = numbered(names.PASCAL_CONTEXT, first=1)
    return _listed(labels, listed, root / "JPEGImages", masks, folder, advice)


def _listed(
    labels: MaskLabels, listed: Path, images: Path, masks: Mapping[str, Path], folder: Path, advice: str
) -> SegmentationFiles:
    """The pictures that a file names, a line each, with their masks.

    Args:
        labels: What the masks mean.
        listed: The file.
        images: The folder of the pictures.
        masks: All masks by their names without endings.
        folder: Theirs.
        advice: What to do where there is no such file.
    """
    if not listed.is_file():
        raise DataFormatError(f"{listed}: no such file; expected the names of a split, a line each, {advice}")
    stems = listed.read_text(encoding="utf-8").split()
    there = {path.stem: path for path in list_pictures(images)}
    missing = tuple(
        f"{images / stem}.jpg: no such file, but {listed} names it: get it, or remove its line"
        for stem in stems
        if stem not in there
    )
    pictures = {stem: there[stem] for stem in stems if stem in there}
    of_split = {stem: path for stem, path in masks.items() if stem in pictures}
    ending = next(iter(masks.values())).suffix if masks else ".png"
    found = match_files(pictures, of_split, images, folder, ending=ending)
    return SegmentationFiles(labels, found.records, (*missing, *found.problems))


def _potsdam(root: Path, part: str) -> SegmentationFiles:
    """Tiles in ``img_dir`` and ``ann_dir``: ids of mmsegmentation's converter (0 is ignored), or colours."""
    if not (root / "img_dir").is_dir() and any(root.glob("**/top_potsdam_*.tif")):
        raise DataFormatError(
            f"{root}: holds Potsdam as published, pictures of 6000 pixels; expected tiles of 512 pixels in "
            "img_dir/train, img_dir/val, ann_dir/train and ann_dir/val: cut them first"
        )
    found = match_masks(root / "img_dir" / part, root / "ann_dir" / part)
    if not found.records or not has_colors(found.records[0].mask_path):
        return _files(numbered(names.POTSDAM, first=1), found)
    ids = {color(*rgb): number for number, rgb in enumerate(_POTSDAM_COLORS)}
    ids[color(0, 0, 0)] = IGNORED  # the edges, where they are left out
    return _files(MaskLabels(classes=names.POTSDAM, ids=ids, colors=True), found)


def _chase_db1(root: Path, *, train: bool) -> SegmentationFiles:
    """As published, ``Image_01L.jpg`` beside ``Image_01L_1stHO.png``, or in the folders of mmsegmentation.

    The first observer's vessels count. Of grey levels anything from 128 on is a vessel; 1 is one as well, as
    which the published masks, of one bit, are read.
    """
    suffix, part = "_1stHO", "training" if train else "validation"
    if (root / "images").is_dir():
        found = match_masks(root / "images" / part, root / "annotations" / part, suffix)
        return _files(numbered(names.CHASE_DB1), found)
    pictures = {path.stem: path for path in list_pictures(root) if "HO" not in path.stem}
    masks = {path.stem.removesuffix(suffix): path for path in list_pictures(root) if suffix in path.stem}
    keys = sorted(pictures)
    mine = keys[:_CHASE_TRAINING] if train else keys[_CHASE_TRAINING:]
    if pictures and not mine:
        raise DataFormatError(
            f"{root}: has {len(keys)} pictures; expected 28, of which the first {_CHASE_TRAINING} are "
            "trained on: get all of CHASE-DB1"
        )
    found = match_files(
        {key: pictures[key] for key in mine},
        {key: path for key, path in masks.items() if key in mine},
        root,
        root,
        suffix,
    )
    ids = {value: int(value == 1 or value >= 128) for value in range(256)}
    return _files(MaskLabels(classes=names.CHASE_DB1, ids=ids), found)


def _in_folders(root: Path, suffix: str) -> dict[str, Path]:
    """Pictures of the folders in ``root`` whose names end so, by folder and name without that."""
    if not root.is_dir():
        raise DataFormatError(
            f"{root}: no such folder; expected a folder of folders of pictures: check the path"
        )
    return {
        f"{folder.name}/{path.stem.removesuffix(suffix)}": path
        for folder in sorted(root.iterdir())
        if folder.is_dir()
        for path in list_pictures(folder)
        if path.stem.endswith(suffix)
    }
