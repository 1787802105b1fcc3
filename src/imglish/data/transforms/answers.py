"""Answers of people brought to one spelling, as the VQA evaluation does (Antol et al. 2015, section 3).

The released BEiT-3 builds its answer vocabulary from the most common answers in this form, and looks up the
people's own answers without it (parity FACTS, section 4).
"""

from __future__ import annotations

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = dict(
    zip("zero one two three four five six seven eight nine ten".split(), map(str, range(11)), strict=True)
) | {"none": "0"}

# The words whose apostrophes people forget. Some that are another word without them, such as "we'll", are not
# among them.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
    mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
    they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
    when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()


def _without_one_apostrophe(word: str) -> list[str]:
    """The word with each one of its apostrophes left out."""
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


_WRONG_WAY = {"somebody'd": "somebodyd"}  # the one entry of the official table that takes an apostrophe away
_MENDED = {wrong: word for word in _CONTRACTIONS for wrong in _without_one_apostrophe(word)} | _WRONG_WAY

_FULL_STOP = re.compile(r"\.(?!\d)")
_DIGIT_COMMA = re.compile(r"\d,\d")


def normalise_answer(answer: str) -> str:
    """Bring an answer to the spelling of the VQA evaluation.

    Full stops that no digit follows, punctuation, articles and capitals go; number words up to ten become
    digits; forgotten apostrophes come back.

    Args:
        answer: What a person wrote, such as ``A hot-dog.``

    Returns:
        Its normal form, here ``hot dog``; "" where nothing but articles and punctuation is left.
    """
    has_number = _DIGIT_COMMA.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        # Beside a space a mark goes, between two words it parts them; a comma in a number glues everything.
        goes = has_number or f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if goes else " ")
    words = [_NUMBERS.get(word, word) for word in _FULL_STOP.sub("", text).lower().split()]
    return " ".join(_MENDED.get(word, word) for word in words if word not in _ARTICLES)
