"""A part of a joint run through transformers' Auto classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.hf.auto import register
from imglish.hub.load import load_model
from imglish.hub.pretrained import save_pretrained
from imglish.inference.predictor import Predictor
from tests.inference.tiny_weights import pixels

transformers = pytest.importorskip("transformers")
QUESTION = "what colour is the star?"


@torch.no_grad()
def test_auto_model_says_what_the_part_says(tmp_path: Path) -> None:
    register()
    run = load_model("world")
    joint, picture = Predictor(run), pixels(64, 64)

    def opened(part: str) -> tuple[Any, Any]:
        folder = save_pretrained(run.parts[part], tmp_path / part)
        model = transformers.AutoModel.from_pretrained(folder)
        return model, transformers.AutoProcessor.from_pretrained(folder)

    for part in ("vqa", "image_classification"):  # whose heads stand on the encoder's norm here
        model, processor = opened(part)
        text = QUESTION if part == "vqa" else None
        logits = model(**processor(images=picture, text=text)).logits[0]
        wanted = joint.answer(picture, QUESTION) if part == "vqa" else joint.classify(picture)
        shares = logits.sigmoid() if part == "vqa" else logits.softmax(dim=0)
        for best, number in zip(wanted, shares.topk(len(wanted)).indices.tolist(), strict=True):
            assert model.config.id2label[number] == best[0]
            assert float(shares[number]) == pytest.approx(best[1], abs=1e-5)  # float32
    model, processor = opened("captioning")
    words = model.generate(processor(images=picture)["pixel_values"])
    assert processor.batch_decode(words) == [joint.caption(picture)]
    model, processor = opened("retrieval")
    said = model(**processor(images=picture, text=[QUESTION]))
    cosine = float(said.image_embeds @ said.text_embeds.T)
    assert cosine == pytest.approx(float(joint.match(picture, QUESTION).item()), abs=1e-5)
