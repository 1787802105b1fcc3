"""Settings of BEiT's and BEiT v2's pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
from imglish.recipes.data_config import at_least, shares


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedImageModelingTask:
    """Masked image modelling on pictures alone: BEiT, and BEiT v2 with its aggregation of patches.

    Args:
        model: The ViT.
        visual_tokenizer: Folder of a visual tokenizer run, ``world``, or official weights by name or as a
            file. Its pictures and patches must have the sizes of the model's.
        early_layers: Blocks after which patches are taken for a second way through the class token
            (BEiT v2); 0 has no such way (BEiT).
        class_layers: Blocks of that way.
        shared_head: True reads both ways by one norm and one head.
        num_masked: Patches to hide.
        min_block: Smallest rectangle of hidden patches.
        exact: True hides exactly so many patches (BEiT v2), False at most so many (BEiT).
        crop_scale: Smallest share of the area that a random crop keeps.
        flip: Chance of a horizontal flip.
        color_jitter: Brightness, contrast and saturation change by up to this share; 0 leaves them.
        pictures: The range of the pictures that the ViT sees: ``imagenet`` (ImageNet's mean and deviation) or
            ``model`` ([-1, 1], which the tokenizer always sees).
        batch_size: Over all ranks.
    """

    kind: Literal["masked_image_modeling"] = "masked_image_modeling"
    model: ViTConfig = ViTConfig(absolute_positions=False, relative_positions="shared", layer_scale=0.1)
    visual_tokenizer: str = ""
    early_layers: int = 0
    class_layers: int = 2
    shared_head: bool = True
    num_masked: int = 75
    min_block: int = 16
    exact: bool = True
    crop_scale: float = 0.2
    flip: float = 0.5
    color_jitter: float = 0.4
    pictures: Literal["model", "imagenet"] = "model"
    batch_size: int = 2048

    def __post_init__(self) -> None:
        at_least(self, early_layers=0, class_layers=1, num_masked=1, min_block=1, batch_size=1)
        shares(self, "crop_scale", "flip", "color_jitter")
        rows, columns = self.model.grid_size
        if self.num_masked > rows * columns:
            raise ValueError(f"num_masked {self.num_masked} is more than the {rows * columns} patches")
        if self.early_layers > self.model.depth:
            raise ValueError(f"early_layers {self.early_layers} is more than model.depth {self.model.depth}")

    @property
    def aggregation(self) -> PatchAggregationConfig | None:
        """The second way through the class token; None where there is none."""
        if self.early_layers == 0:
            return None
        return PatchAggregationConfig(
            early_layers=self.early_layers, num_blocks=self.class_layers, shared_head=self.shared_head
        )
