"""Where everything lies in a World on disk, and the checks that it is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from imglish.data.formats.json_entries import Entry, load_json, load_json_lines
from imglish.data.world.annotate import CLASSES
from imglish.data.world.questions import KINDS
from imglish.data.world.scene import COLOURS, SHAPES, STUFF, Region, Scene, Thing, WorldConfig
from imglish.errors import DataFormatError

_FORMAT = "imglish-world"
# Of the layout and of the drawing: to be raised when either changes.
_VERSION = 1
_SETTINGS = "the settings of a World (world.json)"
_SCENES = "scene graphs of a World, one a line"

# A shard, and a share of work, has this many scenes; even, so that pairs of scenes do not straddle two.
SCENES_PER_SHARD = 500
# Splits with texts of their own; the compositional split has none.
TEXT_SPLITS = ("train", "validation")
# Name of a picture of the World, from its image id, for `imglish.data.formats.vqa.read_vqa`.
PICTURE_NAME = "{image_id:08d}.png"
KARPATHY_SPLITS = {"train": "train", "validation": "val", "compositional": "test"}
_ADE20K_SPLITS = {"train": "training", "validation": "validation", "compositional": "compositional"}


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldFiles:
    """The paths of a World. Methods that take a split raise KeyError for one that it does not have.

    Args:
        root: The folder of the World.
        config: Which World it is.
        counts: Scenes by split: "train", "validation", and "compositional" if there are any.
    """

    root: Path
    config: WorldConfig
    counts: Mapping[str, int]

    @property
    def settings(self) -> Path:
        """The json with all of this."""
        return self.root / "world.json"

    @property
    def corpus(self) -> Path:
        """The training texts, one a line."""
        return self.root / "text" / "corpus.txt"

    @property
    def karpathy(self) -> Path:
        """Captions of all splits, by KARPATHY_SPLITS; its pictures are relative to ``images_root``."""
        return self.root / "karpathy" / "dataset_world.json"

    @property
    def images_root(self) -> Path:
        """The folder with a folder of pictures for each split."""
        return self.root / "images"

    def images(self, split: str) -> Path:
        """The folder of pictures; all annotations but NLVR2's, the classes' and the masks' refer to it."""
        return self.images_root / self._known(split)

    def scenes(self, split: str) -> Path:
        """The scene graphs, for `read_scenes`."""
        return self.root / "scenes" / f"{self._known(split)}.jsonl"

    def instances(self, split: str) -> Path:
        """COCO instances json."""
        return self.root / "coco" / f"instances_{self._known(split)}.json"

    def captions(self, split: str) -> Path:
        """COCO captions json."""
        return self.root / "coco" / f"captions_{self._known(split)}.json"

    def panoptic(self, split: str) -> Path:
        """COCO panoptic json."""
        return self.root / "coco" / f"panoptic_{self._known(split)}.json"

    def panoptic_maps(self, split: str) -> Path:
        """The folder of panoptic maps."""
        return self.root / "coco" / f"panoptic_{self._known(split)}"

    def questions(self, split: str) -> Path:
        """VQA v2 questions json; its pictures are named PICTURE_NAME."""
        return self.root / "vqa" / f"questions_{self._known(split)}.json"

    def annotations(self, split: str) -> Path:
        """VQA v2 annotations json."""
        return self.root / "vqa" / f"annotations_{self._known(split)}.json"

    def statements(self, split: str) -> Path:
        """NLVR2 json lines."""
        return self.root / "nlvr2" / f"{self._known(split)}.jsonl"

    def statement_images(self, split: str) -> Path:
        """The folder of pictures under NLVR2's names."""
        return self.root / "nlvr2" / "images" / self._known(split)

    def class_folders(self, split: str) -> Path:
        """The folder of class folders: pictures of a single thing by its shape."""
        return self.root / "classes" / self._known(split)

    def mask_images(self, split: str) -> Path:
        """ADE20K's folder of pictures."""
        return self.root / "ade20k" / "images" / _ADE20K_SPLITS[self._known(split)]

    def masks(self, split: str) -> Path:
        """ADE20K's folder of masks: 0 would be unlabelled, the value of class c of CLASSES is c + 1."""
        return self.root / "ade20k" / "annotations" / _ADE20K_SPLITS[self._known(split)]

    def shards(self, kind: Literal["images", "texts", "pairs"], split: str) -> tuple[Path, ...]:
        """Tars: "images" with png, "pairs" with png, txt (a caption a line) and json, "texts" with txt.

        Texts exist for TEXT_SPLITS only.
        """
        count = -(-self.counts[split] // SCENES_PER_SHARD)
        return tuple(self.root / "shards" / f"{kind}-{split}-{number:06d}.tar" for number in range(count))

    def _known(self, split: str) -> str:
        if split not in self.counts:
            raise KeyError(f"split {split!r}; this World has {', '.join(self.counts)}")
        return split


def read_world(root: Path) -> WorldFiles:
    """Find the files of a World.

    Raises:
        DataFormatError: There is no World, it was written by another version, or files are missing.
    """
    path = root / "world.json"
    if not path.is_file():
        raise DataFormatError(
            f"{root}: holds no World (no world.json); write one with `imglish world --out {root}`"
        )
    settings = load_json(path, _SETTINGS)
    if settings.text("format") != _FORMAT:
        settings.fail(f"has format {settings.text('format')!r}, not {_FORMAT!r}")
    if settings.integer("version") != _VERSION or settings.raw("vocabulary") != _vocabulary():
        raise DataFormatError(
            f"{path}: was written by another version of imglish (layout {settings.integer('version')}, here "
            f"{_VERSION}): write it anew with `imglish world`"
        )
    config, counts = settings.entry("config"), settings.entry("counts")
    try:
        world = WorldConfig(
            seed=config.integer("seed"),
            picture_size=config.integer("picture_size"),
            level=config.text("level"),  # type: ignore[arg-type]  # WorldConfig checks it
        )
    except ValueError as error:
        config.fail(f"is illegal: {error}")
    files = WorldFiles(
        root=root,
        config=world,
        counts={split: counts.integer(split) for split in _ADE20K_SPLITS if split in counts},
    )
    for needed in _paths(files):
        if not needed.exists():
            raise DataFormatError(f"{needed}: is missing from the World: write it anew with `imglish world`")
    return files


def write_settings(files: WorldFiles) -> None:
    """Write world.json, by which `read_world` knows a World that is complete."""
    settings = {
        "format": _FORMAT,
        "version": _VERSION,
        "config": asdict(files.config),
        "counts": dict(files.counts),
        "vocabulary": _vocabulary(),
    }
    files.settings.write_text(json.dumps(settings, indent=1) + "\n")


def scene_line(scene: Scene) -> str:
    """A scene graph as one line of json."""
    return json.dumps(asdict(scene))


def read_scenes(path: Path) -> Iterator[Scene]:
    """Read scene graphs back, in the order of their numbers; each equals the one that was drawn.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout.
    """
    for entry in load_json_lines(path, _SCENES):
        yield Scene(
            split=entry.text("split"),
            index=entry.integer("index"),
            seed=entry.integer("seed"),
            picture_size=entry.integer("picture_size"),
            regions=tuple(
                Region(stuff=region.text("stuff"), left=region.number("left"), right=region.number("right"))
                for region in entry.entries("regions")
            ),
            things=tuple(_thing(thing) for thing in entry.entries("things")),
            light=entry.number("light"),
            slant=entry.number("slant"),
            noise=entry.number("noise"),
        )


def _thing(entry: Entry) -> Thing:
    y, x = entry.numbers("centre", 2)
    return Thing(
        shape=entry.text("shape"),
        colour=entry.text("colour"),
        size=entry.text("size"),
        centre=(y, x),
        radius=entry.number("radius"),
    )


def _vocabulary() -> dict[str, list[str]]:
    return {
        "classes": list(CLASSES),
        "stuff": list(STUFF),
        "shapes": list(SHAPES),
        "colours": list(COLOURS),
        "question_kinds": list(KINDS),
    }


def _paths(files: WorldFiles) -> Iterator[Path]:
    """Every path that must be there."""
    yield from (files.corpus, files.karpathy)
    for split in files.counts:
        yield from (files.images(split), files.scenes(split))
        yield from (files.instances(split), files.captions(split))
        yield from (files.panoptic(split), files.panoptic_maps(split))
        yield from (files.questions(split), files.annotations(split))
        yield from (files.statements(split), files.statement_images(split), files.class_folders(split))
        yield from (files.mask_images(split), files.masks(split))
        yield from (*files.shards("images", split), *files.shards("pairs", split))
        if split in TEXT_SPLITS:
            yield from files.shards("texts", split)
