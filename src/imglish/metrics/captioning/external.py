"""METEOR and SPICE, which are Java programs: through the optional package ``pycocoevalcap``."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Sequence
from types import ModuleType

from imglish.errors import ConfigError


def meteor(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """METEOR 1.5 (Denkowski and Lavie, WMT 2014) of each caption; runs offline.

    Args:
        candidates: Words of one caption of each of N pictures.
        references: For each picture the words of its human captions, at least one.

    Returns:
        N numbers in [0, 1]. Their mean is not the METEOR of the set, which COCO reports: see
        :func:`meteor_of_set`.

    Raises:
        ConfigError: If the extra or Java is missing.
    """
    return _meteor(candidates, references)[1]


def meteor_of_set(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> float:
    """METEOR of all captions together, in [0, 1]: the number that COCO's evaluation reports.

    Takes and raises what :func:`meteor` does.
    """
    return _meteor(candidates, references)[0]


def spice(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """SPICE (Anderson et al., ECCV 2016) of each caption; COCO reports their mean.

    The first call downloads Stanford's parser, some hundred megabytes, into the folder of ``pycocoevalcap``;
    every call asks Java for 8 GB.

    Args:
        candidates: Words of one caption of each of N pictures.
        references: For each picture the words of its human captions, at least one.

    Returns:
        N numbers in [0, 1].

    Raises:
        ConfigError: If the extra or Java is missing.
    """
    scorer = _load("SPICE", "pycocoevalcap.spice.spice").Spice()
    _, scores = scorer.compute_score(*_as_dictionaries(candidates, references))
    return [float(score["All"]["f"]) for score in scores]


def _meteor(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, list[float]]:
    scorer = _load("METEOR", "pycocoevalcap.meteor.meteor").Meteor()
    score, scores = scorer.compute_score(*_as_dictionaries(candidates, references))
    return float(score), [float(each) for each in scores]


def _load(metric: str, module: str) -> ModuleType:
    """The scorer's module, looked for only when it is asked for."""
    missing = []
    if importlib.util.find_spec("pycocoevalcap") is None:
        missing.append("the package pycocoevalcap (pip install 'imglish[captions]')")
    if shutil.which("java") is None:
        missing.append("a Java runtime (the command 'java' on the PATH)")
    if missing:
        raise ConfigError(
            f"{metric} needs the extra 'captions' and Java; missing: {' and '.join(missing)}. "
            "BLEU, ROUGE-L and CIDEr need neither."
        )
    return importlib.import_module(module)


def _as_dictionaries(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and candidates as ``pycocoevalcap`` wants them: texts by picture."""
    pairs = list(enumerate(zip(candidates, references, strict=True)))
    return (
        {i: [" ".join(words) for words in own_references] for i, (_, own_references) in pairs},
        {i: [" ".join(candidate)] for i, (candidate, _) in pairs},
    )
