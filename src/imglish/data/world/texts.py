"""The text-only corpus: descriptions of scenes that are never drawn, tiny stories, questions, true facts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imglish.data.world import grammar
from imglish.data.world.language import captions
from imglish.data.world.questions import questions
from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, SPLITS, STUFF, Scene, WorldConfig, draw_scene
from imglish.data.world.statements import remark, statement

_SHAPE_FACTS = (
    "a circle is round and has no corners.",
    "a ring is a circle with a hole in the middle.",
    "a star has five points.",
    "a triangle has three corners and a square has four.",
    "a cross is the same from the left and from the right.",
    "a moon is thin at the top and at the bottom.",
    "an arrow shows the way to the right.",
    "a house has a roof, a door and a chimney.",
    "a fish has a tail and an eye.",
    "a tree is wide below and thin above.",
    "a heart has a point at the bottom.",
)
_STUFF_FACTS = (
    "the sky is above everything else.",
    "fish like to be in the water.",
    "trees grow on the grass.",
    "a wall is made of bricks.",
    "sand lies next to the water.",
    "a house often stands on a road.",
    "the moon is seen in the sky.",
)


def text(config: WorldConfig, split: str, index: int) -> str:
    """One document of the text-only corpus: one to four short sentences in lower case.

    A pure function of its arguments; it never holds a colour and shape combination of HELD_OUT.
    """
    rng = np.random.default_rng([config.seed, len(SPLITS), SPLITS[split], index])
    # An index of its own for each split keeps the imagined scenes of the splits apart.
    scene = draw_scene(config, "text", index * len(SPLITS) + SPLITS[split])
    kinds: tuple[Callable[[WorldConfig, Scene, np.random.Generator], str], ...]
    kinds = (_description, _description, _description, _story, _story, _dialogue, _comparison, _fact)
    return kinds[int(rng.integers(len(kinds)))](config, scene, rng)


def dialogues(scene: Scene, number: int, favoured: tuple[str, ...] = ()) -> tuple[str, ...]:
    """So many texts of one to three questions about a scene, each with its answer.

    They read "is there a fish? yes. what is the background? sand."; half of them are a single question.

    Args:
        scene: What is asked about.
        number: Of texts.
        favoured: Kinds of questions that two thirds of the texts keep to, where the scene has any.
    """
    rng = np.random.default_rng([scene.seed, 6])
    asked = questions(scene)
    kept = [question for question in asked if question.kind in favoured]
    texts = []
    for _ in range(number):
        pool = kept if kept and rng.random() < 2 / 3 else asked
        order = rng.permutation(len(pool))[: rng.choice((1, 1, 2, 3))]
        texts.append(" ".join(f"{pool[i].text} {pool[i].answer}." for i in order))
    return tuple(texts)


def remarks(scene: Scene, number: int) -> tuple[str, ...]:
    """So many statements about a scene, each with its judgement: "the picture shows a red thing: yes."."""
    rng = np.random.default_rng([scene.seed, 7])
    said = (remark(scene, rng) for _ in range(number))
    return tuple(f"{each.text}: {'yes' if each.label else 'no'}." for each in said)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _description(config: WorldConfig, scene: Scene, rng: np.random.Generator) -> str:
    """A caption, and sometimes one thing more about one of the things in it."""
    words = f"{_pick(rng, captions(scene))}."
    thing = scene.things[int(rng.integers(len(scene.things)))]
    stuff = grammar.ground(scene, thing)
    more = ["", f" the {thing.shape} is {thing.size}."]
    if stuff is not None:
        more.append(f" the {thing.shape} is {grammar.place(stuff)}.")
    shapes = [other.shape for other in scene.things]
    return words + (more[int(rng.integers(len(more)))] if shapes.count(thing.shape) == 1 else "")


def _story(config: WorldConfig, scene: Scene, rng: np.random.Generator) -> str:
    hero = scene.things[0]
    home, goal = (place(rng) for place in (_anywhere, _anywhere))
    start = _pick(
        rng,
        (
            f"once there was {grammar.with_article(f'{hero.size} {grammar.name(hero)}')} {home}.",
            f"{grammar.with_article(f'{hero.size} {grammar.name(hero)}')} lived {home}.",
            f"one day {grammar.with_article(grammar.name(hero))} was {home}.",
        ),
    )
    if len(scene.things) == 1:
        return f"{start} " + _pick(
            rng, (f"it wanted to be {goal}.", f"it was alone and looked {goal}.", "it was happy there.")
        )
    friends = grammar.join([grammar.with_article(grammar.name(thing)) for thing in scene.things[1:3]])
    middle = _pick(rng, (f"it met {friends}.", f"then came {friends}.", f"there it saw {friends}."))
    ends = (
        f"they all went to play {goal}.",
        "they became friends.",
        f"now they are {goal}.",
        "it was a good day.",
    )
    end = _pick(rng, ends)
    return f"{start} {middle} {end}"


def _anywhere(rng: np.random.Generator) -> str:
    return grammar.place(_pick(rng, STUFF))


def _dialogue(config: WorldConfig, scene: Scene, rng: np.random.Generator) -> str:
    """A caption, then a question about it with the answer."""
    asked = questions(scene)
    question = asked[int(rng.integers(len(asked)))]
    return f"{_pick(rng, captions(scene))}. {question.text} {question.answer}."


def _comparison(config: WorldConfig, scene: Scene, rng: np.random.Generator) -> str:
    """Two captions and a statement about the pair, called true or false."""
    other = draw_scene(config, "text", scene.index + len(SPLITS) * 10**9)
    said = statement(scene, other, rng)
    pair = f"left: {captions(scene)[0]}. right: {captions(other)[0]}."
    return f"{pair} {said.text}: {'true' if said.label else 'false'}."


def _fact(config: WorldConfig, scene: Scene, rng: np.random.Generator) -> str:
    first, second = (SHAPES[i] for i in rng.permutation(len(SHAPES))[:2])
    colour = _pick(rng, tuple(colour for colour in COLOURS if (colour, first) not in HELD_OUT))
    relation = _pick(rng, grammar.RELATIONS)
    converse, coloured = grammar.OPPOSITE[relation], grammar.with_article(f"{colour} {first}")
    return _pick(
        rng,
        (
            _pick(rng, _SHAPE_FACTS),
            _pick(rng, _STUFF_FACTS),
            f"if the {first} is {relation} the {second}, then the {second} is {converse} the {first}.",
            f"{coloured} is {grammar.with_article(first)} and its colour is {colour}.",
            f"one {first} and one {second} are two things.",
            f"two {grammar.PLURALS[first]} and one {second} are three things.",
            f"{grammar.with_article(first)} is a shape and {colour} is a colour.",
            f"a large {first} is larger than a small {first}.",
        ),
    )
