"""What is seen of a picture is seen once; and the World model in the package knows its World."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import pytest

from imglish import Predictor, load_model
from imglish.data.world.render import render
from imglish.data.world.scene import Scene, WorldConfig, draw_scene
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.load import embedded_folder
from imglish.inference.look import Look
from imglish.models.joint import JointModel

ASKED = "what colour is it?"


@pytest.fixture(scope="module")
def world() -> Predictor:
    return Predictor("world", batch_size=4)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(WorldConfig(seed=0), "validation", index) for index in range(24)]


@contextmanager
def encodings(model: JointModel) -> Iterator[list[int]]:
    """How many pictures the encoder is shown meanwhile, call by call."""
    seen: list[int] = []
    handle = model.encoder.vision_embedding.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    yield seen
    handle.remove()


def everything(predictor: Predictor, picture: object) -> list[object]:
    given: list[object] = [
        predictor.caption(picture),  # type: ignore[call-overload]
        predictor.answer(picture, ASKED),  # type: ignore[call-overload]
        predictor.classify(picture),  # type: ignore[call-overload]
        predictor.classify(picture, ["fish", "star"]),  # type: ignore[call-overload]
        predictor.embed_images(picture).tolist(),  # type: ignore[arg-type]
        predictor.segment(picture).to_json(),  # type: ignore[call-overload]
        predictor.detect(picture, min_score=0).to_json(),  # type: ignore[call-overload]
    ]
    return given


def test_a_look_is_encoded_once_whatever_is_asked_about_it(scenes: list[Scene]) -> None:
    run = load_model("world")
    assert isinstance(run.model, JointModel)
    predictor = Predictor(run)
    wide = np.concatenate([render(scenes[0])] * 2, axis=1)
    for picture in (render(scenes[1]), wide):
        look = predictor.look(picture)
        assert isinstance(look, Look) and look.size == picture.shape[:2]
        with encodings(run.model) as seen:
            found = everything(predictor, look)
        assert seen == [1]
        assert found == everything(predictor, picture)
        with encodings(run.model) as seen:
            assert everything(predictor, look) == found
        assert seen == []


def test_many_questions_about_one_picture_encode_it_once(scenes: list[Scene]) -> None:
    run = load_model("world")
    assert isinstance(run.model, JointModel)
    predictor, picture = Predictor(run, batch_size=4), render(scenes[2])
    questions = [ASKED, "how many things are there?", "what is the background?"]
    with encodings(run.model) as seen:
        together = predictor.answer(picture, questions)
    assert seen == [1]
    alone = [predictor.answer(picture, question) for question in questions]
    for ours, theirs in zip(together, alone, strict=True):
        assert [answer.text for answer in ours] == [answer.text for answer in theirs]
        # Padded questions are summed over in another order.
        assert [a.probability for a in ours] == pytest.approx([a.probability for a in theirs], abs=1e-5)


def test_looks_and_pictures_mix_in_a_batch(world: Predictor, scenes: list[Scene]) -> None:
    pictures = [render(scene) for scene in scenes[:7]]
    mixed = [world.look(picture) if index % 2 else picture for index, picture in enumerate(pictures)]
    world.caption([mixed[1], mixed[5]])
    mixed += [mixed[1], mixed[0]]
    pictures += [pictures[1], pictures[0]]
    assert world.caption(mixed) == world.caption(pictures)
    for ours, theirs in zip(world.detect(mixed), world.detect(pictures), strict=True):
        assert [one.name for one in ours.objects] == [one.name for one in theirs.objects]
        boxes = [one.box for one in theirs.objects]
        np.testing.assert_allclose([one.box for one in ours.objects] or boxes, boxes, atol=1e-3)
    vectors = world.embed_images(mixed)
    np.testing.assert_allclose(vectors, world.embed_images(pictures), atol=1e-5)


def test_results_lie_in_the_picture_as_it_is(world: Predictor, scenes: list[Scene]) -> None:
    small = render(scenes[1])
    large = small.repeat(3, axis=0).repeat(
        5, axis=1
    )  # a thing is where it was, three times and five times as far
    ours, theirs = world.detect(large), world.detect(small)
    assert [one.name for one in ours.objects] == [one.name for one in theirs.objects] and ours.objects
    for one, other in zip(ours.objects, theirs.objects, strict=True):
        left, top, right, bottom = other.box
        np.testing.assert_allclose(one.box, (5 * left, 3 * top, 5 * right, 3 * bottom), atol=6)
        assert one.mask is not None and one.mask.pixels().shape == large.shape[:2]
    segmented = world.segment(large)
    assert segmented.classes.shape == large.shape[:2]
    told = segmented.to_json()
    assert sum(entry["share"] for entry in told["classes"]) == pytest.approx(1)
    assert [entry["mask"]["size"] for entry in told["classes"]] == [list(large.shape[:2])] * len(
        told["classes"]
    )


def test_the_world_model_knows_its_world(world: Predictor, scenes: list[Scene]) -> None:
    pictures = [render(scene) for scene in scenes]
    shapes = [sorted(thing.shape for thing in scene.things) for scene in scenes]
    found = [sorted(one.name for one in each.objects) for each in world.detect(pictures, min_score=0.5)]
    captions = world.caption(pictures)
    # The card has AP50 near 1, and 68 % of things named with shape and colour; there are twelve shapes.
    assert np.mean([a == b for a, b in zip(found, shapes, strict=True)]) > 0.6
    named = [shape in caption for caption, all_ in zip(captions, shapes, strict=True) for shape in all_]
    assert np.mean(named) > 0.5
    best = world.match(pictures, captions).argmax(axis=1)
    assert np.mean(best == np.arange(len(pictures))) > 0.5  # 1 in 24 by chance


def test_what_the_world_model_can_do_is_told_and_the_rest_refused(
    world: Predictor, scenes: list[Scene]
) -> None:
    assert world.abilities() == (
        "caption", "answer", "classify", "classify_by_names", "embed", "segment", "detect"
    )  # fmt: skip
    picture = render(scenes[0])
    with pytest.raises(CheckpointError, match="this needs one of nlvr2.*nlvr2"):
        world.judge(picture, picture, "there are two")
    with pytest.raises(CheckpointError, match="this needs one of panoptic"):
        world.panoptic(picture)
    with pytest.raises(ConfigError, match="sees a picture once"):
        world.detect(picture, scales=(0.5, 1.0))
    with pytest.raises(ConfigError, match="takes neither scales nor flip"):
        world.segment(picture, flip=True)


def test_the_weights_in_the_package_stay_small() -> None:
    files = [path for path in embedded_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000


def test_the_encoder_that_the_heads_came_from_answers_nothing_by_itself() -> None:
    assert Predictor("world_encoder").abilities() == ()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_says_the_same(
    world: Predictor, scenes: list[Scene], precision: Literal["bf16", "fp16"]
) -> None:
    half, pictures = Predictor("world", precision=precision), [render(scene) for scene in scenes[:8]]
    vectors = half.embed_images(pictures)
    assert vectors.dtype == np.float32
    # bf16 has 8 bits: numbers of unit vectors are off by a few thousandths.
    np.testing.assert_allclose(vectors, world.embed_images(pictures), atol=1e-2)
    assert not np.array_equal(vectors, world.embed_images(pictures))
    for ours, theirs in zip(half.segment(pictures), world.segment(pictures), strict=True):
        assert (ours.classes == theirs.classes).mean() > 0.98
    for one, other in zip(half.detect(pictures), world.detect(pictures), strict=True):
        assert [found.name for found in one.objects[:1]] == [found.name for found in other.objects[:1]]
    best = [answers[0].text for answers in half.answer(pictures, "how many things are there?")]
    assert best == [answers[0].text for answers in world.answer(pictures, "how many things are there?")]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision must be one of fp32, bf16, fp16; got 'fp8'"):
        Predictor("world", precision="fp8")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU takes g++")
def test_compiled_blocks_say_the_same(world: Predictor, scenes: list[Scene]) -> None:
    compiled, pictures = Predictor("world", compiled=True), [render(scene) for scene in scenes[:3]]
    assert compiled.caption(pictures) == world.caption(pictures)
    np.testing.assert_allclose(compiled.embed_images(pictures), world.embed_images(pictures), atol=1e-5)
