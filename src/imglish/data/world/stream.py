"""The World without files: scenes drawn when they are asked for, as shard samples are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imglish.data.world.language import captions
from imglish.data.world.render import render
from imglish.data.world.scene import Scene, WorldConfig, draw_scene


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneStream:
    """Numbered scenes of one split, with their pictures and captions.

    Args:
        world: Which World.
        split: One of `SPLITS`.
        length: How many scenes; scene ``i`` is the same whatever the length.
        first: Number of the first scene.
    """

    world: WorldConfig
    split: str
    length: int
    first: int = 0

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """The scene graph of sample ``index``."""
        return draw_scene(self.world, self.split, self.first + index)

    def picture(self, index: int) -> Tensor:
        """The picture of sample ``index``, uint8 (3, H, W)."""
        return torch.from_numpy(render(self.scene(index))).permute(2, 0, 1).contiguous()

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of sample ``index``."""
        return captions(self.scene(index))
