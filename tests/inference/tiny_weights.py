"""Tiny weights for every use, as files in the official layout, and pictures of every kind."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from imglish.hub.run import LoadedRun
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval
from imglish.models.segmenters.config import SemanticFpnConfig
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.text.training import train_tokenizer
from tests.hub.official_files import CAPTIONING, CLASSIFICATION, NLVR2, PRETRAINING, RETRIEVAL, VQA, shrunk

TEXTS = ("a red star", "a blue fish and a dog", "what colour is the star?", "a photo of a cat.")
FILES = {
    "captioning": CAPTIONING,
    "vqa": VQA,
    "retrieval": RETRIEVAL,
    "nlvr2": NLVR2,
    "image_classification": CLASSIFICATION,
    "masked_data_modeling": PRETRAINING,
}
NAMES = ("sky", "fish", "star")


def write_files(folder: Path) -> Path:
    """A ``.pth`` file for each use, named after its kind, and a text tokenizer beside them."""
    train_tokenizer(TEXTS * 5, folder / "text.spm", vocab_size=45)
    for kind, key_list in FILES.items():
        torch.save(shrunk(key_list), folder / f"{kind}.pth")
    return folder


def segmenter() -> LoadedRun:
    """A segmenter of pictures of 32 pixels with random weights."""
    torch.manual_seed(0)
    config = Beit3Config(
        image_size=(32, 32), patch_size=8, vocab_size=30, max_text_tokens=8, width=16, depth=1, num_heads=2,
        feed_forward_width=16, init="scaled",
    )  # fmt: skip
    adapter = ViTAdapterConfig(num_interactions=1, stem_width=8, num_heads=2, value_ratio=0.5)
    head = SemanticFpnConfig(neck_width=8, head_width=8)
    model = segmenter_on(config, adapter, head, num_classes=len(NAMES))
    return LoadedRun(
        kind="semantic_segmentation",
        model=model.eval(),
        config=config,
        text=None,
        labels=NAMES,
        settings={},
    )


def write_run(folder: Path, kind: str, seed: int = 0) -> Path:
    """A finished run of a dual encoder (retrieval, contrastive) or captioner with random weights."""
    torch.manual_seed(seed)
    config = Beit3Config(
        image_size=(16, 16), patch_size=8, vocab_size=48, max_text_tokens=12, width=16, depth=1, num_heads=2,
        feed_forward_width=16, init="scaled",
    )  # fmt: skip
    model = Beit3ForCaptioning(config) if kind == "captioning" else Beit3ForRetrieval(config)
    settings = {"max_text_tokens": 12, "num_beams": 2, "length_penalty": 0.6}
    task = {"kind": kind, **settings, "model": json.loads(json.dumps(asdict(config)))}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": task}))
    save_file(model.state_dict(), folder / "model.safetensors")
    train_tokenizer(TEXTS * 5, folder / "text.spm", vocab_size=45)
    return folder


def pixels(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours, so that resizing them loses little."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def png(image: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
