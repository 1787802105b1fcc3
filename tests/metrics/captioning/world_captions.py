"""Captions of 200 scenes of the World with four references each: unlike, alike and badly written ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imglish.data.world.language import captions, swapped_caption
from imglish.data.world.scene import WorldConfig, draw_scene

RECORDED = Path(__file__).parents[1] / "data" / "caption_scores.json"
NUM_SCENES = 200


@dataclass(frozen=True)
class Captions:
    """One candidate for each picture, and its references."""

    candidates: list[str]
    references: list[list[str]]


def recorded() -> tuple[Captions, dict[str, list[float]]]:
    """The captions that were scored, and the scores: one for each, but of ``bleu`` four for all together."""
    data = json.loads(RECORDED.read_text(encoding="utf-8"))
    return Captions(data["candidates"], data["references"]), data["scores"]


def drawn() -> Captions:
    """The captions as the World writes them now; what it wrote when they were scored is in the file."""
    drawn_captions = Captions([], [])
    config = WorldConfig(level="full")
    for index in range(NUM_SCENES):
        scene = draw_scene(config, "validation", index)
        texts = list(captions(scene))
        text = texts.pop(index % len(texts))
        rng = np.random.default_rng(index)
        words = text.split()
        variants = (
            text,
            swapped_caption(scene, rng, "colour", text),
            " ".join(words[: max(1, len(words) // 2)]),
            " ".join(rng.permutation(words)),
            f"{text.capitalize()}.",
            f"\"{text}\" -- isn't it? (It's the artist's No. {index}!)",
            " ".join([*words, *words]),
        )
        drawn_captions.candidates.append(variants[index % len(variants)])
        if index % 3 == 0:
            texts = [f"{reference.capitalize()}." for reference in texts]
        drawn_captions.references.append(texts)
    return drawn_captions
