"""The World without files: scenes drawn when they are asked for, as shard samples are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imglish.data.world.alt_text import alt_text
from imglish.data.world.language import captions
from imglish.data.world.render import render
from imglish.data.world.scene import Scene, WorldConfig, draw_scene
from imglish.data.world.texts import dialogues, remarks, text


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneStream:
    """Numbered scenes of one split, with their pictures and texts.

    Args:
        world: Which World.
        split: One of `SPLITS`.
        length: How many scenes; scene ``i`` is the same whatever the length.
        with_alt_texts: True gives, beside the five captions, as many terse texts.
        with_questions: True gives, beside the five captions, as many texts of questions with their answers.
        favoured_questions: Kinds of questions that most of these texts keep to.
        with_statements: True gives, beside the five captions, as many statements with their judgement.
    """

    world: WorldConfig
    split: str
    length: int
    with_alt_texts: bool = False
    with_questions: bool = False
    favoured_questions: tuple[str, ...] = ()
    with_statements: bool = False

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """The scene graph of sample ``index``."""
        return draw_scene(self.world, self.split, index)

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W) and texts of sample ``index``."""
        scene = self.scene(index)
        picture = torch.from_numpy(render(scene)).permute(2, 0, 1).contiguous()
        texts = captions(scene)
        number = len(texts)
        if self.with_alt_texts:
            texts += (alt_text(scene),) * number
        if self.with_questions:
            texts += dialogues(scene, number, self.favoured_questions)
        if self.with_statements:
            texts += remarks(scene, number)
        return picture, texts


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldTexts:
    """Numbered documents of the World's text-only corpus."""

    world: WorldConfig
    split: str
    length: int

    def __len__(self) -> int:
        return self.length

    def text(self, index: int) -> str:
        """Document ``index``."""
        return text(self.world, self.split, index)
