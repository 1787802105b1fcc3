"""Learning rates and weight decay of a segmenter's or detector's parameters (adapter FACTS, section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import nn

from imglish.errors import ConfigError
from imglish.models.segmenters.layers import is_bias, is_decayed_by_name, is_new, layer_of
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.vit_adapter.backbone import PlainBackbone
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.last_map import LastMap
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.presets import Tree
from imglish.train.config import OptimizerConfig
from imglish.train.optimizer import layer_scale

_PROPOSALS = "proposals."  # Sparse R-CNN's learned boxes and features; its config has a rule for them
_PROPOSAL_RATE, _PROPOSAL_DECAY = 0.25, 0.002  # beside those of all else


def stands_on_maps(model: nn.Module) -> bool:
    """Whether a model is a segmenter or detector: its ``backbone`` makes maps of a plain ViT."""
    return isinstance(getattr(model, "backbone", None), (ViTAdapter, PlainViT, LastMap))


def dense_rates(
    model: nn.Module, optimizer: OptimizerConfig, tree: Tree = "segmentation"
) -> Callable[[str], float]:
    """Learning-rate factor of a parameter by its name: of its layer, or of neck and heads, which are new.

    Args:
        model: A segmenter or detector: its ``backbone`` holds a plain ViT as ``backbone``.
        optimizer: Rates and decays.
        tree: Whose rule: in the segmentation tree, and there alone, parts of Mask2Former's head have the
            rate of the ViT's embeddings.
    """
    depth = _depth(model)
    masks = isinstance(model, Mask2Former) and tree == "segmentation"

    def rate(name: str) -> float:
        if optimizer.layer_decay < 1:
            return layer_scale(layer_of(name, depth, masks=masks), depth, optimizer.layer_decay)
        if optimizer.decay_by == "name" and name.startswith(_PROPOSALS):
            return _PROPOSAL_RATE
        follows = is_new(name) and not (optimizer.decay_by == "name" and is_bias(name))
        return optimizer.head_lr_scale if follows else 1.0

    return rate


def decayed_by_name(
    model: nn.Module, optimizer: OptimizerConfig, tree: Tree = "segmentation"
) -> Callable[[str], float] | None:
    """What says by its name whether a parameter decays, or what share; None where shapes say it.

    Args:
        model: A segmenter or detector.
        optimizer: Rates and decays.
        tree: Whose rule: in the detection tree heads have none of their own, so that norms called so in the
            official code do not decay there either; those that are part of a convolution are called by
            their kind, and do.

    Raises:
        ConfigError: Names shall say it of another model.
    """
    if optimizer.decay_by == "shape":
        return None
    if not stands_on_maps(model):
        raise ConfigError(
            f'optimizer.decay_by is "name", a rule of segmenters and detectors, but this is a '
            f'{type(model).__name__}; set it to "shape"'
        )
    return is_decayed_by_name if tree == "segmentation" else _decays_in_detector


def _decays_in_detector(name: str) -> float:
    """The rule of the detection tree: by ``level_embed``, ``pos_embed``, ``norm`` and ``bias`` everywhere."""
    if name.startswith(_PROPOSALS):
        return _PROPOSAL_DECAY
    return is_decayed_by_name(name) and "_norm." not in name and not name.endswith("level_embedding")


def _depth(model: nn.Module) -> int:
    """Blocks of the plain ViT under a segmenter or detector."""
    maps = model.get_submodule("backbone")
    assert isinstance(maps, ViTAdapter | PlainViT | LastMap)
    return cast(PlainBackbone, maps.backbone).depth
