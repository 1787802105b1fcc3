"""What a server can tell about its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from imglish.inference.cards import WORLD_NOTICE
from imglish.inference.predictor import Predictor
from imglish.inference.sources import ABILITIES
from imglish.serving.tasks import refusal

_SIDE = 64
_ALL = 100_000  # more classes than any weights have


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a model is and can do.

    Args:
        name: What its weights are called.
        refusals: Why it cannot do something, by ability.
        classes: Names that it was trained for, by task.
        card: Its model card in Markdown; empty where there is none.
        notice: What everybody should know who uses it.
    """

    name: str
    refusals: Mapping[str, str]
    classes: Mapping[str, list[str]]
    card: str
    notice: str

    @property
    def abilities(self) -> list[str]:
        """What it can do."""
        return [ability for ability in ABILITIES if ability not in self.refusals]


def learn(predictor: Predictor, name: str, card: str = "") -> Facts:
    """Load everything that a predictor can do, and see what that is.

    Each head looks at a grey picture, so that the first real one does not wait for what happens only once.

    Args:
        predictor: Whose weights they are.
        name: What they are called.
        card: Their model card.

    Raises:
        CheckpointError: Weights are damaged.
    """
    able = predictor.abilities()
    refusals = {
        ability: refusal(predictor, ability).replace(predictor.name, name)  # not where weights lie
        for ability in ABILITIES
        if ability not in able
    }
    grey, classes = np.full((_SIDE, _SIDE, 3), 127, dtype=np.uint8), {}
    if "classify" not in refusals:
        classes["classify"] = sorted(label.name for label in predictor.classify(grey, num_classes=_ALL))
    if "segment" not in refusals:
        classes["segment"] = list(predictor.segment(grey).names)
    if "detect" not in refusals:
        classes["detect"] = list(predictor.detect(grey).names)
    if "panoptic" not in refusals:
        predictor.panoptic(grey)
    if "caption" not in refusals:
        predictor.caption(grey)
    if "answer" not in refusals:
        predictor.answer(grey, "what is this?")
    if "judge" not in refusals:
        predictor.judge(grey, grey, "both are grey")
    if "embed" not in refusals:
        predictor.match(grey, "a grey picture")
    return Facts(
        name=name,
        refusals=refusals,
        classes=classes,
        card=card,
        notice=WORLD_NOTICE[0].upper() + WORLD_NOTICE[1:] + "." if name == "world" else "",
    )
