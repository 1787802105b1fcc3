"""Parameters and operations of the paper's Semantic FPN rows (ADE20K, 512 x 512; its table of costs)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imglish.models.segmenters.build import build_segmenter
from imglish.models.segmenters.config import SemanticFpnConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.model import ViTAdapter


@pytest.mark.parametrize(
    ("size", "adapter", "millions", "billions"),
    [
        ("base", False, 98, 147),
        ("base", True, 105, 183),
        ("large", False, 321, 414),
        ("large", True, 332, 473),
    ],
)
def test_costs_are_those_of_the_paper(
    size: presets.Size, adapter: bool, millions: float, billions: float
) -> None:
    with torch.device("meta"):
        vit = ViT(presets.vit(size))
        backbone: nn.Module
        if adapter:
            backbone = ViTAdapter(vit, presets.vit_adapter(size, "segmentation"))
        else:
            step = vit.depth // 4
            backbone = PlainViT(vit, out_blocks=tuple(range(step - 1, vit.depth, step)))
        model = build_segmenter(backbone, vit.width, SemanticFpnConfig(), num_classes=150).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 512, 512))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.8)
    # The paper counts a multiplication with its addition once; the counter counts both.
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, rel=0.01)
