"""Parity families of ViT-Adapter: deformable attention, spatial prior, injector, extractor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.interaction import ConvFeedForward, Extractor, Injector
from imglish.models.vit_adapter.spatial_prior import SpatialPrior
from imglish.models.vit_adapter.weights import (
    extractor_rules,
    feed_forward_rules,
    injector_rules,
    spatial_prior_rules,
)
from imglish.models.weight_map import Rule, WeightMap, check_state
from imglish.nn.deformable_attention import DeformableAttention
from imglish.ops.deformable_attention import reference_points
from tests.parity.case import Case, Check, Family


def _load(module: nn.Module, rules: tuple[Rule, ...], case: Case) -> None:
    state = WeightMap(rules).to_ours(case.weights)
    check_state(state, module.state_dict(), where=case.name)
    module.load_state_dict(state)


def _sizes(shapes: Tensor) -> tuple[tuple[int, int], ...]:
    return tuple((int(height), int(width)) for height, width in shapes.tolist())


def _deformable_attention(case: Case) -> DeformableAttention:
    config = case.config
    return DeformableAttention(
        width=config["d_model"],
        num_heads=config["n_heads"],
        num_levels=config["n_levels"],
        num_points=config["n_points"],
        ratio=config["ratio"],
    )


def run_deformable_attention_init(case: Case) -> list[Check]:
    """How the module starts: the recorded bias of the offsets; zeros; Xavier's range of the projections."""
    module = _deformable_attention(case)
    recorded = case.outputs["sampling_offsets_bias"]
    checks = [Check("sampling_offsets.bias", module.sampling_offsets.bias, recorded, "forward")]
    zeros = {
        "sampling_offsets.weight": module.sampling_offsets.weight,
        "attention_weights.weight": module.attention_weights.weight,
        "attention_weights.bias": module.attention_weights.bias,
        "value_proj.bias": module.value_proj.bias,
        "output_proj.bias": module.output_proj.bias,
    }
    checks += [Check(name, x, torch.zeros_like(x), "forward") for name, x in zeros.items()]
    for name, linear in (("value_proj", module.value_proj), ("output_proj", module.output_proj)):
        bound = (6 / sum(linear.weight.shape)) ** 0.5  # Xavier, uniform
        within = (linear.weight.abs() <= bound).all() & (linear.weight.abs().max() > 0.95 * bound)
        checks.append(Check(f"{name}.weight within its range", within, torch.tensor(True), "forward"))
    return checks


def run_deformable_attention(case: Case) -> list[Check]:
    """Output and gradients of the attention module."""
    given = case.inputs
    module = _deformable_attention(case)
    module.load_state_dict(case.weights)
    names = ("query", "reference_points", "value")
    leaves = {name: given[name].clone().requires_grad_() for name in names}
    out = module(
        leaves["query"],
        leaves["reference_points"],
        leaves["value"],
        _sizes(given["spatial_shapes"]),
        given.get("padding_mask"),
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
    config = case.config
    module = SpatialPrior(width=config["embed_dim"], stem_width=config["inplanes"], norm=nn.BatchNorm2d)
    _load(module, spatial_prior_rules(), case)
    module.train(case.json["mode"] != "eval")
    maps = module(case.inputs["image"])
    ours = [maps[0], *(x.flatten(2).transpose(1, 2) for x in maps[1:])]
    checks = [Check(f"c{i + 1}", x, case.outputs[f"c{i + 1}"], "forward") for i, x in enumerate(ours)]
    return checks + statistics_checks(case, WeightMap(spatial_prior_rules()).to_official(module.state_dict()))


def statistics_checks(case: Case, official: dict[str, Tensor]) -> list[Check]:
    """What a step in training left in the running statistics, under their official names."""
    names = [name for name in case.outputs if name.startswith("state/")]
    return [
        Check(
            name,
            official[name.removeprefix("state/")],
            case.outputs[name],
            "forward" if case.outputs[name].is_floating_point() else "integer",
        )
        for name in names
    ]


def run_conv_feed_forward(case: Case) -> list[Check]:
    """Tokens of three levels after the convolutional feed-forward network."""
    module = ConvFeedForward(case.config["in_features"], case.config["hidden_features"]).eval()
    _load(module, feed_forward_rules(), case)
    rows, columns = case.config["HW16"]
    sizes = ((2 * rows, 2 * columns), (rows, columns), (rows // 2, columns // 2))
    return [Check("output", module(case.inputs["x"], sizes), case.outputs["output"], "forward")]


def run_deformable_inputs(case: Case) -> list[Check]:
    """Where queries of injectors and extractors stand, and the sizes of what they look at."""
    height, width = case.config["image_hw"]
    sizes = tuple((height // stride, width // stride) for stride in (8, 16, 32))
    checks = []
    for part, queries, keys in (("inj", sizes[1:2], sizes), ("ext", sizes, sizes[1:2])):
        starts = torch.tensor([sum(h * w for h, w in keys[:level]) for level in range(len(keys))])
        checks += [
            Check(
                f"{part} places",
                reference_points(queries)[None, :, None],
                case.outputs[f"{part}_reference_points"],
                "forward",
            ),
            Check(f"{part} sizes", torch.tensor(keys), case.outputs[f"{part}_spatial_shapes"], "integer"),
            Check(f"{part} starts", starts, case.outputs[f"{part}_level_start_index"], "integer"),
        ]
    return checks


def _adapter_config(case: Case) -> ViTAdapterConfig:
    config = case.config
    return ViTAdapterConfig(
        num_heads=config["num_heads"],
        num_points=config.get("n_points", 4),
        value_ratio=config["deform_ratio"],
        feed_forward_ratio=config.get("cffn_ratio", 0.25) if config.get("with_cffn", True) else 0.0,
        norm_eps=config.get("norm_eps", 1e-6),
    )


def run_injector(case: Case) -> list[Check]:
    """ViT tokens after the injector."""
    given = case.inputs
    module = Injector(case.config["dim"], _adapter_config(case)).eval()
    _load(module, injector_rules(), case)
    places = given["inj_ref"][0, :, 0]
    grid = _sizes(given["ext_shapes"])[0]
    out = module(given["query"], places, given["feat"], _sizes(given["inj_shapes"]), grid)
    return [Check("output", out, case.outputs["output"], "forward")]


def run_extractor(case: Case) -> list[Check]:
    """Spatial tokens after the extractor."""
    given = case.inputs
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
    Family(lambda case: _is(case, "msda", "MSDeformAttn._reset_parameters"), run_deformable_attention_init),
    Family(lambda case: _is(case, "adapter_parts", "SpatialPriorModule"), run_spatial_prior),
    Family(lambda case: _is(case, "adapter_parts", "Injector"), run_injector),
    Family(lambda case: _is(case, "adapter_parts", "Extractor"), run_extractor),
    Family(lambda case: _is(case, "adapter_parts", "ConvFFN"), run_conv_feed_forward),
    Family(lambda case: _is(case, "adapter_parts", "deform_inputs"), run_deformable_inputs),
)
