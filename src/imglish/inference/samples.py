"""Pictures of the World to try a model with, drawn on the spot."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from imglish.data.world.questions import questions
from imglish.data.world.render import render
from imglish.data.world.scene import WorldConfig, draw_scene


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A picture to try.

    Args:
        name: Of letters, digits and hyphens.
        png: The picture as a PNG file.
        question: Something to ask about it.
    """

    name: str
    png: bytes
    question: str


def draw_samples(count: int, *, size: int = 64, seed: int = 0) -> tuple[Sample, ...]:
    """Draw pictures of the World's validation split, which no model was trained on.

    Args:
        count: How many.
        size: Height and width in pixels, 64 to 256.
        seed: Of the World; 0 is the one that the embedded weights were trained on.

    Returns:
        The same pictures for the same arguments, on every machine.

    Raises:
        ValueError: A number is out of range.
    """
    world = WorldConfig(seed=seed, picture_size=size)
    samples = []
    for index in range(count):
        scene = draw_scene(world, "validation", index)
        buffer = io.BytesIO()
        Image.fromarray(render(scene)).save(buffer, "PNG")
        asked = questions(scene)[0].text
        samples.append(Sample(name=f"world-{index + 1:02}", png=buffer.getvalue(), question=asked))
    return tuple(samples)
