from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from imglish.data.world.annotate import annotate
from imglish.data.world.language import captions
from imglish.data.world.questions import questions
from imglish.data.world.render import render
from imglish.data.world.scene import COLOURS, SHAPES, STUFF, Region, Scene, Thing, WorldConfig, draw_scene

# The issue asks for 60 scenes a second with files; drawing alone is far faster, this catches a slow path.
SECONDS_A_SCENE = 1 / 60


def _scene(*things: Thing, stuff: str = "grass", noise: float = 0.0) -> Scene:
    return Scene(
        split="train",
        index=0,
        seed=11,
        picture_size=64,
        regions=(Region(stuff=stuff, left=0.0, right=0.0),),
        things=things,
        light=1.0,
        slant=0.0,
        noise=noise,
    )


def _thing(shape: str, colour: str, at: tuple[float, float] = (32.0, 32.0), radius: float = 14.0) -> Thing:
    return Thing(shape=shape, colour=colour, size="large", centre=at, radius=radius)


@pytest.mark.parametrize("size", [64, 100, 256])
def test_a_picture_has_the_size_asked_for(size: int) -> None:
    picture = render(draw_scene(WorldConfig(picture_size=size, level="full"), "train", 2))
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8


def test_drawing_twice_gives_the_same_bytes_and_other_scenes_other_bytes() -> None:
    scene = draw_scene(WorldConfig(level="full"), "train", 5)
    assert render(scene).tobytes() == render(scene).tobytes()
    assert (render(replace(scene, seed=scene.seed + 1)) != render(scene)).mean() > 0.5


@pytest.mark.parametrize("colour", COLOURS)
def test_the_middle_of_a_thing_has_its_colour(colour: str) -> None:
    middle = render(_scene(_thing("square", colour)))[28:36, 28:36].reshape(-1, 3).astype(float)
    assert np.abs(middle.mean(axis=0) - COLOURS[colour]).max() < 12


@pytest.mark.parametrize("stuff", STUFF)
def test_no_stuff_could_be_taken_for_a_thing(stuff: str) -> None:
    ground = render(_scene(stuff=stuff, noise=4.0)).reshape(-1, 3).astype(float)
    for colour, value in COLOURS.items():
        nearest = np.sqrt(((ground - value) ** 2).sum(axis=1)).min()
        assert nearest > 50, f"{stuff} comes within {nearest:.0f} of {colour}"


@pytest.mark.parametrize("stuff", STUFF)
@pytest.mark.parametrize("colour", COLOURS)
def test_an_outline_parts_every_thing_from_its_ground(colour: str, stuff: str) -> None:
    picture = render(_scene(_thing("circle", colour), stuff=stuff))[32].astype(float)
    ground, rim, body = (
        picture[columns].mean(axis=0) for columns in (slice(10, 14), slice(18, 20), slice(24, 40))
    )
    # On a pale ground a dark thing's pale outline needs no contrast: the thing itself has it.
    assert max(np.abs(rim - ground).max(), np.abs(body - ground).max()) > 60
    assert np.abs(rim - body).max() > 80


def test_the_nearer_thing_covers_the_farther_one() -> None:
    far, near = _thing("square", "red"), _thing("circle", "yellow", radius=10.0)
    assert np.abs(render(_scene(far, near))[32, 32].astype(float) - COLOURS["yellow"]).max() < 25
    assert np.abs(render(_scene(near, far))[32, 32].astype(float) - COLOURS["red"]).max() < 25


def test_edges_are_anti_aliased() -> None:
    plain = render(_scene()).astype(float)
    drawn = render(_scene(_thing("circle", "black", at=(32.25, 32.25)))).astype(float)
    share = np.abs(drawn - plain).sum(axis=2) / np.abs(np.array((250, 248, 240)) - plain).sum(axis=2)
    assert ((share > 0.15) & (share < 0.85)).sum() > 20


def test_marks_are_painted_in_ink() -> None:
    door = render(_scene(_thing("house", "yellow", radius=16.0)))[40:44, 31:33].astype(float)
    assert door.mean() < 60


def test_a_picture_is_lit_from_one_side_by_its_slant() -> None:
    lit = replace(_scene(), slant=0.4)
    picture = render(lit).astype(float).mean(axis=(0, 2))
    assert picture[48:].mean() > 1.15 * picture[:16].mean()


def test_every_shape_changes_the_pixels_of_its_mask_and_no_others() -> None:
    empty = render(_scene()).astype(int)
    for shape in SHAPES:
        scene = _scene(_thing(shape, "purple"))
        changed = np.abs(render(scene).astype(int) - empty).sum(axis=2)
        mask = annotate(scene).things_masks[0]
        assert (changed[mask] > 30).mean() > 0.97
        # Outside the mask only the anti-aliased rim may differ, by less than half the contrast.
        assert (changed[~mask] > 0).sum() < 0.2 * mask.sum() + 40


def test_scenes_are_drawn_fast_enough() -> None:
    started = time.process_time()
    for index in range(40):
        scene = draw_scene(WorldConfig(level="full"), "validation", index)
        render(scene), annotate(scene), captions(scene), questions(scene)
    assert (time.process_time() - started) / 40 < SECONDS_A_SCENE
