from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from imglish.errors import ConfigError
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import Beit3ForRetrieval, Beit3ForVqa
from imglish.models.beit3.layers import is_task_head, layer_of
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.assemble import _not_decayed, _rates
from imglish.train.config import OptimizerConfig
from imglish.train.optimizer import build_optimizer

SPLIT = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=30, max_text_tokens=12, width=32, depth=3, num_heads=4,
    feed_forward_width=64,
)  # fmt: skip
SHARED = replace(SPLIT, split_attention=False, sub_norm=False, num_fusion_layers=1, init="paper")
SMALL = replace(SPLIT, stem="convolutional", init="scaled")


@pytest.mark.parametrize("config", [SPLIT, SHARED, SMALL], ids=["split", "shared", "small"])
def test_every_parameter_of_an_encoder_has_its_layer(config: Beit3Config) -> None:
    encoder = Beit3Encoder(config)
    parts = {"vision_embedding": 0, "text_embedding": 0, "norm": 4}
    for name, _ in encoder.named_parameters():
        first, second = name.split(".")[:2]
        assert layer_of(name, 3) == (int(second) + 1 if first == "blocks" else parts[first]), name


@pytest.mark.parametrize("name", ["blocks.3.norm1.text.weight", "blocks.x.bias", "head.weight", "blocks"])
def test_a_name_that_an_encoder_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no parameter of a BEiT-3 encoder of 3 blocks"):
        layer_of(name, 3)


def test_the_task_head_is_the_new_classifier_alone() -> None:
    names = {name.split(".")[0] for name, _ in Beit3ForVqa(SPLIT, num_answers=3).named_parameters()}
    assert {name for name in names if is_task_head(f"{name}.weight")} == {"head"}
    assert not any(is_task_head(name) for name, _ in Beit3ForRetrieval(SPLIT).named_parameters())


def moved(model: nn.Module, config: OptimizerConfig) -> dict[str, float]:
    """How far one AdamW step of equal gradients moves each parameter."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, config, exceptions=_not_decayed(model), scale=_rates(model, config))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        name: (parameter.detach() - before[name]).abs().max().item()
        for name, parameter in model.named_parameters()
    }


def test_lower_layers_learn_slower_by_the_layer_decay() -> None:
    config = OptimizerConfig(lr=1e-2, layer_decay=0.5, weight_decay=0.0)
    steps = moved(Beit3ForNlvr2(SPLIT), config)
    for name, step in steps.items():
        layer = layer_of(name.removeprefix("encoder."), 3) if name.startswith("encoder.") else 4
        # A step of AdamW is as long as its rate; values near 1 round it in float32.
        assert step == pytest.approx(1e-2 * 0.5 ** (4 - layer), rel=1e-3), name
    assert {round(math.log2(step / 1e-2)) for step in steps.values()} == {0, -1, -2, -3, -4}


def test_a_raised_head_learns_faster_and_the_rest_as_before() -> None:
    config = OptimizerConfig(lr=1e-3, head_lr_scale=20.0, weight_decay=0.0)
    for name, step in moved(Beit3ForVqa(SPLIT, num_answers=3), config).items():
        factor = 20 if name.startswith("head.") else 1
        assert step == pytest.approx(1e-3 * factor, rel=1e-3), name


def test_class_token_and_vision_positions_are_not_decayed_but_mask_token_and_text_positions_are() -> None:
    model = Beit3ForImageClassification(SPLIT, num_classes=5)
    config = OptimizerConfig(weight_decay=0.1)
    optimizer = build_optimizer(model, config, exceptions=_not_decayed(model))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    free = {
        names[id(parameter)]
        for group in optimizer.param_groups
        if group["weight_decay"] == 0
        for parameter in group["params"]
        if parameter.ndim > 1
    }
    assert free == {"encoder.vision_embedding.class_token", "encoder.vision_embedding.positions.weight"}


def test_layers_of_a_visual_tokenizer_do_not_decay() -> None:
    with torch.device("meta"):
        model = Vqkd(VqkdConfig())
    assert _rates(model, OptimizerConfig())("encoder.class_token") == 1.0
    with pytest.raises(ConfigError, match=r"optimizer\.layer_decay is 0\.9, .* set it to 1"):
        _rates(model, OptimizerConfig(layer_decay=0.9))
