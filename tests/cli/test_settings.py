"""Files and kinds are applied before the single options are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from imglish.cli.settings import choose
from imglish.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    kind: Literal["drawn"] = "drawn"
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    kind: Literal["folder"] = "folder"
    root: str = "world"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    data: Drawn | Folder = field(default_factory=Drawn)
    second_data: Drawn | Folder = field(default_factory=Drawn)
    num_steps: int = 10


def test_without_file_or_kind_nothing_changes() -> None:
    assert choose(Run(num_steps=3), ["--num-steps", "5", "--resume"]) == Run(num_steps=3)


@pytest.mark.parametrize("written", [["--config", "{}"], ["--config={}"]])
def test_a_file_changes_what_it_names(tmp_path: Path, written: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("num_steps: 7")
    arguments = [word.format(path) for word in written]
    assert choose(Run(data=Folder(root="x")), arguments) == Run(data=Folder(root="x"), num_steps=7)


@pytest.mark.parametrize("written", [["--second-data.kind", "folder"], ["--second-data.kind=folder"]])
def test_a_kind_chooses_another_part(written: list[str]) -> None:
    assert choose(Run(data=Drawn(seed=4)), written) == Run(data=Drawn(seed=4), second_data=Folder())


def test_a_kind_that_is_there_already_keeps_its_settings() -> None:
    assert choose(Run(data=Drawn(seed=4)), ["--data.kind", "drawn"]) == Run(data=Drawn(seed=4))


def test_a_wrong_kind_and_a_wrong_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"command line: data\.kind is 'foldr'.*did you mean 'folder'"):
        choose(Run(), ["--data.kind", "foldr"])
    path = tmp_path / "mine.yaml"
    path.write_text("num_stpes: 7")
    with pytest.raises(ConfigError, match=r"mine\.yaml: num_stpes is not a setting; did you mean num_steps"):
        choose(Run(), ["--config", str(path)])
