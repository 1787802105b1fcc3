"""BEiT-3 and ViT-Adapter, whole: pretraining, every task, current PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imglish.hub.load import list_models, load_model
    from imglish.inference.predictor import Predictor

    __version__: str

__all__ = ["Predictor", "__version__", "list_models", "load_model"]


def __getattr__(name: str) -> object:
    """Import what is asked for only then, so that ``import imglish`` stays light."""
    if name == "__version__":
        from importlib.metadata import version

        return version("imglish")
    if name == "Predictor":
        from imglish.inference.predictor import Predictor

        return Predictor
    if name in ("list_models", "load_model"):
        from imglish.hub import load

        return getattr(load, name)
    raise AttributeError(f"module 'imglish' has no attribute {name!r}")
