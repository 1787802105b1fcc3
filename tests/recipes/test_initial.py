from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imglish.errors import CheckpointError
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval
from imglish.models.beit3.weights import RETRIEVAL_MAP, resize_positions
from imglish.recipes.initial import initial_text, load_encoder

# 64 features have one head in a file that does not say how many there are.
RELEASED = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=40, max_text_tokens=10, width=64, depth=1, num_heads=1,
    feed_forward_width=64,
)  # fmt: skip


@pytest.fixture
def official(tmp_path: Path) -> tuple[Path, Beit3ForRetrieval]:
    torch.manual_seed(0)
    model = Beit3ForRetrieval(RELEASED)
    path = tmp_path / "beit3.pth"
    torch.save({"model": RETRIEVAL_MAP.to_official(model.state_dict())}, path)
    return path, model


def test_a_run_starts_from_a_file_of_official_names_at_another_size(
    official: tuple[Path, Beit3ForRetrieval],
) -> None:
    path, source = official
    model = Beit3ForCaptioning(replace(RELEASED, image_size=(48, 32)))
    fresh = load_encoder(model, str(path))
    assert fresh == ["text_head.bias", "text_head.weight"]
    own, given = model.encoder.state_dict(), source.encoder.state_dict()
    positions = "vision_embedding.positions.weight"
    expected = resize_positions(given.pop(positions), (2, 2), (3, 2))
    torch.testing.assert_close(own.pop(positions), expected)
    assert all(torch.equal(own[key], given[key]) for key in given)


def test_a_file_of_weights_brings_no_text_tokenizer(official: tuple[Path, Beit3ForRetrieval]) -> None:
    with pytest.raises(CheckpointError, match="name one as text_tokenizer"):
        initial_text(str(official[0]))
