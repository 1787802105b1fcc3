"""What dense features hold, as colours: a plain ViT's map beside those of its adapter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imglish.errors import ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.pictures import Picture
from imglish.inference.visualize_drawing import Tile, lines_of, sheet
from imglish.inference.visualize_seen import ShownPicture, see, sight_of
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.backbone import PlainBackbone, patches_of, plain_backbone
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.padding import pad_images
from imglish.structures.pyramid import FeaturePyramid

_SPREAD = (1.0, 99.0)  # percentiles of a component that become dark and bright
_EVERY_PATCH = (4, 8, 14, 16, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureMaps:
    """Features of a picture.

    Args:
        maps: float32 (C, rows, columns) by what they are, such as "ViT, stride 16" and "adapter, stride 4".
        seen: The picture as the model was shown it.
    """

    maps: dict[str, NDArray[np.float32]]
    seen: ShownPicture

    def draw(self, *, tile: int = 224) -> Image.Image:
        """A sheet of the picture and of each map in the colours of `principal_colors`.

        Each map has its own components: colours of two maps can not be compared, their edges can.

        Args:
            tile: Height of a picture on the sheet in pixels.
        """
        tiles = [Tile(self.seen.pixels, "picture", smooth=True)]
        for name, features in self.maps.items():
            colors = np.rint(principal_colors(features) * 255).astype(np.uint8)
            tiles.append(Tile(colors, f"{name}\n{features.shape[1]} x {features.shape[2]}"))
        return sheet(lines_of(tiles, 6), height=tile, aspect=self.seen.aspect)


@torch.no_grad()
def feature_maps(run: LoadedRun, picture: Picture) -> FeatureMaps:
    """The map of a plain ViT, and where it has an adapter, the adapter's maps of strides 4 to 32.

    The plain ViT's map is what the same weights give after all of their blocks by themselves, without the
    adapter's injections.

    Args:
        run: What `load_model` returned: of a segmenter or detector for both, of a BEiT-3, ViT or visual
            tokenizer for the ViT alone.
        picture: Of any kind that `Predictor` takes.

    Raises:
        DataFormatError: The picture cannot be used.
    """
    sight, seen = sight_of(run.model, dense=True), see(run, picture)
    side = sight.patch_size
    maps = {
        f"ViT, stride {side}": _plain(
            sight.vit if sight.backbone is None else sight.backbone.backbone, seen, side
        )
    }
    if sight.backbone is not None:
        called = "adapter" if isinstance(sight.backbone, ViTAdapter) else "pyramid without adapter"
        pyramid = sight.backbone(seen.images)
        assert isinstance(pyramid, FeaturePyramid)
        for stride in pyramid.strides:
            maps[f"{called}, stride {stride}"] = _array(pyramid[stride][0], seen.size, stride)
    return FeatureMaps(maps=maps, seen=seen)


def principal_colors(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first three principal components of features as red, green and blue.

    Args:
        features: (C, rows, columns); with fewer than three channels or places the rest is 0.5.

    Returns:
        float32 (rows, columns, 3) in [0, 1]: each component from its 1st to its 99th percentile; its sign is
        such that its largest weight is positive, so that the same features always have the same colours.

    Raises:
        ConfigError: The features are not of three dimensions, or not finite.
    """
    if features.ndim != 3 or not features.size:
        raise ConfigError(f"features of shape {features.shape}; expected (channels, rows, columns)")
    if not np.isfinite(features).all():
        raise ConfigError("features are not finite: infinities or NaN have no colour")
    flat = features.reshape(len(features), -1).T.astype(np.float64)
    flat = flat - flat.mean(axis=0)
    _, strengths, directions = np.linalg.svd(flat, full_matrices=False)
    colors = np.full((len(flat), 3), 0.5)
    for number, (strength, direction) in enumerate(zip(strengths[:3], directions[:3], strict=True)):
        if strength <= 1e-9 * strengths[0] or strengths[0] == 0:
            continue
        turned = direction * np.sign(direction[np.abs(direction).argmax()])
        component = flat @ turned
        low, high = np.percentile(component, _SPREAD)
        colors[:, number] = np.clip((component - low) / max(high - low, 1e-12), 0, 1)
    return colors.reshape(*features.shape[1:], 3).astype(np.float32)


def _plain(vit: torch.nn.Module, seen: ShownPicture, side: int) -> NDArray[np.float32]:
    """The map (C, rows, columns) of a plain ViT after all of its blocks."""
    if isinstance(vit, Beit3Encoder):
        tokens = vit(seen.images).vision[:, 1:]
        grid = vit.config.grid_size
    elif isinstance(vit, ViT):
        tokens, grid = vit(seen.images), vit.check_grid(seen.images)
    else:
        backbone: PlainBackbone = plain_backbone(vit, patch_sizes=_EVERY_PATCH)
        x, grid = backbone.embed(pad_images(seen.images))
        tokens = patches_of(backbone.run_blocks(x, 0, backbone.depth, grid), backbone.num_prefix)
    return _array(tokens[0].T.unflatten(1, grid), seen.size, side)


def _array(features: Tensor, size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """Features (C, ., .) without what pads the picture."""
    rows, columns = (-(-length // stride) for length in size)
    return np.ascontiguousarray(features[:, :rows, :columns].float().cpu().numpy())
