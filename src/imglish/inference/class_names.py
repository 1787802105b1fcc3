"""Which classes to tell apart with which weights, and how their names are read by a dual encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence

from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.batches import list_texts
from imglish.inference.sources import CLASSES, DUAL, Source
from imglish.models.vit.model import ViTForClassification

# A class's bare name, and what one might write below a picture of it.
PROMPTS = ("{name}", "a photo of a {name}.")
_NAME = re.compile(r"\{(?:name)?\}")


def choose_classes(source: Source, classes: Sequence[str] | None) -> tuple[LoadedRun, tuple[str, ...]]:
    """The weights that tell classes apart, and the names of the classes.

    Args:
        source: Where weights come from.
        classes: Names for a dual encoder; None takes those that the weights were trained for.

    Raises:
        CheckpointError: No weights can do it.
        ConfigError: The names are no list, empty or not all different.
    """
    if classes is None:
        return _trained(source)
    if isinstance(classes, str):
        raise ConfigError(
            f"classes is the text {classes[:40]!r}; expected a list of names, as ['cat', 'dog']"
        )
    names = tuple(list_texts(classes)[0])
    if not names or not all(name.strip() for name in names) or len(set(names)) < len(names):
        raise ConfigError("classes must be names that are not empty and differ from each other")
    if source.offers(CLASSES) and not source.offers(DUAL):
        raise CheckpointError(
            f"{source.name} knows the classes it was trained for; classes of your own need a dual encoder, "
            f"such as {DUAL.official}"
        )
    return source.get(DUAL), names


def _trained(source: Source) -> tuple[LoadedRun, tuple[str, ...]]:
    if source.offers(DUAL) and not source.offers(CLASSES):
        run = source.get(DUAL)
        if not run.labels:
            raise CheckpointError(
                f"{source.name} is a dual encoder, which has no classes of its own: give it classes, or use "
                f"weights of image_classification, such as {CLASSES.official}"
            )
        return run, run.labels
    run = source.get(CLASSES)
    if isinstance(run.model, ViTForClassification) and "pictures" not in run.settings:
        raise CheckpointError(
            f"{source.name} is a BEiT whose file does not say which pictures it takes, and no official name "
            "tells it: name the file as the official one, or give what load_model returns with pictures in "
            "its settings"
        )
    return run, run.labels


def write_prompts(
    names: Sequence[str], prompts: Sequence[str] | None, run: LoadedRun
) -> tuple[tuple[str, ...], ...]:
    """What a dual encoder reads of the classes, for each prompt the texts of all names.

    Args:
        names: Of the classes.
        prompts: Each with ``{name}`` (or ``{}``) for the name; None takes the prompt of training where there
            was one, else `PROMPTS`.
        run: The dual encoder.

    Raises:
        ConfigError: There is no prompt, or one without a name.
    """
    if prompts is None:
        prompts = (str(run.settings["prompt"]),) if "prompt" in run.settings else PROMPTS
    listed = list_texts(prompts)[0]
    if not listed or not all(_NAME.search(prompt) for prompt in listed):
        raise ConfigError(f"prompts are {listed}; expected at least one, each with {{name}} for the class")
    # Split, not replaced: a name may hold braces or backslashes itself.
    return tuple(tuple(name.join(_NAME.split(prompt)) for name in names) for prompt in listed)
