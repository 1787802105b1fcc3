"""The weights of a model under our names, the model itself, and other picture sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

import torch
from torch import Tensor, nn

from imglish.errors import CheckpointError
from imglish.hub.official_file import Config, Kind, PictureRange
from imglish.hub.sizes import Hints, hints_of
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.models.beit3.weights import resize_positions
from imglish.models.detectors.vit_detector import ViTDetectorConfig, vit_detector
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig, vit_segmenter
from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
from imglish.models.vit.model import Pooling, ViT, ViTForClassification
from imglish.models.vit.positions import (
    RelativePositionBias,
    relative_position_index,
    resample_positions,
    resize_positions as resize_vit_positions,
    resize_relative_positions,
)
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd

State = Mapping[str, Tensor]
Size = tuple[int, int]

_VIT = "backbone.backbone."  # prefix of the ViT in a segmenter

_LABEL_TENSORS: dict[Kind, str] = {
    "masked_data_modeling": "image_head.bias",
    "vqa": "head.output.bias",
    "image_classification": "head.bias",
    "masked_image_modeling": "token_head.bias",
    "visual_tokenizer": "quantizer.codebook",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The weights of a model under our names.

    Args:
        kind: What the model does.
        config: Its sizes.
        state: Its state dict, numbers and types as they were in the file.
        where: The file it came from, for messages.
        pooling: How a BEiT reads its class.
        aggregation: How the class token gathers the picture in BEiT v2's pretraining; None where it does not.
        pictures: The range of the pictures that a BEiT, a segmenter or a detector was trained on; None where
            nobody says.
        labels: Names of a segmenter's or detector's classes, where the file tells them.
        official: Name of the official detector that it is, where the file is known.
        vision_only: True where the file holds a BEiT-3's vision side alone.
        dropped: Names of the file that were left out on purpose; of a head that was, ours.
    """

    kind: Kind
    config: Config
    state: dict[str, Tensor]
    where: str
    pooling: Pooling = "mean"
    aggregation: PatchAggregationConfig | None = None
    pictures: PictureRange | None = None
    labels: tuple[str, ...] | None = None
    official: str | None = None
    vision_only: bool = False
    dropped: tuple[str, ...] = ()

    @property
    def label_tensor(self) -> str | None:
        """Name of the tensor whose length is the number of labels; None where the kind's head fixes it."""
        return _LABEL_TENSORS.get(self.kind)

    @property
    def num_labels(self) -> int:
        """Answers, classes or visual tokens that the head tells apart; 0 where it has none."""
        if isinstance(self.config, ViTSegmenterConfig | ViTDetectorConfig):
            return self.config.num_classes
        if self.label_tensor is None:
            return 2 if self.kind == "nlvr2" else 0
        return len(self.state[self.label_tensor])

    def hints(self) -> Hints:
        """What a later reader cannot see in the shapes."""
        hints = hints_of(self.config, self.pooling if isinstance(self.config, ViTConfig) else None)
        early_layers = None if self.aggregation is None else self.aggregation.early_layers
        return hints._replace(
            early_layers=early_layers, pictures=self.pictures, labels=self.labels, official=self.official
        )


def empty_model(weights: Weights) -> nn.Module:
    """The model that the weights are of, on the meta device: names and shapes without numbers."""
    with torch.device("meta"):
        match weights.config:
            case Beit3Config() as config:
                model = _beit3(weights.kind, config, weights.num_labels)
            case ViTConfig() as vit:
                model = _vit(weights, vit)
            case VqkdConfig() as tokenizer:
                model = Vqkd(tokenizer)
            case ViTSegmenterConfig() as segmenter:
                model = vit_segmenter(segmenter)
            case ViTDetectorConfig() as detector:
                model = vit_detector(detector)
            case _:
                assert_never(weights.config)
    if weights.vision_only:
        _take_out_text(model)
    return model


def _beit3(kind: Kind, config: Beit3Config, num_labels: int) -> nn.Module:
    match kind:
        case "masked_data_modeling":
            return Beit3ForMaskedDataModeling(config, codebook_size=num_labels)
        case "retrieval":
            return Beit3ForRetrieval(config)
        case "vqa":
            return Beit3ForVqa(config, num_answers=num_labels)
        case "nlvr2":
            return Beit3ForNlvr2(config)
        case "image_classification":
            return Beit3ForImageClassification(config, num_classes=num_labels)
        case "captioning":
            return Beit3ForCaptioning(config)
        case _:
            return Beit3Encoder(config)


def _vit(weights: Weights, config: ViTConfig) -> nn.Module:
    match weights.kind:
        case "image_classification":
            return ViTForClassification(config, weights.num_labels, pooling=weights.pooling)
        case "masked_image_modeling":
            return ViTForMaskedImageModeling(
                config, codebook_size=weights.num_labels, aggregation=weights.aggregation
            )
        case _:
            return ViT(config)


class _NoText(nn.Module):
    """Stands where text experts would be in a model of the vision side alone."""

    def forward(self, *_: Tensor) -> Tensor:
        raise CheckpointError(
            "these weights hold BEiT-3's vision side only, so no text can be read; load an official file"
        )


def _take_out_text(model: nn.Module) -> None:
    """Leave a BEiT-3 its vision side: texts and hidden patches then fail, not meet random weights."""
    for name, module in list(model.named_modules()):
        if name.rpartition(".")[2] in ("text", "text_embedding"):
            model.set_submodule(name, _NoText())
        elif isinstance(module, Beit3Encoder):
            module.vision_embedding.register_parameter("mask_token", None)


def fill(weights: Weights, device: torch.device | str = "cpu") -> nn.Module:
    """The model with its weights in float32, in evaluation mode.

    Args:
        weights: Checked, as `to_imglish` gives them; what is float32 already is used as it lies in memory.
        device: Where the model is put.
    """
    model = empty_model(weights)
    numbers = {name: w.float() if w.is_floating_point() else w for name, w in weights.state.items()}
    model.load_state_dict(numbers, assign=True)
    indices: dict[tuple[Size, bool], Tensor] = {}  # blocks share them: 80 MB of a picture of 896 pixels
    for module in model.modules():
        if isinstance(module, RelativePositionBias):
            # It follows from the grid and is no weight.
            form = (module.grid_size, module.class_token)
            if form not in indices:
                indices[form] = relative_position_index(form[0], class_token=form[1])
            module.index = indices[form]
    return model.to(device).eval()


def backbone_of(weights: Weights) -> Weights:
    """The encoder of a model without its head: of a BEiT-3, or of a BEiT its ViT.

    Args:
        weights: Of any kind but a visual tokenizer, a segmenter or a detector; a backbone is returned as it
            is.

    Raises:
        CheckpointError: They are of a visual tokenizer, a segmenter or a detector.
    """
    if weights.kind == "backbone":
        return weights
    if isinstance(weights.config, VqkdConfig | ViTSegmenterConfig | ViTDetectorConfig):
        what = {"visual_tokenizer": "visual tokenizer", "semantic_segmentation": "segmenter"}.get(
            weights.kind, "detector"
        )
        raise CheckpointError(f"{weights.where}: a {what}, which is no backbone; give a BEiT or BEiT-3")
    prefix = "encoder." if isinstance(weights.config, Beit3Config) else "vit."
    state = {name.removeprefix(prefix): w for name, w in weights.state.items() if name.startswith(prefix)}
    heads = tuple(name for name in weights.state if not name.startswith(prefix))
    return replace(
        weights, kind="backbone", state=state, aggregation=None, dropped=(*weights.dropped, *heads)
    )


def resize(weights: Weights, image_size: Size) -> Weights:
    """Resample the position tables to another picture size, as the official loaders do.

    Those of tokenizers are resampled as their official models do at run time: no loader of theirs does.

    Args:
        weights: Of any kind.
        image_size: (height, width) in pixels.

    Raises:
        CheckpointError: The size does not divide into patches, or they are of a detector.
    """
    config, state = weights.config, dict(weights.state)
    if isinstance(config, ViTDetectorConfig) or weights.kind == "panoptic":
        raise CheckpointError(f"{weights.where}: a detector takes pictures of any size; leave image_size out")
    if min(image_size) < 1:
        raise CheckpointError(f"{weights.where}: image_size {image_size}; expected (height, width) in pixels")
    try:
        match config:
            case Beit3Config():
                bigger: Config = replace(config, image_size=image_size)
                name = next(name for name in state if name.endswith("vision_embedding.positions.weight"))
                grid = (image_size[0] // config.patch_size, image_size[1] // config.patch_size)
                state[name] = resize_positions(state[name], config.grid_size, grid)
            case ViTConfig():
                bigger = replace(config, image_size=image_size)
                for prefix in ("",) if weights.kind == "backbone" else ("vit.", "class_blocks."):
                    _resize_vit(state, prefix, config.grid_size, bigger.grid_size, resize_vit_positions)
            case VqkdConfig(encoder=encoder):
                bigger = replace(config, encoder=replace(encoder, image_size=image_size))
                for prefix, old, new in (
                    ("encoder.", encoder.grid_size, bigger.encoder.grid_size),
                    ("decoder.", config.decoder.grid_size, bigger.decoder.grid_size),
                ):
                    _resize_vit(state, prefix, old, new, resample_positions)
            case ViTSegmenterConfig(vit=vit):
                bigger = replace(config, vit=replace(vit, image_size=image_size))
                fit = partial(resize_vit_positions, num_prefix=int(vit.class_position))
                _resize_vit(state, _VIT, vit.grid_size, bigger.vit.grid_size, fit)
            case _:
                assert_never(config)
    except ValueError as error:  # of the config
        raise CheckpointError(f"{weights.where}: {error}; give another image_size") from error
    return replace(weights, config=bigger, state=state)


def _resize_vit(
    state: dict[str, Tensor],
    prefix: str,
    old: Size,
    new: Size,
    fit: Callable[[Tensor, Size, Size], Tensor],
) -> None:
    """Fit a ViT's position tables in ``state`` to another grid (rows, columns), absolute ones by ``fit``."""
    for name, table in state.items():
        if name == f"{prefix}positions":
            state[name] = fit(table.float(), old, new).to(table.dtype)
        elif name.startswith(prefix) and name.endswith("relative_positions.table"):
            state[name] = resize_relative_positions(table, old, new)
