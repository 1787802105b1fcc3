"""Runs of every segmenter are read and used; settings of none are refused in one line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch.nn import functional as F

from imglish import Predictor
from imglish.decoding.masks import class_scores
from imglish.errors import CheckpointError
from imglish.hub.run import load_run
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    SetrPupConfig,
    UPerNetConfig,
)
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.config import ViTAdapterConfig

NAMES = ("sky", "fish", "star")
ADAPTER: dict[str, Any] = {"num_interactions": 1, "stem_width": 8, "num_heads": 2, "value_ratio": 0.5}
CONFIGS = (
    SemanticFpnConfig(neck_width=8, head_width=8),
    UPerNetConfig(head_width=8, auxiliary_width=4),
    SetrPupConfig(head_width=8),
    Mask2FormerConfig(
        width=16, num_queries=4, num_pixel_layers=1, num_layers=1, num_heads=2, pixel_feed_forward_width=8,
        feed_forward_width=8, num_groups=4,
    ),
)  # fmt: skip


def write_run(folder: Path, config: SegmenterConfig, **changes: Any) -> torch.nn.Module:
    torch.manual_seed(3)  # of which each segmenter finds several classes
    beit3 = Beit3Config(
        image_size=(32, 32), patch_size=8, vocab_size=30, max_text_tokens=8, width=16, depth=1, num_heads=2,
        feed_forward_width=16, init="scaled",
    )  # fmt: skip
    model = segmenter_on(beit3, ViTAdapterConfig(**ADAPTER), config, num_classes=len(NAMES))
    with torch.no_grad():  # so that not one class wins everywhere
        for name, parameter in model.named_parameters():
            parameter.add_((1.0 if name.endswith("classifier.weight") else 0.3) * torch.randn_like(parameter))
    settings: dict[str, Any] = {"adapter": ADAPTER, "segmenter": asdict(config), **changes}
    plain = json.loads(json.dumps({"kind": "semantic_segmentation", "model": asdict(beit3), **settings}))
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": "a_run", "task": plain}))
    (folder / "classes.txt").write_text("\n".join(NAMES))
    save_file(model.state_dict(), folder / "model.safetensors")
    return model.eval()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_a_picture_gets_the_class_with_the_largest_score(config: SegmenterConfig, tmp_path: Path) -> None:
    model = write_run(tmp_path, config)
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    found, names = Predictor(tmp_path).segment(picture)
    given = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        scores = F.interpolate(class_scores(model(given)), size=(32, 32), mode="bilinear")
    assert names == NAMES and found.shape == (32, 32)
    assert (found == scores.argmax(dim=1)[0].numpy()).mean() > 0.99  # but for ties
    assert np.unique(found).size > 1


@pytest.mark.parametrize(
    ("segmenter", "message"),
    [
        (None, "no segmenter of kind None"),
        ("upernet", "settings of no model"),
        ({"kind": "upernet", "head_width": 8, "depth": 3}, "unknown settings of a segmenter: depth"),
        ({"kind": "upernet", "head_width": 4, "auxiliary_width": 4}, "has shape"),
        ({"kind": "semantic_fpn"}, "missing"),
    ],
)
def test_settings_of_another_segmenter_are_refused(segmenter: Any, message: str, tmp_path: Path) -> None:
    write_run(tmp_path, CONFIGS[1], segmenter=segmenter)
    with pytest.raises(CheckpointError, match=message) as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)
