"""Official weights to ours and back, and to timm's BEiT-3 vision layout; exact, at any picture size.

Renaming changes no number. What is left out has a name: `Weights.dropped` and the maps say which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import assert_never

from torch import Tensor

from imglish.errors import CheckpointError
from imglish.hub import timm_vision
from imglish.hub.detector_sizes import (
    PANOPTIC_HEAD,
    detection_family,
    detector_config,
    official_detector,
    panoptic_config,
    without_beside_averages,
)
from imglish.hub.segmenter_sizes import official_family, official_head, segmenter_config
from imglish.hub.sizes import Hints, aggregation_config, beit3_config, vit_config, vqkd_config
from imglish.hub.weight_maps import Layout, Recognised, beit3_map, recognise, vit_map
from imglish.hub.weights import Size, State, Weights, empty_model, resize
from imglish.models.beit3.config import Beit3Config
from imglish.models.detectors.vit_detector import (
    ViTDetectorConfig,
    to_official as detector_to_official,
    to_ours as detector_to_ours,
)
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.vit_segmenter import (
    ViTSegmenterConfig,
    to_official as segmenter_to_official,
    to_ours as segmenter_to_ours,
)
from imglish.models.segmenters.weights import DECODE_HEAD
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import Pooling
from imglish.models.vit.plain_weights import google_heads, prepared, to_official as plain_to_official
from imglish.models.vit.positions import relative_position_index
from imglish.models.vit.weights import INDEX, pretraining_to_official, to_official as vit_to_official
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.weights import (
    VQKD_MAP,
    from_official as vqkd_from_official,
    to_official as vqkd_to_official,
)
from imglish.models.weight_map import check_state


def to_imglish(
    state: State, *, where: str, hints: Hints | None = None, image_size: Size | None = None
) -> Weights:
    """Recognise a state dict of any layout, rename it, and make sure that it is whole.

    Args:
        state: As read from a file.
        where: The file, for messages.
        hints: What is known of its model besides.
        image_size: (height, width) the model shall take; position tables are resampled for it.

    Raises:
        CheckpointError: It is of no known model, a tensor is missing, left over or of another shape, its
            sizes are not clear, or its positions cannot be resampled.
    """
    found = recognise(state, where)
    try:
        weights = _rename(found, state, where, hints or Hints(), image_size)
    except (KeyError, IndexError, TypeError, RuntimeError) as error:  # a tensor is absent or misshapen
        raise CheckpointError(
            f"{where}: damaged {found.kind} weights ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "get the file anew"
        ) from error
    except ValueError as error:  # of a config
        raise CheckpointError(f"{where}: {error}; pass another num_heads or image_size") from error
    labels = weights.label_tensor
    if labels is not None and (labels not in weights.state or not len(weights.state[labels])):
        raise CheckpointError(
            f"{where}: {labels} is missing or empty, so it tells nothing apart; get the file anew"
        )
    check_state(weights.state, empty_model(weights).state_dict(), where=where)
    return weights if image_size is None else resize(weights, image_size)


def _rename(found: Recognised, state: State, where: str, hints: Hints, asked: Size | None) -> Weights:
    match found.family:
        case "beit3":
            return _rename_beit3(found, state, where, hints, asked)
        case "vit":
            return _rename_vit(found, state, where, hints, asked)
        case "vqkd":
            ours = dict(state)
            if found.layout == "official":
                ours = _mapped(lambda official: vqkd_from_official(dict(official)), state, where)
            return Weights(
                kind=found.kind,
                config=vqkd_config(ours, hints, asked, where),
                state=ours,
                where=where,
                dropped=_matching(state, VQKD_MAP.dropped),
            )
        case "segmenter":
            return _rename_segmenter(found, state, where, hints, asked)
        case "detector":
            return _rename_detector(found, state, where, hints)


def _rename_beit3(found: Recognised, state: State, where: str, hints: Hints, asked: Size | None) -> Weights:
    names = beit3_map(found.kind)
    dropped: tuple[str, ...] = ()
    ours, alone = dict(state), found.kind == "backbone"
    match found.layout:
        case "official":
            ours = _mapped(names.to_ours, state, where)
            dropped = names.dropped
        case "timm-vision":
            official = _mapped(timm_vision.from_timm, state, where)
            if alone:
                official = _below(official, "beit3.")
            ours = _mapped(names.to_ours, official, where)
            dropped = (r"fc_norm\..*",) if alone else (r"norm\..*",)
        case "imglish":
            pass
    return Weights(
        kind=found.kind,
        config=beit3_config(ours if alone else _below(ours, "encoder."), hints, asked, where),
        state=ours,
        where=where,
        vision_only=not any("text_embedding." in name for name in ours),
        dropped=_matching(state, dropped),
    )


def _rename_vit(found: Recognised, state: State, where: str, hints: Hints, asked: Size | None) -> Weights:
    pooling: Pooling = hints.pooling or "mean"
    ours = dict(state)
    dropped: tuple[str, ...] = ()
    if found.layout == "official":
        if found.kind == "image_classification":
            pooling = "mean" if "fc_norm.weight" in state else "class_token"
            if pooling == "class_token" and not {"cls_token", "cls"} & state.keys():
                raise CheckpointError(
                    f"{where}: a head, but neither cls_token nor fc_norm.weight that it reads; "
                    "get the file anew"
                )
        if (form := found.form) is not None:
            hints = hints._replace(num_heads=hints.num_heads or google_heads(state))
            state = _mapped(
                lambda official: prepared(official, form, _num_patches(official, hints)), state, where
            )
        names = vit_map(found.kind, pooling, form)
        ours, dropped = _mapped(names.to_ours, state, where), names.dropped
    config = vit_config(ours if found.kind == "backbone" else _below(ours, "vit."), hints, asked, where)
    pretraining = found.kind == "masked_image_modeling"
    return Weights(
        kind=found.kind,
        config=config,
        state=ours,
        where=where,
        pooling=pooling,
        aggregation=aggregation_config(ours, config.depth, hints, where) if pretraining else None,
        pictures=hints.pictures,
        dropped=_matching(state, dropped),
    )


def _num_patches(state: State, hints: Hints) -> int | None:
    """Patches of the pictures that a file under timm's names is said to be made for."""
    kernel = state.get("patch_embed.proj.weight")
    if hints.image_size is None or kernel is None:
        return None
    return (hints.image_size[0] // kernel.shape[-1]) * (hints.image_size[1] // kernel.shape[-1])


def _rename_segmenter(
    found: Recognised, state: State, where: str, hints: Hints, asked: Size | None
) -> Weights:
    ours = dict(state)
    if found.layout == "official":
        family, head = official_family(state), official_head(state, where)
        has_adapter = "backbone.level_embed" in state
        ours = _mapped(lambda w: segmenter_to_ours(w, family, head, has_adapter=has_adapter), state, where)
    config = segmenter_config(ours, hints, asked, where)
    return Weights(
        kind=found.kind,
        config=config,
        state=ours,
        where=where,
        pictures=hints.pictures,
        labels=_labels(hints, config.num_classes, where),
        dropped=_matching(state, (INDEX,)),
    )


def _labels(hints: Hints, number: int, where: str) -> tuple[str, ...] | None:
    """Names of the classes, if they are told, for each class one."""
    if hints.labels is not None and len(hints.labels) != number:
        raise CheckpointError(
            f"{where}: names {len(hints.labels)} classes, its head tells {number}; get the file anew"
        )
    return hints.labels


def _rename_detector(found: Recognised, state: State, where: str, hints: Hints) -> Weights:
    ours, beside = dict(state), tuple[str, ...]()
    if found.layout == "official":
        official, beside = without_beside_averages(state)
        family, heads = detection_family(official), official_detector(official, where)
        has_adapter = "backbone.level_embed" in official
        if isinstance(heads, Mask2FormerConfig):
            ours = _mapped(
                lambda w: segmenter_to_ours(w, family, heads, has_adapter=has_adapter, head=PANOPTIC_HEAD),
                official,
                where,
            )
        else:
            ours = _mapped(
                lambda w: detector_to_ours(w, family, heads, has_adapter=has_adapter), official, where
            )
    read = panoptic_config if found.kind == "panoptic" else detector_config
    config: ViTSegmenterConfig | ViTDetectorConfig = read(ours, hints, where)
    return Weights(
        kind=found.kind,
        config=config,
        state=ours,
        where=where,
        pictures=hints.pictures,
        labels=_labels(hints, config.num_classes, where),
        official=hints.official,
        dropped=(*_matching(state, (INDEX,)), *beside),
    )


def _mapped(rename: Callable[[State], dict[str, Tensor]], state: State, where: str) -> dict[str, Tensor]:
    """Rename, and say where a name was not expected."""
    try:
        return rename(state)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}; expected one model's names and no others") from error


def _below(state: State, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)}


def _matching(names: Iterable[str], patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns))


def convert(weights: Weights, layout: Layout) -> dict[str, Tensor]:
    """Weights under the names of a layout.

    Raises:
        CheckpointError: The layout has no names for this model.
    """
    match layout:
        case "imglish":
            return dict(weights.state)
        case "official":
            return to_official(weights)
        case "timm-vision":
            return to_timm_vision(weights)


def to_official(weights: Weights) -> dict[str, Tensor]:
    """Weights under the official names; what was dropped on reading and follows from the rest is added.

    Raises:
        CheckpointError: The file held a vision side only, or the model has parts that no official one has,
            such as the paper's shared attention.
    """
    if weights.vision_only:
        raise CheckpointError(
            f"{weights.where}: holds BEiT-3's vision side only, the official layout has texts, too; "
            "convert to imglish or timm-vision"
        )
    match weights.config:
        case Beit3Config():
            return _mapped(beit3_map(weights.kind).to_official, weights.state, weights.where)
        case ViTConfig(attention_bias="all") as config:
            return _mapped(
                lambda ours: _plain_to_official(ours, config, weights), weights.state, weights.where
            )
        case ViTConfig() as config if weights.kind == "image_classification":
            return vit_to_official(weights.state, config, weights.pooling)
        case ViTConfig() as config if weights.kind == "masked_image_modeling":
            return pretraining_to_official(weights.state, config)
        case ViTConfig() as config:
            official = vit_map(weights.kind, weights.pooling).to_official(weights.state)
            tables = [name for name in official if name.endswith("relative_position_bias_table")]
            index = relative_position_index(config.grid_size)
            return official | {name.replace("bias_table", "index"): index for name in tables}
        case VqkdConfig():
            return vqkd_to_official(weights.state)
        case ViTSegmenterConfig() as segmenter:
            head = PANOPTIC_HEAD if weights.kind == "panoptic" else DECODE_HEAD
            return segmenter_to_official(weights.state, segmenter, head=head)
        case ViTDetectorConfig() as detector:
            return detector_to_official(weights.state, detector)
        case _:
            assert_never(weights.config)


def _plain_to_official(state: State, config: ViTConfig, weights: Weights) -> dict[str, Tensor]:
    pooling = weights.pooling if weights.kind == "image_classification" else None
    return plain_to_official(state, uniperceiver=config.embedding_norm, pooling=pooling)


def to_timm_vision(weights: Weights) -> dict[str, Tensor]:
    """A BEiT-3's vision side under timm's names; see `timm_vision` for what is left out.

    Weights of classification make timm's model with a class head, others its model with ``num_classes=0`` and
    ``global_pool="token"`` (a VQA model has no output norm, which timm's then misses).

    Raises:
        CheckpointError: The model is no BEiT-3, or has parts that timm's has not.
    """
    if not isinstance(weights.config, Beit3Config):
        raise CheckpointError(
            f"{weights.where}: only BEiT-3 has the timm-vision layout, these are weights of another model "
            f"({weights.kind}); convert to official, whose names timm reads for BEiT"
        )
    official = _mapped(beit3_map(weights.kind).to_official, weights.state, weights.where)
    if weights.kind == "backbone":
        official = {f"beit3.{name}": tensor for name, tensor in official.items()}
    return _mapped(timm_vision.to_timm, official, weights.where)
