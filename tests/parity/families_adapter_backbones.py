"""Parity families of whole backbones: ViT, BEiT and Uni-Perceiver, with an adapter and without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.official import (
    Family as Kind,
    adapter_map,
    baseline_map,
    to_official,
    to_ours,
)
from imglish.models.weight_map import WeightMap, check_state
from tests.parity.case import Case, Check, Family
from tests.parity.families_adapter import statistics_checks


def kind_of(official_class: str) -> Kind:
    """Which family of backbones an official class belongs to."""
    if official_class.startswith("BEiT"):
        return "beit"
    return "uniperceiver" if official_class.startswith("UniPerceiver") else "vit"


def vit_config(kind: Kind, tree: str, config: Mapping[str, Any]) -> ViTConfig:
    """Our settings of an official backbone's ViT.

    Args:
        kind: Of the backbone.
        tree: ``seg`` or ``det``.
        config: The official settings.
    """
    side: Any = config["img_size"] if kind == "beit" else config["pretrain_size"]
    height, width = side if isinstance(side, list) else (side, side)
    depth = config["depth"]
    pairs = zip(
        config.get("window_attn", [False] * depth), config.get("window_size", [0] * depth), strict=True
    )
    ours = ViTConfig(
        image_size=(height, width),
        patch_size=config["patch_size"],
        width=config["embed_dim"],
        depth=depth,
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        drop_path=config.get("drop_path_rate", 0.0),
        class_token=False,
        output_norm=False,
        windows=tuple(size if used else 0 for used, size in pairs),
        residual_blocks=tuple(config.get("residual_indices", ())),
    )
    if kind == "vit":
        scale = 1.0 if config.get("layer_scale", True) else 0.0
        return replace(
            ours,
            attention_bias="all",
            layer_scale=scale,
            position_resampling="size",
            window_padding="projected",
            rescale_outputs=False,
        )
    if kind == "uniperceiver":
        return replace(
            ours,
            attention_bias="all",
            layer_scale_from_zero=True,
            position_resampling="size",
            class_position=False,
            embedding_norm=True,
            time_positions=8,
            norm_eps=1e-5,
        )
    return replace(
        ours,
        class_token=tree == "seg",
        attention_bias="query_value" if config["qkv_bias"] else "none",
        absolute_positions=config["use_abs_pos_emb"],
        relative_positions="per_block" if config["use_rel_pos_bias"] else "none",
        layer_scale=config["init_values"],
    )


def adapter_config(kind: Kind, tree: str, config: Mapping[str, Any]) -> ViTAdapterConfig:
    """Our settings of an official adapter."""
    groups = tuple((first, last) for first, last in config["interaction_indexes"])
    own_level = tree == "seg" or config.get("version") == "old"
    features = config.get("add_vit_feature", True)
    return ViTAdapterConfig(
        num_interactions=len(groups),
        interaction_blocks=groups,
        vit_features=("per_interaction" if own_level else "last") if features else "none",
        stem_width=config["conv_inplane"],
        num_heads=config["deform_num_heads"],
        num_points=config["n_points"],
        value_ratio=config["deform_ratio"],
        feed_forward_ratio=config["cffn_ratio"] if config.get("with_cffn", True) else 0.0,
        num_extra_extractors=2 if config.get("use_extra_extractor", True) else 0,
        injector_scale=config["init_values"] if kind == "beit" else 0.0,
        drop_path=config.get("drop_path_rate", 0.0),
        norm_eps=1e-5 if kind == "uniperceiver" else 1e-6,
    )


def build(official_class: str, tree: str, config: Mapping[str, Any]) -> tuple[nn.Module, WeightMap]:
    """Our model of an official backbone, and the map between their names."""
    kind = kind_of(official_class)
    vit = ViT(vit_config(kind, tree, config))
    if official_class.endswith("Adapter"):
        return ViTAdapter(vit, adapter_config(kind, tree, config)), adapter_map(kind)
    step = vit.depth // 4
    blocks = config.get("out_indices", range(-1, vit.depth, step)[1:])
    assert kind != "uniperceiver"
    model = PlainViT(
        vit, out_blocks=tuple(blocks), layer_norm=kind == "vit", norm="group" if kind == "vit" else "batch"
    )
    return model, baseline_map(kind)


def run_backbone(case: Case) -> list[Check]:
    """Maps of four strides, gradients and statistics, and the weights back under their official names."""
    model, names = build(case.cls, case.json["tree"], case.config)
    state = to_ours(case.weights, names)
    check_state(state, model.state_dict(), where=case.name)
    model.load_state_dict(state)
    model.train(case.json["mode"] != "eval")
    vit = model.backbone
    assert isinstance(vit, ViT)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}  # training changes some
    back = to_official(before, names, vit.config)
    checks = [Check("names", sorted(back), sorted(case.weights), "integer")]
    checks += [
        Check(f"{name} and back", back[name], weight, "forward" if weight.is_floating_point() else "integer")
        for name, weight in case.weights.items()
    ]
    pyramid = model(case.inputs["image"])
    maps = {f"f{level + 1}": x for level, x in enumerate(pyramid.maps.values())}
    checks += [Check(name, x, case.outputs[name], "forward") for name, x in maps.items()]
    if "cot1" in case.inputs:
        checks += _gradient_checks(case, model, names, maps)
    return checks + statistics_checks(case, names.to_official(model.state_dict()))


def _gradient_checks(
    case: Case, model: nn.Module, names: WeightMap, maps: Mapping[str, Tensor]
) -> list[Check]:
    torch.stack([(x * case.inputs[f"cot{name[1]}"]).sum() for name, x in maps.items()]).sum().backward()
    official = names.to_official(dict(model.named_parameters()))
    whole = {name: x for name, x in case.outputs.items() if name.startswith("grad/")}
    # A bias before a batch norm has no gradient but rounding: it is held against the largest one.
    noise = 1e-6 * max(float(x.abs().max()) for x in whole.values())
    checks = []
    norms, recorded = {}, {}
    for name, reference in case.outputs.items():
        if name in whole:
            ours = official[name.removeprefix("grad/")].grad
            if reference.abs().max() > 10 * noise:
                checks.append(Check(name, ours, reference, "forward"))
            else:
                checks.append(Check(name, ours, reference, "statistic", tolerance=10 * noise))
        elif name.startswith("gradstat/"):
            gradient = official[name.removeprefix("gradstat/")].grad
            assert gradient is not None
            norms[name], recorded[name] = float(gradient.norm()), float(reference[1])
    return [*checks, Check("gradient norms", norms, recorded, "gradient_norm")]


FAMILIES: tuple[Family, ...] = (Family(lambda case: case.json.get("family") == "backbone", run_backbone),)
