"""What a finished run leaves behind, and reading it again.

A run folder holds ``config.yaml``, ``model.safetensors``, ``text.spm`` where the run reads text,
``answers.txt`` where it answers, ``metrics.jsonl``, ``scores.json`` and ``checkpoints/``. The weights that
ship in the package lie in folders of the same form.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from imglish.config.core import from_yaml, to_yaml
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.load import EMBEDDED, EMBEDDED_ENCODER
from imglish.hub.packed_weights import unpack_weights
from imglish.recipes.config import RunConfig
from imglish.text.tokenizer import TextTokenizer
from imglish.train.checkpoint import load_weights, save_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def weights_path(self) -> Path:
        """The final weights."""
        return self.path / "model.safetensors"

    @property
    def text_path(self) -> Path:
        """The text tokenizer."""
        return self.path / "text.spm"

    @property
    def answers_path(self) -> Path:
        """The answer vocabulary."""
        return self.path / "answers.txt"

    @property
    def classes_path(self) -> Path:
        """The class names of a segmenter, detector or classifier, one a line."""
        return self.path / "classes.txt"

    @property
    def things_path(self) -> Path:
        """Those of the classes that are things, where a run finds panoptic segments."""
        return self.path / "things.txt"

    @property
    def checkpoints_path(self) -> Path:
        """The checkpoints."""
        return self.path / "checkpoints"

    @property
    def scores_path(self) -> Path:
        """The final scores."""
        return self.path / "scores.json"

    def create(self) -> None:
        """Make the folder, where there is none.

        Raises:
            ConfigError: The path is that of a file.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(
                f"{self.path}: is or lies in a file; expected a folder for the run: choose another with --out"
            ) from None

    def write_config(self, config: RunConfig) -> None:
        """Save the resolved config; errors as in `create`."""
        self.create()
        self.config_path.write_text(to_yaml(config), encoding="utf-8")

    def config(self) -> RunConfig:
        """The config the run was trained with.

        Raises:
            ConfigError: The folder is no run folder, or its config is damaged or has illegal settings.
        """
        if not self.config_path.is_file():
            raise ConfigError(f"{self.path} is no run folder: it has no config.yaml; train the recipe first")
        try:
            text = self.config_path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{self.config_path}: not UTF-8 text ({error.reason}); expected the settings of a run: it is "
                "damaged, train the recipe anew"
            ) from None
        return from_yaml(RunConfig, text, str(self.config_path))

    def weights(self) -> dict[str, Tensor]:
        """The final weights in float32.

        Raises:
            CheckpointError: The run is not finished, or the file is damaged.
        """
        if not self.weights_path.is_file():
            raise CheckpointError(
                f"{self.path} has no model.safetensors: the run is not finished; go on with --resume"
            )
        weights = unpack_weights(load_weights(self.weights_path))
        return {name: _float(tensor) for name, tensor in weights.items()}

    def save_weights(self, weights: dict[str, Tensor]) -> None:
        """Write the final weights; the file appears whole or not at all."""
        partial = self.weights_path.with_suffix(".partial")
        save_weights(weights, partial)
        partial.replace(self.weights_path)

    def scores(self) -> dict[str, float] | None:
        """The final scores; None where there are none, or, as the log says then, they are damaged."""
        if not self.scores_path.is_file():
            return None
        try:
            return TypeAdapter(dict[str, float]).validate_json(self.scores_path.read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            log.warning("%s is damaged (%s); the run is scored again", self.scores_path, reason)
            return None

    def save_scores(self, scores: Mapping[str, float]) -> None:
        """Write the final scores; the file appears whole or not at all."""
        partial = self.scores_path.with_suffix(".partial")
        partial.write_text(json.dumps(scores, indent=1) + "\n")
        partial.replace(self.scores_path)

    def text_tokenizer(self) -> TextTokenizer:
        """The text tokenizer the run was trained with.

        Raises:
            CheckpointError: The run has none.
            DataFormatError: The file is damaged.
        """
        if not self.text_path.is_file():
            raise CheckpointError(
                f"{self.path} has no text.spm: it is no run that reads text, or not finished; "
                "give another run, or name a .spm file as text_tokenizer"
            )
        return TextTokenizer(self.text_path)


def find_run(name: str, part: str = "") -> RunFolder:
    """The folder of a run: a path, or ``world`` for what ships in the package.

    Args:
        name: Path, ``world``, or ``world_encoder`` where the part is ``encoder``.
        part: Sub-folder of the embedded weights: ``encoder`` or ``visual_tokenizer``.

    Raises:
        CheckpointError: There is no such folder.
    """
    if name == EMBEDDED or (name == EMBEDDED_ENCODER and part == "encoder"):
        return RunFolder(Path(str(resources.files("imglish.hub") / "world" / part)))
    if not name or not Path(name).is_dir():
        close = f"; did you mean {EMBEDDED!r}?" if get_close_matches(name, [EMBEDDED]) else ""
        raise CheckpointError(
            f"{name!r}: no such folder; expected that of a finished run, or {EMBEDDED!r} for the weights in "
            f"the package{close}"
        )
    return RunFolder(Path(name))


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
