"""Where a run reads: frozen, validated settings of each layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imglish.data.formats.segmentation_sets import SegmentationSet
from imglish.data.mask_classes import Background, MaskRules
from imglish.data.world.scene import WorldConfig


def at_least(config: object, **least: float) -> None:
    """Refuse settings below their least value."""
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name} must be at least {value}; got {getattr(config, name)}")


def shares(config: object, *names: str) -> None:
    """Refuse settings outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name} must lie in [0, 1]; got {getattr(config, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldStreamData:
    """The World, drawn while training; no files.

    Args:
        world: Which World.
        num_scenes: Scenes of the training split; more than are read is fine.
        num_validation: Scenes of the validation split that are scored.
        alt_texts: True adds terse texts, as many as captions.
        questions: True adds texts of questions with their answers, as many as captions.
        favoured_questions: Kinds of questions that two thirds of these texts keep to.
        statements: True adds judged statements about the picture, as many as captions.
    """

    kind: Literal["world_stream"] = "world_stream"
    world: WorldConfig = WorldConfig()
    num_scenes: int = 1_000_000
    num_validation: int = 500
    alt_texts: bool = True
    questions: bool = False
    favoured_questions: tuple[str, ...] = ()
    statements: bool = False

    def __post_init__(self) -> None:
        at_least(self, num_scenes=1, num_validation=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderData:
    """A World on disk, as `imglish world` writes it.

    Args:
        root: The folder.
        num_validation: Samples of the validation split that are scored; 0 scores all.
    """

    kind: Literal["folder"] = "folder"
    root: Path = Path("world")
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableData:
    """Own data: JSONL, CSV or TSV tables (see `data.formats.table`); `imglish data check` goes through them.

    Args:
        train: The table to train on.
        validation: The table that is scored.
        test: A table to answer, where there is one.
        num_validation: Samples of the validation table that are scored; 0 scores all.
    """

    kind: Literal["table"] = "table"
    train: Path = Path("train.jsonl")
    validation: Path = Path("validation.jsonl")
    test: Path | None = None
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class VqaV2Data:
    """VQAv2 as published: the json files in ``vqa/``, pictures in ``train2014``, ``val2014``, ``test2015``.

    Training takes both annotated splits but for the questions about 1000 pictures of val2014, which are the
    validation split, as the released code does; which ones is drawn from ``seed`` (there it is not seeded).

    Args:
        root: The folder.
        visual_genome: Visual Genome's ``question_answers.json`` as more training data; None leaves it out.
            Its pictures lie in ``images`` beside it.
        test: Questions of the test split: test-dev, or test2015, which has them and those of test-std.
        seed: Of the choice of validation pictures.
        num_validation: Questions that are scored; 0 scores all.
    """

    kind: Literal["vqav2"] = "vqav2"
    root: Path = Path("data/coco")
    visual_genome: Path | None = None
    test: Literal["test-dev2015", "test2015"] = "test-dev2015"
    seed: int = 0
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class KarpathyData:
    """Captioned pictures in the splits of Karpathy and Fei-Fei: COCO or Flickr30k.

    Args:
        root: The folder that pictures and annotations are relative to.
        annotations: ``dataset_coco.json`` or ``dataset_flickr30k.json``.
        images: The folder of the pictures in ``root``: empty for COCO, flickr30k-images for Flickr30k.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["karpathy"] = "karpathy"
    root: Path = Path("data/coco")
    annotations: str = "dataset_coco.json"
    images: str = ""
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class NocapsData:
    """NoCaps as published: ``nocaps_val_4500_captions.json`` and ``nocaps_test_image_info.json``.

    Its pictures lie in ``val`` and ``test``. It has no training captions: COCO's are trained on.

    Args:
        root: The folder.
        coco: COCO as `KarpathyData` has it, to train on; it need not be there where nothing is trained.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["nocaps"] = "nocaps"
    root: Path = Path("data/nocaps")
    coco: Path = Path("data/coco")
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Nlvr2Data:
    """NLVR2 as published: ``train.json``, ``dev.json``, ``test1.json`` and ``images/{train,dev,test1}``.

    Or as the released code lays it out: ``nlvr/nlvr2/data/*.json``, ``images/train``, ``dev`` and ``test1``.

    Args:
        root: The folder.
        num_validation: Statements that are scored; 0 scores all.
    """

    kind: Literal["nlvr2"] = "nlvr2"
    root: Path = Path("data/nlvr2")
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFolderData:
    """ImageNet's layout: ``train`` and ``val`` with a folder of pictures for each class.

    Args:
        root: The folder.
        class_names: A file that says what the classes are called: a line for each, its folder and then its
            name, such as ImageNet's LOC_synset_mapping.txt. Without one synsets (n01440764) get WordNet's
            words, and other folders are called by their own names.
        held_out: Where there is no ``val``, as in ImageNet-21k: so many pictures of each class of ``train``
            are left out of training and scored, but never all of a class; 0 reads ``val``.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["class_folders"] = "class_folders"
    root: Path = Path("data/imagenet")
    class_names: Path | None = None
    held_out: int = 0
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, held_out=0, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardsData:
    """Tar shards for pretraining, each stream from one data set or several (docs/data.md).

    A data set is a tar, a folder of tars or a pattern such as ``data/cc3m/pairs-*.tar``; or the same at an
    address that fsspec reads, such as ``s3://bucket/pairs-*.tar``.

    Args:
        images: Data sets of pictures alone; their texts, if any, are not read.
        texts: Data sets of documents.
        pairs: Data sets of pictures with texts.
        image_weights: How often each data set of pictures comes up, whole numbers; empty means all alike.
        text_weights: The same of the documents.
        pair_weights: The same of the pairs.
        validation_images: Data sets of pictures that are scored.
        validation_texts: Data sets of documents that are scored.
        validation_pairs: Data sets of pairs that are scored.
        cache: Folder that remote shards are copied to.
        cache_gigabytes: Most that the tars in it take up, in 10^9 bytes; 0 sets no limit.
        num_validation: Samples that are scored; 0 scores all.
    """

    kind: Literal["shards"] = "shards"
    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    image_weights: tuple[int, ...] = ()
    text_weights: tuple[int, ...] = ()
    pair_weights: tuple[int, ...] = ()
    validation_images: tuple[str, ...] = ()
    validation_texts: tuple[str, ...] = ()
    validation_pairs: tuple[str, ...] = ()
    cache: Path = Path("data/shard-cache")
    cache_gigabytes: float = 0.0
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, cache_gigabytes=0, num_validation=0)
        for stream in ("image", "text", "pair"):
            weights, found = getattr(self, f"{stream}_weights"), getattr(self, f"{stream}s")
            if weights and len(weights) != len(found):
                raise ValueError(f"{stream}_weights has {len(weights)} numbers for {len(found)} data sets")
            if any(weight < 1 for weight in weights):
                raise ValueError(f"{stream}_weights must be whole numbers from 1 on; got {min(weights)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationFolderData:
    """Own pictures in ``images``, masks of the same names in ``masks`` (docs/tasks/segmentation.md).

    Args:
        root: The folder of both.
        classes: A text file that says which value or colour is which class; None infers them from the masks.
        background: ``class`` has 0 (black) as a class, ``ignored`` for "no label".
        ignored: Values of masks that count for nothing.
        held_out: Share of pictures that are scored and not trained on, where there is no folder of them.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["segmentation_folder"] = "segmentation_folder"
    root: Path = Path("data/own")
    classes: Path | None = None
    background: Background = "class"
    ignored: tuple[int, ...] = (255,)
    held_out: float = 0.1
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1; got {self.held_out}")
        if any(value < 0 for value in self.ignored):
            raise ValueError(f"ignored must not have negative values; got {min(self.ignored)}")

    def rules(self) -> MaskRules:
        """What is told about the masks."""
        return MaskRules(classes=self.classes, background=self.background, ignored=self.ignored)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationSetData:
    """A published segmentation set in its layout (docs/tasks/segmentation.md).

    Args:
        name: Which set. ``mapillary`` has Cityscapes' 19 classes, as the official pretraining.
        root: Its folder.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["segmentation_set"] = "segmentation_set"
    name: SegmentationSet = "ade20k"
    root: Path = Path("data/ADEChallengeData2016")
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoInstancesData:
    """Pictures with objects in a COCO-style json: COCO, Objects365 or own ones (docs/detection-data.md).

    Args:
        root: The folder that all else is relative to.
        train: The json of training.
        train_images: The folder of its pictures.
        validation: The json that is scored.
        validation_images: The folder of its pictures.
        test: The json of pictures that are predicted; it need not have annotations, and is not scored then.
        test_images: The folder of its pictures.
        semantic: Folder of class maps, in it one for each of the two folders of pictures, for HTC's semantic
            branch; empty where there are none.
        semantic_first: The value of class 0 in these maps.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["coco_instances"] = "coco_instances"
    root: Path = Path("data/coco")
    train: str = "annotations/instances_train2017.json"
    train_images: str = "train2017"
    validation: str = "annotations/instances_val2017.json"
    validation_images: str = "val2017"
    test: str = "annotations/image_info_test-dev2017.json"
    test_images: str = "test2017"
    semantic: str = ""
    semantic_first: int = 0
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, semantic_first=0, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoPanopticData:
    """Pictures cut into segments: COCO panoptic json files and the folders of their maps.

    Args:
        root: The folder that all else is relative to.
        train: The json of training.
        train_images: The folder of its pictures.
        train_maps: The folder of its segment maps.
        validation: The json that is scored.
        validation_images: The folder of its pictures.
        validation_maps: The folder of its segment maps.
        test: A json of pictures that are predicted; annotations in it are not looked at, and its categories
            neither: they are those of ``validation``.
        test_images: The folder of its pictures.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["coco_panoptic"] = "coco_panoptic"
    root: Path = Path("data/coco")
    train: str = "annotations/panoptic_train2017.json"
    train_images: str = "train2017"
    train_maps: str = "annotations/panoptic_train2017"
    validation: str = "annotations/panoptic_val2017.json"
    validation_images: str = "val2017"
    validation_maps: str = "annotations/panoptic_val2017"
    test: str = "annotations/image_info_test-dev2017.json"
    test_images: str = "test2017"
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class YoloData:
    """Pictures with YOLO's text labels (docs/detection-data.md).

    Args:
        root: The folder with images and labels, and classes.txt or a .yaml file with names.
        num_validation: Pictures that are scored; 0 scores all.
    """

    kind: Literal["yolo"] = "yolo"
    root: Path = Path("data/own")
    num_validation: int = 0

    def __post_init__(self) -> None:
        at_least(self, num_validation=0)


DataConfig = (
    WorldStreamData
    | FolderData
    | TableData
    | VqaV2Data
    | KarpathyData
    | NocapsData
    | Nlvr2Data
    | ClassFolderData
    | ShardsData
    | SegmentationFolderData
    | SegmentationSetData
    | CocoInstancesData
    | CocoPanopticData
    | YoloData
)
