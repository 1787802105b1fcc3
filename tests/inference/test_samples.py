"""Pictures to try are drawn scenes that no model was trained on, and cards are told where there are any."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.data.world.questions import questions
from imglish.data.world.render import render
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.inference.cards import model_card
from imglish.inference.samples import draw_samples


def test_samples_are_scenes_of_validation_with_questions_about_them() -> None:
    samples = draw_samples(5, size=96)
    assert [sample.name for sample in samples] == [f"world-{number:02}" for number in range(1, 6)]
    for index, sample in enumerate(samples):
        scene = draw_scene(WorldConfig(picture_size=96), "validation", index)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sample.png))), render(scene))
        assert sample.question in {question.text for question in questions(scene)}
    assert draw_samples(5, size=96) == samples != draw_samples(5, size=96, seed=1)
    assert draw_samples(2, size=96) == samples[:2] and draw_samples(0) == ()


def test_sizes_that_are_not_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="between 64 and 256"):
        draw_samples(1, size=32)


def test_a_card_is_that_of_the_folder_or_of_the_world(tmp_path: Path) -> None:
    assert "World" in model_card("world") and model_card("world").startswith("#")
    assert model_card(tmp_path) == model_card("beit3_base_patch16_480_vqa") == ""
    (tmp_path / "card.md").write_text("# Mine")
    assert model_card(tmp_path) == "# Mine"
    (tmp_path / "README.md").write_text("# Saved")
    assert model_card(tmp_path) == model_card(str(tmp_path)) == "# Saved"
