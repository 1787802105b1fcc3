from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import pytest

from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, SIZES, STUFF, Scene, WorldConfig, draw_scene
from tests.data.world.geometry import band_at

_DIGEST = """
import hashlib
from imglish.data.world.annotate import annotate
from imglish.data.world.language import captions
from imglish.data.world.questions import questions
from imglish.data.world.render import render
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.texts import text
digest = hashlib.sha256()
for level in ("easy", "full"):
    config = WorldConfig(seed=3, level=level)
    for split in ("train", "validation", "compositional"):
        for index in range(8):
            scene = draw_scene(config, split, index)
            words = captions(scene), questions(scene), text(config, split, index)
            digest.update(repr((scene, words)).encode())
            digest.update(render(scene).tobytes() + annotate(scene).panoptic.tobytes())
print(digest.hexdigest())
"""


def _names(scene: Scene) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in scene.things}


def test_every_process_draws_the_same_world() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1 and len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


def test_a_scene_does_not_depend_on_those_drawn_before() -> None:
    config = WorldConfig(level="full")
    alone = draw_scene(config, "train", 7)
    for index in range(7):
        draw_scene(config, "train", index)
    assert draw_scene(config, "train", 7) == alone


def test_splits_and_seeds_share_no_scene() -> None:
    drawn = [
        draw_scene(WorldConfig(seed=seed), split, index)
        for seed in (0, 1)
        for split in ("train", "validation", "compositional", "text")
        for index in range(100)
    ]
    assert len({scene.seed for scene in drawn}) == len(drawn)
    assert len({scene.things for scene in drawn}) == len(drawn)


def test_one_combination_in_eight_is_held_out_one_for_each_shape() -> None:
    assert sorted(shape for _, shape in HELD_OUT) == sorted(SHAPES)
    assert {colour for colour, _ in HELD_OUT} == set(COLOURS)


@pytest.mark.parametrize("level", ["easy", "full"])
def test_held_out_combinations_appear_in_the_compositional_split_only(level: str) -> None:
    config = WorldConfig(level=level)  # type: ignore[arg-type]
    for split in ("train", "validation", "text"):
        for index in range(300):
            assert not _names(draw_scene(config, split, index)) & HELD_OUT
    held_out: set[tuple[str, str]] = set()
    for index in range(300):
        found = _names(draw_scene(config, "compositional", index)) & HELD_OUT
        assert len(found) == 1
        held_out |= found
    assert held_out == HELD_OUT


@pytest.mark.parametrize(("level", "most"), [("easy", 3), ("full", 6)])
def test_counts_words_and_names_are_drawn_evenly(level: str, most: int) -> None:
    scenes = [draw_scene(WorldConfig(level=level), "train", index) for index in range(600)]  # type: ignore[arg-type]
    counts = Counter(len(scene.things) for scene in scenes)
    assert set(counts) == set(range(1, most + 1))
    assert max(counts.values()) < 1.5 * 600 / most
    things = [thing for scene in scenes for thing in scene.things]
    for drawn, words in (
        ([thing.shape for thing in things], SHAPES),
        ([thing.colour for thing in things], tuple(COLOURS)),
        ([thing.size for thing in things], SIZES),
    ):
        shares = Counter(drawn)
        assert set(shares) == set(words)
        assert min(shares.values()) > 0.5 * len(things) / len(words)
    assert {region.stuff for scene in scenes for region in scene.regions} == set(STUFF)
    assert all(len(_names(scene)) == len(scene.things) for scene in scenes)


def test_sizes_are_told_apart_by_radius_and_easy_things_are_large() -> None:
    for level, smallest in (("easy", 8.5), ("full", 5.0)):
        scenes = [draw_scene(WorldConfig(level=level), "train", index) for index in range(300)]  # type: ignore[arg-type]
        radii = {
            size: [thing.radius for scene in scenes for thing in scene.things if thing.size == size]
            for size in SIZES
        }
        assert smallest <= min(radii["small"])
        assert max(radii["small"]) + 1.9 < min(radii["medium"])
        assert max(radii["medium"]) + 1.9 < min(radii["large"])


def test_easy_things_lie_inside_the_picture() -> None:
    for index in range(300):
        for thing in draw_scene(WorldConfig(), "train", index).things:
            for middle in thing.centre:
                assert thing.radius <= middle <= 64 - thing.radius


def test_regions_run_from_the_top_down_and_the_sky_is_highest() -> None:
    for index in range(300):
        scene = draw_scene(WorldConfig(), "train", index)
        stuffs = [region.stuff for region in scene.regions]
        assert len(set(stuffs)) == len(stuffs) and "sky" not in stuffs[1:]
        assert [band_at(scene, 32, y) for y in (0, 63.9)] == [0, len(stuffs) - 1]
        for above, below in zip(scene.regions, scene.regions[1:], strict=False):
            assert above.left < below.left and above.right < below.right


def test_another_picture_size_shows_the_same_scene_larger() -> None:
    small = draw_scene(WorldConfig(), "train", 4)
    large = draw_scene(WorldConfig(picture_size=160), "train", 4)
    assert [thing.shape for thing in small.things] == [thing.shape for thing in large.things]
    for a, b in zip(small.things, large.things, strict=True):
        assert b.radius == pytest.approx(2.5 * a.radius)
        assert b.centre == pytest.approx((2.5 * a.centre[0], 2.5 * a.centre[1]))
    assert [region.left * 2.5 for region in small.regions] == pytest.approx([r.left for r in large.regions])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seed": -1}, "at least 0; got -1"),
        ({"picture_size": 32}, "64 and 256; got 32"),
        ({"level": "hard"}, "hard"),
    ],
)
def test_an_illegal_setting_is_refused_with_its_value(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldConfig(**setting)  # type: ignore[arg-type]
