"""Parity family of how segmenters and detectors are trained: rates and weight decay by parameter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from imglish.models.segmenters.layers import layer_of
from imglish.models.vit_adapter.official import adapter_map, to_ours
from imglish.train.optimizer import is_decayed, layer_scale
from tests.parity.case import Case, Check, Family

# The head that was recorded is a stand-in: what its parts are called in ours.
_HEAD = {
    "decode_head.cls_embed.": "head.classifier.",
    "decode_head.mask_embed.": "head.mask_embedding.",
    "decode_head.level_embed.weight": "head.level_embedding",
    "decode_head.query_embed.weight": "head.query_positions",
    "decode_head.query_feat.weight": "head.query_features",
    "decode_head.": "head.output.",
}


def run_layer_decay(case: Case) -> list[Check]:
    """Factor of the rate, weight decay and rate of each parameter, beside those of its official one."""
    depth, settings = case.config["num_layers"], case.config
    checks = []
    for name, (official, parameter) in _ours(case).items():
        factor = layer_scale(
            layer_of(name, depth, masks=case.json["tree"] == "seg"), depth, settings["layer_decay_rate"]
        )
        decay = settings["weight_decay"] if is_decayed(name, parameter, ()) else 0.0
        ours = [factor, decay, factor * settings["lr"]]
        checks += [Check(f"{name} ({one})", ours, case.json["params"][one], "loss") for one in official]
    covered = sorted({one for official, _ in _ours(case).values() for one in official})
    checks.append(Check("parameters", covered, sorted(case.json["params"]), "integer"))
    return checks


def _ours(case: Case) -> dict[str, tuple[list[str], nn.Parameter]]:
    """Our parameters by name, each with the official names that it is made of."""
    shapes: Mapping[str, list[int]] = case.json["shapes"]
    names = [name for name in case.json["params"] if name.startswith("backbone.")]
    # Filled with numbers of their names, the official weights tell where they end up.
    state = {
        name.removeprefix("backbone."): torch.full(shapes[name], float(number))
        for number, name in enumerate(names)
    }
    found = {
        f"backbone.{name}": (_origins(tensor, names), nn.Parameter(tensor))
        for name, tensor in to_ours(state, adapter_map(case.json["backbone"])).items()
    }
    for name in case.json["params"]:
        if name in names:
            continue
        start = next(start for start in _HEAD if name.startswith(start))
        ours = _HEAD[start] + name.removeprefix(start)
        found[ours] = ([name], nn.Parameter(torch.zeros(shapes[name])))
    return found


def _origins(tensor: Tensor, names: list[str]) -> list[str]:
    return [names[int(number)] for number in tensor.unique()]


FAMILIES = (Family(lambda case: case.json.get("family") == "layer_decay", run_layer_decay),)
