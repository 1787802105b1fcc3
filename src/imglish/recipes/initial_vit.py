"""Pretrained weights put under any model that holds a plain ViT, ours or one of timm."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from imglish.errors import CheckpointError
from imglish.hub.load import EMBEDDED, read_raw, read_weights
from imglish.hub.manifest import find
from imglish.hub.timm_weights import PREFIX as TIMM, timm_model, timm_weights
from imglish.hub.weights import Weights
from imglish.models.detectors.vit_detector import ViTDetectorConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT, ViTForClassification
from imglish.models.vit.plain_weights import from_google, plain_form
from imglish.models.vit.transfer import fit_state
from imglish.models.vit_adapter.timm_backbone import TimmBackbone
from imglish.models.vit_adapter.timm_weights import from_timm
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.config import SegmentationTask
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.run_folder import RunFolder

log = logging.getLogger(__name__)

_HELD = "backbone.backbone."  # prefix of the ViT in our segmenters


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """What a file gives: weights of the ViT alone, and others by the names they have in their model.

    ``config`` holds the settings of the ViT, None of one of timm. ``kind`` is what its model does.
    """

    vit: Mapping[str, Tensor]
    others: Mapping[str, Tensor]
    config: ViTConfig | None
    kind: str
    dropped: tuple[str, ...] = ()


def find_vit(model: nn.Module) -> tuple[str, ViT] | None:
    """The plain ViT inside a model with the prefix of its names; None where there is none.

    A visual tokenizer has two of them and is no model of either.
    """
    if isinstance(model, Vqkd):
        return None
    for name, module in model.named_modules():
        if isinstance(module, ViT):
            return (f"{name}." if name else ""), module
    return None


def find_timm(model: nn.Module) -> tuple[str, TimmBackbone] | None:
    """The ViT of timm inside a model with the prefix of its names; None where there is none."""
    for name, module in model.named_modules():
        if isinstance(module, TimmBackbone):
            return (f"{name}." if name else ""), module
    return None


def load_vit(model: nn.Module, name: str) -> list[str]:
    """Take over a plain ViT, and what stands on it where it has the same names and shapes.

    Weights are fitted to the model as `fit_state` does it: position tables to other pictures, windows and
    blocks, kernels to other patches; what the model has no place for is left out, and told in the log. A
    classifier that normalises the mean of the patches does so anew after pretraining, which had no such mean
    (parity FACTS, section 10). From a segmenter, adapter, neck and heads are taken, too, each tensor where
    the shape is the same.

    Args:
        model: A model that holds a `ViT`: itself, a classifier, a segmenter.
        name: The folder of a run, official weights by name, a file of them, ``timm:NAME``, or the id of a
            repository of the Hugging Face Hub.

    Returns:
        Names of the parameters that start anew, such as a new head.

    Raises:
        CheckpointError: There are no such weights, or they are of another architecture.
    """
    found = find_vit(model)
    if found is None:
        raise CheckpointError(f"a {type(model).__name__} has no plain ViT that weights could be loaded into")
    prefix, vit = found
    given = _given(name)
    if given.config is None:
        raise CheckpointError(f"{name}: a ViT of timm; set the model's kind to timm to go on with it")
    fitted = fit_state(given.vit, vit.config, where=name, source=given.config)
    if 0 < vit.config.layer_scale < 1:  # factors that the file lacks would start where nobody said
        fitted = {k: w for k, w in fitted.items() if k in given.vit or not k.endswith((".scale1", ".scale2"))}
    _check_vit(fitted, vit, name)
    if given.kind != "image_classification" and _normalises_the_mean(model):
        fitted = {key: tensor for key, tensor in fitted.items() if not key.startswith("norm.")}
    unused = [key for key in given.vit if key not in fitted and not key.startswith("relative_positions.")]
    return _fill(model, prefix, fitted, given.others, [*given.dropped, *unused], name)


def load_timm(model: nn.Module, name: str) -> list[str]:
    """The same for a model that holds a ViT of timm: a `TimmBackbone`.

    Args:
        model: Such a model.
        name: ``timm:NAME``, a file under timm's names or in Google's ``.npz``, official weights by name, or
            the folder of a segmenter's run.

    Returns:
        Names of the parameters that start anew.

    Raises:
        CheckpointError: There are no such weights, or they are of another architecture.
    """
    found = find_timm(model)
    if found is None:
        raise CheckpointError(
            f"a {type(model).__name__} has no ViT of timm that weights could be loaded into"
        )
    prefix, backbone = found
    if _is_run(name):
        given = _given(name)
        _compare(given.vit, backbone.state_dict(), name)
        return _fill(model, prefix, given.vit, given.others, given.dropped, name)
    if name.startswith(TIMM):
        state: Mapping[str, Tensor] = timm_model(name).state_dict()
    else:
        state = read_raw(name).tensors
        if plain_form(state) == "google":
            state = from_google(state)
    fitted, dropped = from_timm(state, backbone, where=name)
    return _fill(model, prefix, fitted, {}, dropped, name)


def _fill(
    model: nn.Module,
    prefix: str,
    vit: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    dropped: Iterable[str],
    name: str,
) -> list[str]:
    """Fill the ViT, and others where they fit; returns what starts anew."""
    state = {prefix + key: tensor for key, tensor in vit.items()} | dict(others)
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    if left_out := [*dropped, *(key for key in others if key not in fitting)]:
        parts = Counter(".".join(key.split(".")[:2]) for key in left_out)
        told = ", ".join(part if count == 1 else f"{part} ({count})" for part, count in parts.items())
        log.info("%s: left out, as the model has no place for it: %s", name, told)
    return sorted(own.keys() - fitting.keys())


def _given(name: str) -> _Given:
    """Read weights for our `ViT`, or those of a run."""
    if name == EMBEDDED:
        raise CheckpointError(f"{name}: no plain ViT, but a BEiT-3; name a BEiT")
    if name.startswith(TIMM):
        return _of_weights(timm_weights(timm_model(name), name), name)
    if not _is_run(name):
        return _of_weights(read_weights(name), name)
    folder = RunFolder(Path(name) if Path(name).is_dir() else Path(name).parent)
    if not folder.weights_path.is_file():
        raise CheckpointError(f"{name}: no finished run, it has no model.safetensors; train it to its end")
    task = folder.config().task if folder.config_path.is_file() else None
    if not isinstance(task, SegmentationTask | DetectionTask):
        return _of_weights(read_weights(folder.weights_path), name)
    config = task.model if isinstance(task.model, ViTConfig) else None
    state = folder.weights()
    vit, others = _apart(state, _HELD)
    if config is None and "projection.weight" not in vit:
        raise CheckpointError(f"{name}: a run over BEiT-3, no plain ViT; name a run of another backbone")
    return _Given(vit=vit, others=others, config=config, kind=task.kind)


def _of_weights(weights: Weights, name: str) -> _Given:
    match weights.config:
        case ViTConfig() as config:
            inside = "" if weights.kind == "backbone" else "vit."
        case ViTSegmenterConfig(vit=config) | ViTDetectorConfig(vit=config):
            inside = _HELD
        case _:
            raise CheckpointError(f"{name}: no plain ViT, but {weights.kind} of another model; name a BEiT")
    vit, others = _apart(weights.state, inside)
    return _Given(vit=vit, others=others, config=config, kind=weights.kind, dropped=weights.dropped)


def _apart(state: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What begins with a prefix, without it, and the others; numbers in float32."""
    numbers = {name: w.float() if w.is_floating_point() else w for name, w in state.items()}
    inside = {name.removeprefix(prefix): w for name, w in numbers.items() if name.startswith(prefix)}
    return inside, {name: w for name, w in numbers.items() if not name.startswith(prefix)}


def _is_run(name: str) -> bool:
    """Whether a name means the folder of a run, or the weights in one."""
    if find(name) is not None or name.startswith(TIMM):
        return False
    path = Path(name)
    in_run = path.name == "model.safetensors" and (path.parent / "config.yaml").is_file()
    return path.is_dir() or (path.is_file() and in_run)


def _check_vit(given: Mapping[str, Tensor], vit: ViT, name: str) -> None:
    """Refuse weights that are not exactly those of the ViT; the last norm may be missing and starts anew."""
    expected = vit.state_dict()
    if not any(key.startswith("norm.") for key in given):
        expected = {key: tensor for key, tensor in expected.items() if not key.startswith("norm.")}
    _compare(given, expected, name)


def _compare(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    for key in sorted(expected.keys() | given.keys()):
        shapes = [tuple(state[key].shape) if key in state else "missing" for state in (given, expected)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{name} belongs to another architecture: {key} is {shapes[0]}, in the model {shapes[1]}; "
                "use the model settings that the weights were trained with"
            )


def _normalises_the_mean(model: nn.Module) -> bool:
    return isinstance(model, ViTForClassification) and model.pooling == "mean"
