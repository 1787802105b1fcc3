"""What a dual encoder reads of classes."""

from __future__ import annotations

from imglish.inference.class_names import PROMPTS, write_prompts
from tests.inference.tiny_weights import segmenter


def test_names_stand_in_prompts_as_they_are() -> None:
    names, run = ["fish", r"a\1 {name} {}"], segmenter()
    written = write_prompts(names, ["{name}, or {}", "a {name}."], run)
    assert written == (
        ("fish, or fish", r"a\1 {name} {}, or a\1 {name} {}"),
        ("a fish.", r"a a\1 {name} {}."),
    )
    assert write_prompts(["fish"], None, run) == (("fish",), ("a photo of a fish.",)) and len(PROMPTS) == 2
