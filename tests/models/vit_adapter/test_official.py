"""The official backbones as presets: every name and shape of theirs has one of ours, and back.

`official_backbones.json` lists what the official code builds, block numbers of equal shapes together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.official import Family, adapter_map, baseline_map, to_official, to_ours
from imglish.models.vit_adapter.presets import Size, Tree

OFFICIAL: dict[str, Any] = json.loads((Path(__file__).parent / "official_backbones.json").read_text())
TREES: dict[str, Tree] = {"seg": "segmentation", "det": "detection"}
SIZES: tuple[Size, ...] = ("tiny", "small", "base", "large")
LAST_BLOCKS = {"base": (2, 5, 8, 11), "large": (7, 11, 15, 23)}


def numbers(text: str) -> list[int]:
    """``0-3`` or ``0 2 5``."""
    if "-" in text:
        first, last = map(int, text.split("-"))
        return list(range(first, last + 1))
    return [int(number) for number in text.split()]


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    names = OFFICIAL[name]["names"]
    if isinstance(names, str):  # the same as another's
        return official_shapes(names)
    shapes: dict[str, tuple[int, ...]] = {}
    for template, groups in names.items():
        for shape, *blocks in groups:
            for block in numbers(blocks[0]) if blocks else [0]:
                shapes[template.replace("#", str(block))] = tuple(shape)
    return shapes


def settings(name: str) -> tuple[Family, ViTConfig, ViTAdapterConfig | None]:
    """Presets of an official backbone by the name of its config."""
    tree = TREES[name[:3]]
    size = next(size for size in SIZES if size in name or (size == "base" and "beit_adapter_base" in name))
    if "UniPerceiver" in name:
        windows = presets.window_schedule(size) if tree == "detection" else ()
        return (
            "uniperceiver",
            presets.uniperceiver(size, windows=windows),
            presets.uniperceiver_adapter(size, tree),
        )
    if "BEiT" in name:
        side = next((side for side in (480, 512, 640, 896) if f"_{side}_" in name), 224)
        adapter = None if "Baseline" in name else presets.beit_adapter(size, tree)
        return "beit", presets.beit(size, tree, image_size=side), adapter
    side = 592 if "dinov2" in name else 384 if "augreg" in name and size in ("base", "large") else 224
    vit = presets.vit(size, pretrained_size=side, layer_scale="_mae_" not in name)
    if "Baseline" in name:
        return "vit", vit, None
    if "light" in name:
        return "vit", vit, presets.light_adapter(size)
    adapter = presets.vit_adapter(size, tree)
    if "_mae_" in name:
        adapter = presets.without_extra_extractors(adapter)
    return "vit", vit, adapter


def build(name: str) -> tuple[nn.Module, ViTConfig, Family]:
    family, vit, adapter = settings(name)
    with torch.device("meta"):
        backbone = ViT(vit)
        if adapter is not None:
            return ViTAdapter(backbone, adapter), vit, family
        plain = family == "vit"
        blocks = LAST_BLOCKS["large" if vit.depth == 24 else "base"]
        model = PlainViT(backbone, out_blocks=blocks, layer_norm=plain, norm="group" if plain else "batch")
    return model, vit, family


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def empty(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_names_and_ours_map_one_to_one(name: str) -> None:
    model, vit, family = build(name)
    names = adapter_map(family) if isinstance(model, ViTAdapter) else baseline_map(family)  # type: ignore[arg-type]
    official, ours = official_shapes(name), shapes_of(model.state_dict())
    assert shapes_of(to_ours(empty(official), names)) == ours
    assert shapes_of(to_official(model.state_dict(), names, vit)) == official
    assert sum(p.numel() for p in model.parameters()) == OFFICIAL[name]["parameters"]
    if isinstance(model, ViTAdapter):
        own = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("backbone."))
        assert own == OFFICIAL[name]["adapter_parameters"]
