"""Parity families of detection's parts and of one-stage detectors: boxes, suppression, necks, ATSS, GFL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from imglish.decoding.boxes import DenseSelection, select_boxes
from imglish.losses.one_stage import (
    OneStageLoss,
    OneStageTerms,
    dense_targets,
    mean_terms,
    one_stage_terms,
)
from imglish.models.dense_heads.atss import AtssHead
from imglish.models.dense_heads.gfl import GflHead
from imglish.models.dense_heads.weights import atss_rules, gfl_rules
from imglish.models.necks.channel_mapper import ChannelMapper
from imglish.models.necks.extra_attention import ExtraAttention
from imglish.models.necks.fpn import ExtraSource, Fpn
from imglish.models.necks.weights import channel_mapper_rules, extra_attention_rules, fpn_rules
from imglish.models.weight_map import Rule, WeightMap, check_state
from imglish.ops.anchors import AnchorShapes, cell_anchors, cells_on_picture, level_anchors, octave_scales
from imglish.ops.assignment import assign_atss
from imglish.ops.box_coding import decode_boxes, encode_boxes
from imglish.ops.nms import Kept, NmsSettings, classwise_nms, multiclass_nms, nms
from imglish.structures.dense_boxes import ATSS_STDS, AtssPredictions, DensePredictions
from imglish.structures.instances import Instances
from imglish.structures.pyramid import FeaturePyramid
from tests.parity.case import Case, Check, Family, NotCoveredError

Settings = Mapping[str, Any]


def _load(module: nn.Module, rules: tuple[Rule, ...], case: Case) -> None:
    """Load official weights strictly, both ways; factors of levels are scalars in official files."""
    names = WeightMap(rules)
    ours = module.state_dict()
    state = {
        name: w.reshape(1) if name.startswith("scales.") else w
        for name, w in names.to_ours(case.weights).items()
    }
    check_state(state, ours, where=case.name)
    assert names.to_official(ours).keys() == case.weights.keys()
    module.load_state_dict(state)
    module.eval()


def anchor_shapes(settings: Settings) -> AnchorShapes:
    """Shapes of anchors, whose sizes are given as scales or as octaves."""
    scales = settings.get("scales")
    if scales is None:
        scales = octave_scales(settings["octave_base_scale"], settings["scales_per_octave"])
    return AnchorShapes(ratios=tuple(settings["ratios"]), scales=tuple(float(scale) for scale in scales))


def run_anchors(case: Case) -> list[Check]:
    """Anchors of a cell, of whole levels, and which cells lie on a smaller picture."""
    checks = []
    for name, recorded in case.outputs.items():
        prefix, what, *number = name.split("_")
        settings, level = case.config[prefix], int(number[0]) if number else 0
        shapes, stride = anchor_shapes(settings), settings["strides"][level]
        if what == "base":
            checks.append(Check(name, cell_anchors(stride, shapes), recorded, "forward"))
            continue
        size = settings["feat_sizes"][level]
        if what == "grid":
            checks.append(Check(name, level_anchors(size, stride, shapes), recorded, "forward"))
            continue
        without = re.search(r"\(H-(\d+),W-(\d+)\)", case.json["meaning"][name])
        if without is None:
            raise NotCoveredError(f"another picture: {case.json['meaning'][name]}")
        picture = (size[0] * stride - int(without[1]), size[1] * stride - int(without[2]))
        ours = cells_on_picture(size, stride, picture, len(shapes))
        checks.append(Check(name, ours, recorded, "integer"))
    return checks


def run_box_coder(case: Case) -> list[Check]:
    """Changes of boxes and back: with borders and without, for one class and for several."""
    config, inputs = case.config, case.inputs
    anchors, size = inputs["proposals"], tuple(config["max_shape"])
    largest = abs(torch.tensor(config["wh_ratio_clip"], dtype=torch.float64).log().item())

    def decode(deltas: Tensor, stds: list[float], *, clip: bool) -> Tensor:
        several = deltas.unflatten(1, (-1, 4))
        boxes = decode_boxes(
            anchors[:, None], several, stds=stds, size=size if clip else None, largest_change=largest
        )
        return boxes.flatten(1)

    checks = []
    for name, recorded in case.outputs.items():
        *kind, number = name.split("_")
        if name == "decode_noclipborder":  # recorded with the second standard deviations
            kind, number = ["decode"], "1"
        stds = config["stds"][int(number)]
        if kind == ["encode"]:
            ours = encode_boxes(anchors, inputs["targets"], stds=stds)
        else:
            deltas = inputs["deltas_multi" if "multi" in kind else "deltas"]
            ours = decode(deltas, stds, clip=kind != ["decode"])
        checks.append(Check(name, ours, recorded, "forward"))
    return checks


def _suppression(name: str, soft: Settings) -> NmsSettings:
    """What an output's name says of its suppression."""
    limits = {"max_overlap": soft["iou_threshold"], "sigma": soft["sigma"], "min_score": soft["min_score"]}
    for part in name.split("_"):
        for word, key in (("nms", "max_overlap"), ("iou", "max_overlap"), ("min", "min_score")):
            if part.removeprefix(word).replace(".", "").isdigit() and part.startswith(word):
                limits[key] = float(part.removeprefix(word))
    if "gaussian" in name:
        return NmsSettings(kind="gaussian", **limits)
    return NmsSettings(kind="linear" if "soft" in name and "naive" not in name else "hard", **limits)


def run_nms(case: Case) -> list[Check]:
    """Hard and soft suppression: of one class, by class, and from scores of all classes."""
    boxes, scores, soft = case.inputs["boxes"], case.inputs["scores"], case.config["soft"]
    checks: list[Check] = []
    for dets in [name for name in case.outputs if name.endswith("_dets")]:
        name, recorded = dets.removesuffix("_dets"), case.outputs[dets]
        settings = _suppression(name, soft)
        if name.startswith("multi"):
            checks += _multiclass(case, name, settings)
            continue
        if name.startswith("batched"):
            kept = classwise_nms(boxes, scores, case.inputs["ids"], settings)
        else:
            kept = nms(boxes, scores, settings)
        if "naive" in name:  # the soft kernel without softness: hard, and asks for the least score
            sure = (kept.scores >= settings.min_score) | (torch.arange(len(kept.scores)) == 0)
            kept = Kept(kept.indices[sure], kept.scores[sure])
        found = torch.cat([boxes[kept.indices], kept.scores[:, None]], dim=1)
        checks += [
            Check(dets, found, recorded, "forward"),
            Check(f"{name}_keep", kept.indices, case.outputs[f"{name}_keep"], "integer"),
        ]
    return checks


def _multiclass(case: Case, name: str, settings: NmsSettings) -> Iterator[Check]:
    limits = re.search(r"score_thr ([\d.]+)/([\d.]+), max (\d+)", case.json["meaning"]["note"])
    if limits is None:
        raise NotCoveredError(f"limits told otherwise: {case.json['meaning']['note']}")
    kept = multiclass_nms(
        case.inputs["boxes"],
        case.inputs["multi_scores"][:, :-1],
        settings,
        min_score=float(limits[2 if "soft" in name else 1]),
        max_boxes=int(limits[3]),
    )
    found = torch.cat([kept.boxes, kept.scores[:, None]], dim=1)
    yield Check(f"{name}_dets", found, case.outputs[f"{name}_dets"], "forward")
    yield Check(f"{name}_labels", kept.labels, case.outputs[f"{name}_labels"], "integer")


def _fpn(config: Settings) -> tuple[nn.Module, tuple[Rule, ...]]:
    known = {"type", "in_channels", "out_channels", "num_outs", "start_level", "add_extra_convs"}
    if others := config.keys() - known - {"relu_before_extra_convs"}:
        raise NotCoveredError(f"options of a pyramid: {', '.join(sorted(others))}")
    sources: dict[Any, ExtraSource] = {
        False: "pool",
        True: "input",
        "on_input": "input",
        "on_lateral": "lateral",
        "on_output": "output",
    }
    first = config.get("start_level", 0)
    used = len(config["in_channels"]) - first
    neck = Fpn(
        config["in_channels"],
        config["out_channels"],
        first_level=first,
        num_extra=config["num_outs"] - used,
        extra=sources[config.get("add_extra_convs", False)],
        extra_relu=config.get("relu_before_extra_convs", False),
    )
    return neck, fpn_rules()


def _channel_mapper(config: Settings) -> tuple[nn.Module, tuple[Rule, ...]]:
    widths = config["in_channels"]
    neck = ChannelMapper(widths, config["out_channels"], num_extra=config["num_outs"] - len(widths))
    return neck, channel_mapper_rules()


def _extra_attention(config: Settings) -> tuple[nn.Module, tuple[Rule, ...]]:
    neck = ExtraAttention(
        config["in_channels"][-1],
        num_heads=config["num_head"],
        ffn_ratio=config["ffn_ratio"] if config["with_ffn"] else 0,
        drop_path=config["drop_path"],
    )
    return neck, extra_attention_rules()


_NECKS = {
    "FPN": _fpn,
    "ChannelMapperWithPooling": _channel_mapper,
    "ExtraAttention": _extra_attention,
}


def run_neck(case: Case) -> list[Check]:
    """Every recorded level behind a neck."""
    neck, rules = _NECKS[case.config["type"]](case.config)
    _load(neck, rules, case)
    given = {4 * 2**level: case.inputs[f"f{level + 1}"] for level in range(len(case.inputs))}
    found = list(neck(FeaturePyramid(given)).maps.values())
    return [
        Check(name, found[int(name.removeprefix("o"))], recorded, "forward")
        for name, recorded in case.outputs.items()
    ]


def _head(config: Settings) -> tuple[AtssHead | GflHead, tuple[Rule, ...]]:
    anchors = anchor_shapes(config["anchor_generator"])
    if len(anchors) != 1 or anchors.ratios != (1.0,):
        raise NotCoveredError("several anchors of a cell, which no official config has")
    sizes: dict[str, Any] = {
        "in_width": config["in_channels"],
        "num_classes": config["num_classes"],
        "num_levels": len(config["anchor_generator"]["strides"]),
        "width": config["feat_channels"],
        "num_convs": config["stacked_convs"],
        "num_groups": config["norm_cfg"]["num_groups"],
        "anchor_scale": anchors.scales[0],
    }
    if config["type"] == "GFLHead":
        return GflHead(**sizes, max_distance=config["reg_max"]), gfl_rules()
    coder = config["bbox_coder"]
    if tuple(coder["target_stds"]) != ATSS_STDS or any(coder["target_means"]):
        raise NotCoveredError("another scale of changes, which no official config has")
    return AtssHead(**sizes), atss_rules()


def _loss(config: Settings) -> OneStageLoss:
    head, train = config["head"], config["train_cfg"]
    if train["allowed_border"] >= 0 or train["pos_weight"] > 0:
        raise NotCoveredError("borders or weights of objects, which no official config has")
    classes = head["loss_cls"]
    return OneStageLoss(
        class_weight=classes["loss_weight"],
        box_weight=head["loss_bbox"]["loss_weight"],
        centerness_weight=head.get("loss_centerness", {"loss_weight": 1.0})["loss_weight"],
        distribution_weight=head.get("loss_dfl", {"loss_weight": 0.25})["loss_weight"],
        alpha=classes.get("alpha", 0.25),
        gamma=classes.get("gamma", classes.get("beta")),
        num_candidates=train["assigner"]["topk"],
    )


def _maps(case: Case, predictions: DensePredictions) -> Iterator[Check]:
    """Predictions of each level, as the official heads lay them out."""
    parts: dict[str, tuple[Tensor, ...]] = {"cls": predictions.classes}
    if isinstance(predictions, AtssPredictions):
        parts |= {"reg": predictions.deltas, "ctr": tuple(x[..., None] for x in predictions.centerness)}
    else:
        parts["reg"] = tuple(x.flatten(2) for x in predictions.distributions)
    for name, levels in parts.items():
        for level, (x, grid) in enumerate(zip(levels, predictions.levels.grids, strict=True)):
            ours = x.transpose(1, 2).unflatten(2, grid)
            yield Check(f"{name}_{level}", ours, case.outputs[f"{name}_{level}"], "forward")


def _level(predictions: DensePredictions, level: int) -> tuple[int, int]:
    """First and last cell (the one behind it) of a level among all."""
    counts = [len(anchors) for anchors in predictions.levels.anchors]
    return sum(counts[:level]), sum(counts[: level + 1])


def _losses(case: Case, predictions: DensePredictions, objects: Instances) -> Iterator[Check]:
    """Terms of each level by itself: all others are left out, the divisors stay those of the whole."""
    config, loss = case.config, _loss(case.config)
    size = (config["img"][0], config["img"][1])
    targets = dense_targets(predictions.levels, [objects], [size], loss)
    whole = one_stage_terms(predictions, targets, loss)
    quality = "loss_centerness" if config["head"]["type"] == "ATSSHead" else "loss_dfl"
    names = {"loss_cls": "classes", "loss_bbox": "boxes", quality: "quality"}
    for level in range(len(predictions.classes)):
        begin, end = _level(predictions, level)
        here = torch.zeros_like(targets.counted)
        here[:, begin:end] = True
        only = targets._replace(labels=torch.where(here, targets.labels, -1), counted=targets.counted & here)
        terms = one_stage_terms(predictions, only, loss)
        means = mean_terms(OneStageTerms(*terms[:3], *whole[3:]))
        for name, field in names.items():
            yield Check(f"{name}_{level}", means[field], case.outputs[f"loss/{name}_{level}"], "loss")


def run_dense_head(case: Case) -> list[Check]:
    """Predictions, assignment, losses and detections of ATSS or GFL."""
    config, test = case.config, case.config["test_cfg"]
    head, rules = _head(config["head"])
    _load(head, rules, case)
    strides = config["head"]["anchor_generator"]["strides"]
    levels = [name for name in sorted(case.inputs) if name.startswith("p")]
    predictions = head(FeaturePyramid({s: case.inputs[p] for s, p in zip(strides, levels, strict=True)}))
    boxes, labels = case.inputs["gt_bboxes"], case.inputs["gt_labels"]
    objects = Instances(boxes=boxes, labels=labels, crowd=torch.zeros_like(labels, dtype=torch.bool))
    assigned = assign_atss(
        predictions.levels.anchors, boxes, num_candidates=config["train_cfg"]["assigner"]["topk"]
    )
    checks = list(_maps(case, predictions))
    checks += [
        Check("anchors", torch.cat(predictions.levels.anchors), case.outputs["anchors"], "forward"),
        Check("assigned_gt_inds", assigned.targets + 1, case.outputs["assigned_gt_inds"], "integer"),
        # Officially far below zero where there is no object.
        Check("overlaps", assigned.overlaps, case.outputs["assigned_overlaps"].clamp(min=0), "forward"),
        *_losses(case, predictions, objects),
    ]
    if test["nms"]["type"] != "nms":
        raise NotCoveredError("soft suppression behind a one-stage detector, which no official config has")
    selection = DenseSelection(
        min_score=test["score_thr"],
        before_nms=test["nms_pre"],
        nms=NmsSettings(max_overlap=test["nms"]["iou_threshold"]),
        max_boxes=test["max_per_img"],
    )
    (found,) = select_boxes(predictions, [(config["img"][0], config["img"][1])], selection)
    detections = torch.cat([found.boxes, found.scores[:, None]], dim=1)
    return [
        *checks,
        Check("det", detections, case.outputs["det"], "forward"),
        Check("det_labels", found.labels, case.outputs["det_labels"], "integer"),
    ]


def _is(case: Case, family: str, *names: str) -> bool:
    return case.json.get("family") == family and case.cls.startswith(names)


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: _is(case, "det_parts", "AnchorGenerator"), run_anchors),
    Family(lambda case: _is(case, "det_parts", "DeltaXYWHBBoxCoder"), run_box_coder),
    Family(lambda case: _is(case, "det_parts", "mmcv nms"), run_nms),
    Family(
        lambda case: case.json.get("family") == "det_neck" and case.config.get("type") in _NECKS, run_neck
    ),
    Family(lambda case: _is(case, "det_head", "ATSSHead", "GFLHead"), run_dense_head),
)
