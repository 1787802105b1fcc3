"""Which weights answer where a command names none: those of the demo, else those in the package."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from imglish.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from imglish.hub.run import LoadedRun
    from imglish.inference.predictor import Predictor

log = logging.getLogger(__name__)
_RUN = Path("runs/demo")


def choose_part(loaded: LoadedRun, part: str, source: str) -> LoadedRun:
    """The part of a joint run that is asked for, or a run that has none as it is.

    Args:
        loaded: What was loaded.
        part: Name of the part; empty where none was named.
        source: Where it was loaded from, for errors to say.

    Raises:
        ConfigError: A joint run has no such part, or the run is no joint one.
    """
    if not loaded.parts:
        if part:
            raise ConfigError(f"{source}: a {loaded.kind} model, which has no parts; leave --part out")
        return loaded
    if part not in loaded.parts:
        problem = f"has no part {part!r}" if part else "has several heads"
        raise ConfigError(f"{source} {problem}; give --part with one of {', '.join(loaded.parts)}")
    return loaded.parts[part]


def open_predictor(run: Path | None, weights: str) -> Predictor:
    """The weights that somebody chose, or else ``runs/demo`` where it is there, or else the World model.

    Args:
        run: A finished run, or a folder of several; None where none was named.
        weights: Official weights by name, a file, or a Hugging Face Hub id; empty where none were named.

    Raises:
        CheckpointError: They are not there, or damaged.
    """
    import torch

    from imglish.hub.load import EMBEDDED
    from imglish.inference.cards import WORLD_NOTICE
    from imglish.inference.predictor import Predictor

    source: Path | str = weights or run or (_RUN if _RUN.is_dir() else EMBEDDED)
    if isinstance(source, Path) and not source.is_dir():
        raise CheckpointError(
            f"{source}: no such folder; expected a finished run, such as {_RUN} after imglish demo, or "
            "--weights with a name or file"
        )
    predictor = Predictor(source, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if source == EMBEDDED:
        log.info("%s", WORLD_NOTICE)
    return predictor
