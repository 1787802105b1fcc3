"""A run's config as the command line changes it: first a file, then single options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from imglish.config.core import from_yaml, override
from imglish.errors import ConfigError

C = TypeVar("C")


def choose(config: C, arguments: Sequence[str]) -> C:
    """Apply what must be known before the single options can be: ``--config FILE`` and ``--PART.kind KIND``.

    A part of another kind has other settings, so its kind decides which options there are.

    Raises:
        ConfigError: The file cannot be read, or the file or the kind does not fit the config.
    """
    given = _values(arguments)
    if given.get("--config"):  # without a value the parser of the options says so
        path = Path(given["--config"])
        config = from_yaml(type(config), _read(path), str(path), base=config)
    kinds = {
        option[2:].replace("-", "_"): value for option, value in given.items() if option.endswith(".kind")
    }
    return override(config, kinds, where="command line")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problem = error.strerror or "cannot be read"
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text: {error.reason}"
    raise ConfigError(f"{path}: {problem}; expected a YAML file with settings: check what --config names")


def _values(arguments: Sequence[str]) -> dict[str, str]:
    """Options and the arguments after them, whether written with a space or with ``=``."""
    given = {}
    for i, option in enumerate(arguments):
        if option.startswith("--"):
            name, equals, value = option.partition("=")
            given[name] = value if equals else "".join(arguments[i + 1 : i + 2])
    return given
