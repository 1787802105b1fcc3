from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imglish.data.world.files import WorldFiles, read_scenes, read_world
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import DataFormatError


@pytest.fixture
def world(tmp_path: Path) -> WorldFiles:
    config = WorldConfig(seed=5, picture_size=80, level="full")
    return write_world(config, tmp_path / "world", num_train=3, num_validation=2, num_compositional=2)


def test_the_settings_are_read_back(world: WorldFiles) -> None:
    assert read_world(world.root) == world
    assert world.config == WorldConfig(seed=5, picture_size=80, level="full")
    assert world.counts == {"train": 3, "validation": 2, "compositional": 2}


def test_a_folder_without_a_world_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"holds no World .*; write one with `imglish world --out "):
        read_world(tmp_path / "gone")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.update(format="other"), "has format 'other', not 'imglish-world'"),
        (lambda d: d.update(version=0), r"written by another version of imglish \(layout 0, here 1\)"),
        (lambda d: d["vocabulary"]["shapes"].append("pear"), "written by another version"),
        (lambda d: d["config"].update(picture_size=8), "config is illegal: picture_size must lie between"),
        (lambda d: d["config"].update(level="hard"), "config is illegal: level must be one of"),
        (lambda d: d.pop("counts"), "has no key 'counts'"),
    ],
)
def test_wrong_settings_are_refused(
    world: WorldFiles,
    damage: Callable[[dict], object],  # type: ignore[type-arg]
    words: str,
) -> None:
    settings = json.loads(world.settings.read_text())
    damage(settings)
    world.settings.write_text(json.dumps(settings))
    with pytest.raises(DataFormatError, match=words) as caught:
        read_world(world.root)
    assert "world.json" in str(caught.value)


@pytest.mark.parametrize(
    "lost",
    [
        "text/corpus.txt",
        "coco/panoptic_validation.json",
        "vqa/annotations_compositional.json",
        "shards/pairs-train-000000.tar",
        "scenes/train.jsonl",
    ],
)
def test_a_missing_file_is_named(world: WorldFiles, lost: str) -> None:
    (world.root / lost).unlink()
    with pytest.raises(DataFormatError, match=f"{lost}: is missing from the World: write it anew"):
        read_world(world.root)


def test_a_cut_scene_file_is_refused(world: WorldFiles) -> None:
    path = world.scenes("train")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataFormatError, match="not valid json at line 3"):
        list(read_scenes(path))
