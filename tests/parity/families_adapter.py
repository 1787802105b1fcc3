"""Parity families of ViT-Adapter: deformable attention, spatial prior, injector, extractor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.interaction import Extractor, Injector
from imglish.models.vit_adapter.spatial_prior import SpatialPrior
from imglish.models.vit_adapter.weights import extractor_rules, injector_rules, spatial_prior_rules
from imglish.models.weight_map import Rule, WeightMap, check_state
from imglish.nn.deformable_attention import DeformableAttention
from tests.parity.case import Case, Check, Family, NotCoveredError


def _load(module: nn.Module, rules: tuple[Rule, ...], case: Case) -> None:
    state = WeightMap(rules).to_ours(case.weights)
    check_state(state, module.state_dict(), where=case.name)
    module.load_state_dict(state)


def _sizes(shapes: Tensor) -> tuple[tuple[int, int], ...]:
    return tuple((int(height), int(width)) for height, width in shapes.tolist())


def run_deformable_attention(case: Case) -> list[Check]:
    """Output and gradients of the attention module."""
    config, given = case.config, case.inputs
    if "padding_mask" in given:
        raise NotCoveredError("padded values come with issue 5")
    if given["reference_points"].shape[-1] != 2:
        raise NotCoveredError("references with sizes come with issue 5")
    module = DeformableAttention(
        width=config["d_model"],
        num_heads=config["n_heads"],
        num_levels=config["n_levels"],
        num_points=config["n_points"],
        ratio=config["ratio"],
    )
    module.load_state_dict(case.weights)
    names = ("query", "reference_points", "value")
    leaves = {name: given[name].clone().requires_grad_() for name in names}
    out = module(
        leaves["query"], leaves["reference_points"], leaves["value"], _sizes(given["spatial_shapes"])
    )
    (out * given["cotangent"]).sum().backward()
    checks = [Check("output", out, case.outputs["output"], "forward")]
    gradients = leaves | dict(module.named_parameters())
    checks += [
        Check(f"gradient of {name}", leaf.grad, case.outputs[f"grad_{name}"], "forward")
        for name, leaf in gradients.items()
        if f"grad_{name}" in case.outputs
    ]
    return checks


def run_spatial_prior(case: Case) -> list[Check]:
    """Maps of four strides; the official code flattens the last three to tokens."""
    if case.json.get("mode") != "eval":
        raise NotCoveredError("batch statistics in training come with issue 5")
    config = case.config
    module = SpatialPrior(
        width=config["embed_dim"], stem_width=config["inplanes"], norm=nn.BatchNorm2d
    ).eval()
    _load(module, spatial_prior_rules(), case)
    maps = module(case.inputs["image"])
    ours = [maps[0], *(x.flatten(2).transpose(1, 2) for x in maps[1:])]
    return [Check(f"c{i + 1}", x, case.outputs[f"c{i + 1}"], "forward") for i, x in enumerate(ours)]


def _adapter_config(case: Case) -> ViTAdapterConfig:
    config = case.config
    return ViTAdapterConfig(
        num_heads=config["num_heads"],
        num_points=config["n_points"],
        value_ratio=config["deform_ratio"],
        feed_forward_ratio=config.get("cffn_ratio", 0.25),
    )


def run_injector(case: Case) -> list[Check]:
    """ViT tokens after the injector."""
    given = case.inputs
    module = Injector(case.config["dim"], _adapter_config(case)).eval()
    _load(module, injector_rules(), case)
    places = given["inj_ref"][0, :, 0]
    out = module(given["query"], places, given["feat"], _sizes(given["inj_shapes"]))
    return [Check("output", out, case.outputs["output"], "forward")]


def run_extractor(case: Case) -> list[Check]:
    """Spatial tokens after the extractor."""
    given = case.inputs
    if not case.config["with_cffn"]:
        raise NotCoveredError("extractors without a feed-forward network come with issue 5")
    module = Extractor(case.config["dim"], _adapter_config(case)).eval()
    _load(module, extractor_rules(), case)
    grid = _sizes(given["ext_shapes"])[0]
    out = module(given["query"], given["ext_ref"][0, :, 0], given["feat"], grid, _sizes(given["inj_shapes"]))
    return [Check("output", out, case.outputs["output"], "forward")]


def _is(case: Case, family: str, cls: str) -> bool:
    return case.json.get("family") == family and str(case.json.get("cls", "")).split(" ")[0] == cls


def _has_numbers(case: Case) -> bool:
    return bool(case.inputs) and torch.is_tensor(next(iter(case.inputs.values())))


FAMILIES: tuple[Family, ...] = (
    Family(
        lambda case: _is(case, "msda", "MSDeformAttn") and "output" in case.outputs and _has_numbers(case),
        run_deformable_attention,
    ),
    Family(lambda case: _is(case, "adapter_parts", "SpatialPriorModule"), run_spatial_prior),
    Family(lambda case: _is(case, "adapter_parts", "Injector"), run_injector),
    Family(lambda case: _is(case, "adapter_parts", "Extractor"), run_extractor),
)
