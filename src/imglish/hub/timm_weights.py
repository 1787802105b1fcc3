"""Pretrained weights of timm's models by ``timm:NAME``, from timm's own cache or downloaded by it."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from imglish.errors import CheckpointError
from imglish.hub.convert import to_imglish
from imglish.hub.sizes import Hints
from imglish.hub.weights import Weights

PREFIX = "timm:"


def timm_model(name: str) -> nn.Module:
    """A model of timm with its pretrained weights.

    Args:
        name: ``timm:`` and what timm calls it, with a tag or without.

    Raises:
        CheckpointError: timm has no such model, or its weights cannot be had.
    """
    import timm  # takes a second

    model_name = name.removeprefix(PREFIX)
    if not timm.is_model(model_name.partition(".")[0]):
        close = difflib.get_close_matches(model_name, timm.list_models(), n=1)
        nearest = f"did you mean {PREFIX}{close[0]}?" if close else "timm.list_models() names them"
        raise CheckpointError(f"{name}: no model of timm; {nearest}")
    try:
        model: nn.Module = timm.create_model(model_name, pretrained=True)
    except Exception as error:  # which libraries are below, and so what they raise, depends on the version
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{name}: its weights are not to be had ({reason[:160]}); check the name's tag, the network and "
            "HF_HUB_OFFLINE, or give a file of them"
        ) from error
    return model.eval()


def timm_weights(model: nn.Module, where: str) -> Weights:
    """The weights of a timm model under our names, for models that hold our `ViT`.

    Args:
        model: A timm ``VisionTransformer``, ``Beit`` or ``Eva`` that computes what our `ViT` does.
        where: Its name, for messages.

    Raises:
        CheckpointError: It computes something else, though its names may be the same.
    """
    timm: Any = model
    _check_form(timm, where)
    rows, columns = timm.patch_embed.grid_size
    patch_rows, patch_columns = timm.patch_embed.patch_size
    hints = Hints(
        num_heads=timm.blocks[0].attn.num_heads, image_size=(rows * patch_rows, columns * patch_columns)
    )
    return to_imglish(timm.state_dict(), where=where, hints=hints)


def _check_form(timm: Any, where: str) -> None:
    """Refuse what is not to be seen in names and shapes."""
    from timm.models.beit import Beit
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(timm, VisionTransformer | Beit | Eva):
        raise CheckpointError(
            f"{where}: a {type(timm).__name__} of timm; expected a VisionTransformer, Beit or Eva"
        )
    activation = getattr(timm.blocks[0].mlp, "act", None)
    exact = isinstance(activation, nn.GELU) and activation.approximate == "none"
    parts = {
        "rotary positions": getattr(timm, "rope", None) is not None,
        f"{type(activation).__name__} instead of GELU": not exact,
        "norms after the branches": getattr(timm, "norm_post", False) or hasattr(timm.blocks[0], "post_norm"),
    }
    if found := [part for part, there in parts.items() if there]:
        raise CheckpointError(
            f"{where}: has {' and '.join(found)}, which our ViT has not; take the timm model as the backbone"
        )
