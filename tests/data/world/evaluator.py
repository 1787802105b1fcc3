"""A tiny reader of English that answers from the scene graph, written apart from the World's own language."""

from __future__ import annotations

import re

from imglish.data.world.scene import COLOURS, SHAPES, SIZES, STUFF, Scene, Thing

NUMBERS = {"no": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_COLOUR, _SHAPE, _STUFF = "|".join(COLOURS), "|".join(SHAPES), "|".join(STUFF)
_NAME = rf"(?:{_COLOUR}) (?:{_SHAPE})"


def mentioned(words: str) -> list[str]:
    """All "colour shape" names in order."""
    return re.findall(rf"\b{_NAME}\b", words)


def find(scene: Scene, name: str) -> Thing:
    """The one thing of that colour and shape."""
    (thing,) = [thing for thing in scene.things if f"{thing.colour} {thing.shape}" == name]
    return thing


def holds(scene: Scene, subject: str, relation: str, reference: str) -> bool:
    """Whether the relation is plain from the centres: at least an eighth of the picture apart."""
    (y, x), (to_y, to_x) = find(scene, subject).centre, find(scene, reference).centre
    apart = {"left of": to_x - x, "right of": x - to_x, "above": to_y - y, "below": y - to_y}[relation]
    return apart >= scene.picture_size / 8


def shows(scene: Scene, what: str) -> bool:
    """Whether the scene has "a red thing", "a star", "a red star", "grass", "a wall"."""
    what = re.sub(r"^an? ", "", what)
    if what in STUFF:
        return what in [region.stuff for region in scene.regions]
    return any(
        what in (f"{thing.colour} {thing.shape}", f"{thing.colour} thing", thing.shape)
        for thing in scene.things
    )


def stands_on(scene: Scene, thing: Thing) -> str:
    """Stuff at the thing's foot."""
    y, share = thing.centre[0] + 0.9 * thing.radius, thing.centre[1] / scene.picture_size
    return [r.stuff for r in scene.regions if y >= r.left * (1 - share) + r.right * share][-1]


def check_caption(scene: Scene, caption: str) -> None:
    """Assert that every claim of the caption is true of the scene."""
    names = mentioned(caption)
    assert sorted(names) == sorted(f"{t.colour} {t.shape}" for t in scene.things), caption
    for size, name in re.findall(rf"\b({'|'.join(SIZES)}) ({_NAME})", caption):
        assert find(scene, name).size == size, caption
    for count in re.findall(r"\b(\w+) things?\b", caption):
        assert NUMBERS[count] == len(scene.things), caption
    relation = r"(?:to the )?(left of|right of|above|below) an? "
    for subject, said, reference in re.findall(
        rf"(?=\b({_NAME}),?(?: which is)? {relation}({_NAME}))", caption
    ):
        assert holds(scene, subject, said, reference), caption
    stuffs = re.findall(rf"\b({_STUFF})\b", caption)
    if re.search(rf"(?:{_STUFF}) above|background|front of|behind|^(?:a )?(?:{_STUFF}) with", caption):
        assert stuffs == [region.stuff for region in scene.regions], caption
    else:
        rest = caption
        for where in re.findall(rf"\b(?:in|on) the (?:{_STUFF})\b", caption):
            before, rest = rest.split(where, 1)
            assert mentioned(before), caption
            for name in mentioned(before):
                assert stands_on(scene, find(scene, name)) == where.split()[-1], caption
    field = re.search(r"at the ([a-z ]+) of the picture|in the (middle) of the picture", caption)
    if field:
        y, x = (3 * middle / scene.picture_size for middle in scene.things[0].centre)
        words = (["top"] if y < 1 else ["bottom"] if y > 2 else []) + (
            ["left"] if x < 1 else ["right"] if x > 2 else []
        )
        assert (" ".join(words) or "middle") == (field[1] or field[2]), caption


def answer(scene: Scene, question: str) -> str:
    """Answer a question; fails where it has no single answer."""
    stuffs = [region.stuff for region in scene.regions]
    if match := re.fullmatch(
        r"(?:is there|do you see|can you see) (an? .+?)(?: in the picture)?\?", question
    ):
        return "yes" if shows(scene, match[1]) else "no"
    if match := re.fullmatch(rf"is the ({_NAME}) (left of|right of|above|below) the ({_NAME})\?", question):
        opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[
            match[2]
        ]
        yes, no = (holds(scene, match[1], said, match[3]) for said in (match[2], opposite))
        assert yes != no, question
        return "yes" if yes else "no"
    if match := re.fullmatch(r"how many (.+) are there\?", question):
        what = match[1]
        if what == "things":
            return str(len(scene.things))
        if what.endswith(" things"):
            return str([thing.colour for thing in scene.things].count(what.split()[0]))
        shape = (
            what
            if what in SHAPES
            else what.removesuffix("es")
            if what == "crosses"
            else what.removesuffix("s")
        )
        assert shape in SHAPES, question
        return str([thing.shape for thing in scene.things].count(shape))
    if match := re.fullmatch(rf"(?:how large is|what size is) the ({_NAME})\?", question):
        return find(scene, match[1]).size
    if match := re.fullmatch(rf"where is the ({_NAME})\?", question):
        return stands_on(scene, find(scene, match[1]))
    if match := re.fullmatch(rf"what is (above|below) the ({_STUFF})\?", question):
        return stuffs[stuffs.index(match[2]) + (1 if match[1] == "below" else -1)]
    if match := re.fullmatch(r"what is at the (top|bottom) of the picture\?", question):
        return stuffs[0] if match[1] == "top" else stuffs[-1]
    if question == "what is the background?":
        (stuff,) = stuffs
        return stuff
    if match := re.fullmatch(rf".*\bcolour\b.* the ({_SHAPE})(?: have)?\?", question):
        (colour,) = {thing.colour for thing in scene.things if thing.shape == match[1]}
        return colour
    if match := re.fullmatch(rf"(?:what|which) .*the ({_COLOUR}) thing(?: have)?\?", question):
        (shape,) = [thing.shape for thing in scene.things if thing.colour == match[1]]
        return shape
    raise AssertionError(f"no rule for {question!r}")


def judge(left: Scene, right: Scene, text: str) -> bool:
    """Whether a statement about two scenes is true."""
    pair = (left, right)
    if match := re.fullmatch(r"both pictures show (.+)", text):
        return all(shows(scene, match[1]) for scene in pair)
    if match := re.fullmatch(r"exactly one of the pictures shows (.+)", text):
        return sum(shows(scene, match[1]) for scene in pair) == 1
    if match := re.fullmatch(r"neither picture shows (.+)", text):
        return not any(shows(scene, match[1]) for scene in pair)
    if match := re.fullmatch(r"only the (left|right) picture shows (.+)", text):
        seen = [shows(scene, match[2]) for scene in pair]
        return seen == [match[1] == "left", match[1] == "right"]
    if match := re.fullmatch(
        r"there are (more|fewer) things in the (\w+) picture than in the (\w+) one", text
    ):
        assert {match[2], match[3]} == {"left", "right"}
        counts = {"left": len(left.things), "right": len(right.things)}
        difference = counts[match[2]] - counts[match[3]]
        return difference > 0 if match[1] == "more" else difference < 0
    if match := re.fullmatch(r"the left picture shows (\w+) things? and the right one (\w+) things?", text):
        return [NUMBERS[match[1]], NUMBERS[match[2]]] == [len(scene.things) for scene in pair]
    raise AssertionError(f"no rule for {text!r}")
