"""What is known of one officially released file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imglish.models.beit3.config import Beit3Config
from imglish.models.detectors.vit_detector import ViTDetectorConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig

Config = Beit3Config | ViTConfig | VqkdConfig | ViTSegmenterConfig | ViTDetectorConfig

# What pixels become: ``imagenet`` takes ImageNet's mean and deviation, ``model`` maps to [-1, 1].
PictureRange = Literal["model", "imagenet"]

# What a file's model does; together with its config it decides the weight map.
Kind = Literal[
    "masked_data_modeling",
    "retrieval",
    "vqa",
    "nlvr2",
    "image_classification",
    "captioning",
    "masked_image_modeling",
    "backbone",
    "visual_tokenizer",
    "semantic_segmentation",
    "detection",
    "panoptic",
    "text_tokenizer",
]


@dataclass(frozen=True, slots=True)
class Score:
    """A published result.

    Args:
        metric: What was measured, as the document's column says.
        value: In the document's own unit; shares are percentages.
    """

    metric: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredPictures:
    """How the published tests of a segmenter show pictures.

    Args:
        crop: Side of the windows in pixels.
        scale: (longer, shorter) side that pictures are fitted into, their shape kept.
        fit: At one scale ``multiple_of_32`` then rounds sides up to multiples of 32, ``plain`` leaves them.
        flip: True averages with the flipped picture at one scale, too.
        ratios: Factors of ``scale`` where there are several; each is shown flipped as well.
        padding: What then fills pictures smaller than the crop; ``none`` enlarges them.
    """

    crop: int
    scale: tuple[int, int]
    fit: Literal["multiple_of_32", "plain"] = "multiple_of_32"
    flip: bool = False
    ratios: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    padding: Literal["none", "black", "mean"] = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialFile:
    """One file that its authors released.

    What no document says is None; nothing here is guessed.

    Args:
        name: What `load_model` calls it.
        url: Where it lies.
        kind: What its model does, which also chooses the weight map.
        description: In words: how it was trained.
        layout: Whose names its tensors have.
        config: Sizes of its model; None for a text tokenizer, and where no document tells them.
        num_labels: Answers, classes or visual tokens that its head tells apart.
        pictures: The range of the pictures that a BEiT, a segmenter or a detector was trained on; one cannot
            see it in the weights.
        scored: How the published tests of a segmenter show pictures.
        scored_scale: (longer, shorter) side that those of a detector are fitted into.
        parameters: Published number of parameters in millions.
        trained_from: Name of the checkpoint that fine-tuning began with.
        scores: Published results.
        licence: Under which it was released.
        size: Bytes.
        sha256: Hexadecimal digest of the file.
        dropped: Regular expressions of official names that are left out on purpose.
    """

    name: str
    url: str
    kind: Kind
    description: str
    layout: Literal["official", "timm-vision"] = "official"
    config: Config | None = None
    num_labels: int | None = None
    pictures: PictureRange | None = None
    scored: ScoredPictures | None = None
    scored_scale: tuple[int, int] | None = None
    parameters: float | None = None
    trained_from: str | None = None
    scores: tuple[Score, ...] = ()
    licence: str | None = None
    size: int | None = None
    sha256: str | None = None
    dropped: tuple[str, ...] = ()
