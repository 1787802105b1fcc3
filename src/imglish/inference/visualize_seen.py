"""What a model is shown of a picture, which part of it looks at pictures, and the grid of its patches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imglish.data.transforms.detection import DetectionViews
from imglish.data.transforms.image import from_model_range
from imglish.data.transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD
from imglish.data.transforms.segmentation import ScoringViews
from imglish.errors import ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.detection import shown_views
from imglish.inference.pictures import Picture, open_picture, prepare
from imglish.inference.segmentation import shown_pictures
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.joint import JointModel
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.last_map import LastMap
from imglish.models.vit_adapter.model import ViTAdapter

_COARSEST = 32  # sides that dense backbones pad pictures to, in pixels


class ShownPicture(NamedTuple):
    """A picture as a model is shown it.

    Args:
        images: (1, 3, H, W) in the model's range, on its device.
        size: (height, width) of the part of it that is picture; the rest at the right and below is padding.
        pixels: That part as uint8 (height, width, 3), RGB.
        aspect: Width over height of what is seen, in the picture itself.
    """

    images: Tensor
    size: tuple[int, int]
    pixels: NDArray[np.uint8]
    aspect: float


class Sight(NamedTuple):
    """The part of a model that looks at pictures.

    Args:
        encode: Runs it, or the dense backbone around it, on pictures (B, 3, H, W).
        vit: BEiT-3's encoder, our ViT, or another plain backbone, such as timm's.
        backbone: The dense backbone around it; None where there is none.
        windows: Side of each block's windows in patches, 0 where it sees the whole picture; empty: all do.
    """

    encode: Callable[[Tensor], object]
    vit: nn.Module
    backbone: ViTAdapter | PlainViT | LastMap | None
    windows: tuple[int, ...]

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        vit: Any = self.vit
        side: int = vit.config.patch_size if isinstance(vit, Beit3Encoder | ViT) else vit.patch_size
        return side

    def grid(self, images: Tensor) -> tuple[int, int]:
        """(rows, columns) of the patches of pictures (B, 3, H, W), those of padding included."""
        step = _COARSEST if self.backbone is not None else 1
        height, width = (math.ceil(side / step) * step for side in images.shape[-2:])
        return height // self.patch_size, width // self.patch_size


def see(run: LoadedRun, picture: Picture) -> ShownPicture:
    """Show a picture to a model as in its evaluation: detectors and segmenters at one scale, others whole.

    Args:
        run: What `load_model` returned.
        picture: Of any kind that `Predictor` takes.

    Raises:
        DataFormatError: The picture cannot be used.
        CheckpointError: The run's settings of its pictures are damaged.
    """
    image, like, settings = open_picture(picture), next(run.model.parameters()), run.settings
    aspect = image.shape[2] / image.shape[1]
    shown: DetectionViews | ScoringViews | None = None
    if run.kind in ("detection", "panoptic"):
        shown = shown_views(run, None, None).views
    elif run.kind == "semantic_segmentation" and (found := shown_pictures(run, None, None)) is not None:
        shown = found.views
    if shown is not None:
        view = shown(image.contiguous())[0]
        ready, size, imagenet = view.image, view.size, shown.pictures == "imagenet"
    else:
        imagenet, size = settings.get("pictures") == "imagenet", run.config.image_size
        crop_share = settings.get("crop_share", 1.0 if imagenet else None)
        ready = prepare(image, size, imagenet=imagenet, crop_share=crop_share)
        if crop_share is not None and size[0] == size[1]:
            aspect = 1.0
    pixels = _pixels(ready[:, : size[0], : size[1]], imagenet)
    return ShownPicture(ready[None].to(like.device, like.dtype), (size[0], size[1]), pixels, aspect)


def sight_of(model: nn.Module, *, dense: bool = False) -> Sight:
    """Find what looks at pictures.

    Args:
        model: Of a `LoadedRun`, or a `Vqkd`, whose encoder it is then.
        dense: True prefers the dense backbone of a model that serves several tasks with one encoder.

    Raises:
        ConfigError: There is no such part.
    """
    if dense and isinstance(model, JointModel) and model.adapter is not None:
        model = model.adapter
    for module in model.modules():  # what holds others comes before them
        if isinstance(module, ViTAdapter | PlainViT | LastMap):
            vit = module.backbone
            if isinstance(vit, Beit3VisionBackbone):
                return Sight(module, vit.encoder, module, vit.windows)
            return Sight(module, vit, module, _windows(vit))
        if isinstance(module, Beit3Encoder):
            return Sight(module, module, None, ())
        if isinstance(module, ViT):
            return Sight(module.tokens, module, None, _windows(module))
    raise ConfigError(f"{type(model).__name__} has no ViT that looks at pictures")


def _windows(vit: nn.Module) -> tuple[int, ...]:
    return tuple(vit.config.window(block) for block in range(vit.depth)) if isinstance(vit, ViT) else ()


def _pixels(ready: Tensor, imagenet: bool) -> NDArray[np.uint8]:
    """A picture (3, H, W) of a model's range as uint8 (H, W, 3)."""
    if imagenet:
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
        ready = (ready * std + mean) * 2 - 1
    pixels: NDArray[np.uint8] = from_model_range(ready).permute(1, 2, 0).contiguous().numpy()
    return pixels
