"""What tells the weights of one index from those of another."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import torch

from imglish.hub.run import LoadedRun
from imglish.inference.predictor import Predictor

_SHOWN = ("pictures", "crop_share")  # settings of a run that change what its model is shown


class ModelIdentity(NamedTuple):
    """The weights whose vectors an index holds.

    Args:
        name: What they were called, for people; another name of the same weights is no other model.
        weights: SHA-256, in hexadecimal, of all weights and of how pictures are shown to them.
        width: Numbers in a vector.
    """

    name: str
    weights: str
    width: int


def model_identity(predictor: Predictor) -> ModelIdentity:
    """Identity of a predictor's dual encoder; reads all its weights (a second for the large models).

    Raises:
        CheckpointError: The predictor has no dual encoder.
    """
    run = predictor.dual_encoder()
    return ModelIdentity(predictor.name, weights_hash(run), run.config.width)


def weights_hash(run: LoadedRun) -> str:
    """SHA-256, in hexadecimal, of a model's weights with their names, and of how pictures are shown to it.

    It does not depend on the device; weights in another precision are other weights.
    """
    shown = {name: run.settings.get(name) for name in _SHOWN} | {"image_size": list(run.config.image_size)}
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode())
    for name, weight in sorted(run.model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
