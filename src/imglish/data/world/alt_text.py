"""Terse texts such as the alt texts of the web: they name the shapes and leave everything else out.

They matter for pretraining. A full caption is told from others by its colours and its background, so that
a model may match pictures and captions long before it sees a shape; a terse one leaves it nothing else.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from imglish.data.world import grammar
from imglish.data.world.scene import Scene

_NUMBERS = ("", "a", "two", "three", "four", "five", "six")


def alt_text(scene: Scene) -> str:
    """The shapes of a scene, in any order: "two houses and a heart"."""
    rng = np.random.default_rng([scene.seed, 5])
    shapes = Counter(thing.shape for thing in scene.things)
    names = sorted(shapes)
    parts = [_counted(names[i], shapes[names[i]]) for i in rng.permutation(len(names))]
    return grammar.join(parts)


def _counted(shape: str, count: int) -> str:
    if count == 1:
        return grammar.with_article(shape)
    return f"{_NUMBERS[count]} {grammar.PLURALS[shape]}"
