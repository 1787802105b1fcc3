"""Parity families of segmentation: necks, heads, Mask2Former with its loss, fusion, sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.decoding.masks import mask_instances, panoptic_segments, semantic_scores
from imglish.decoding.sliding import View, Windows, class_map, mean_probabilities, score_strips
from imglish.losses.mask_set import MaskSetLoss, mask_set_terms, match, matching_costs
from imglish.losses.segmentation import pixel_cross_entropy
from imglish.models.dense_heads.fcn import FcnHead
from imglish.models.dense_heads.mask_decoder import MaskDecoder
from imglish.models.dense_heads.semantic_fpn import SemanticFpnHead
from imglish.models.dense_heads.upernet import UPerNetHead
from imglish.models.necks.fpn import Fpn
from imglish.models.necks.pixel_decoder import PixelDecoder
from imglish.models.necks.weights import fpn_rules
from imglish.models.segmenters import weights as maps
from imglish.models.weight_map import Rule, WeightMap, check_state
from imglish.ops.points import DrawPoints
from imglish.ops.sine_positions import sine_positions
from imglish.structures.mask_predictions import MaskTargets
from imglish.structures.pyramid import FeaturePyramid
from tests.parity.case import Case, Check, Family, NotCoveredError


def _load(module: nn.Module, rules: tuple[Rule, ...], case: Case, prefix: str = "") -> None:
    weights = {name: value for name, value in case.weights.items() if name.startswith(prefix)}
    state = WeightMap(rules).to_ours(weights)
    check_state(state, module.state_dict(), where=case.name)
    assert WeightMap(rules).to_official(state).keys() == weights.keys()
    module.load_state_dict(state)


def _pyramid(case: Case, strides: tuple[int, ...] = (4, 8, 16, 32)) -> FeaturePyramid:
    return FeaturePyramid({stride: case.inputs[f"f{i + 1}"] for i, stride in enumerate(strides)})


def run_fpn(case: Case) -> list[Check]:
    """Every level after the top-down pyramid."""
    config = case.config
    widths = config["in_channels"]
    neck = Fpn(widths, config["out_channels"], num_extra=config["num_outs"] - len(widths))
    _load(neck, fpn_rules(), case)
    outputs = neck(_pyramid(case)).maps.values()
    return [Check(f"p{i + 1}", x, case.outputs[f"p{i + 1}"], "forward") for i, x in enumerate(outputs)]


def _semantic_fpn(config: dict[str, Any]) -> nn.Module:
    (in_width,) = set(config["in_channels"])
    return SemanticFpnHead(
        in_width=in_width,
        num_classes=config["num_classes"],
        width=config["channels"],
        strides=config["feature_strides"],
        dropout=config["dropout_ratio"],
    )


def _upernet(config: dict[str, Any]) -> nn.Module:
    return UPerNetHead(
        in_widths=config["in_channels"],
        num_classes=config["num_classes"],
        width=config["channels"],
        pool_scales=config["pool_scales"],
        dropout=config["dropout_ratio"],
    )


def _fcn(config: dict[str, Any]) -> nn.Module:
    return FcnHead(
        in_width=config["in_channels"],
        num_classes=config["num_classes"],
        stride=4 * 2 ** config["in_index"],
        width=config["channels"],
        num_convs=config["num_convs"],
        concat_input=config["concat_input"],
        dropout=config["dropout_ratio"],
    )


_HEADS: dict[str, tuple[Callable[[dict[str, Any]], nn.Module], Callable[[], tuple[Rule, ...]]]] = {
    "FPNHead": (_semantic_fpn, maps.semantic_fpn_rules),
    "UPerHead": (_upernet, maps.upernet_rules),
    "FCNHead": (_fcn, maps.fcn_rules),
}


def run_head(case: Case) -> list[Check]:
    """Logits and loss of a head; its accuracy is the share of right pixels in per cent."""
    config = case.config
    if config["align_corners"]:
        raise NotCoveredError("aligned corners, which no official config has")
    make, rules = _HEADS[config["type"]]
    head = make(config).eval()
    _load(head, rules(), case)
    logits = head(_pyramid(case))
    masks = case.inputs["gt_semantic_seg"][:, 0]
    loss = config["loss_decode"]["loss_weight"] * pixel_cross_entropy(logits, masks)
    return [
        Check("logits", logits, case.outputs["logits"], "forward"),
        Check("loss", loss, case.outputs["loss"], "loss"),
    ]


def _recorded(case: Case, names: Iterator[str]) -> DrawPoints:
    """Hands out the recorded random points in their order."""

    def draw(count: int, num_points: int) -> Tensor:
        points = case.outputs[f"rand/{next(names)}"]
        assert points.shape == (count, num_points, 2)
        return points

    return draw


def _mask2former(case: Case) -> tuple[PixelDecoder, MaskDecoder]:
    config = case.config
    pixel, masks = config["pixel_decoder"], config["transformer_decoder"]
    attention = pixel["encoder"]["transformerlayers"]["attn_cfgs"]
    neck = PixelDecoder(
        config["in_channels"],
        width=config["feat_channels"],
        num_layers=pixel["encoder"]["num_layers"],
        num_heads=attention["num_heads"],
        num_points=attention["num_points"],
        feed_forward_width=pixel["encoder"]["transformerlayers"]["ffn_cfgs"]["feedforward_channels"],
        num_groups=pixel["norm_cfg"]["num_groups"],
    ).eval()
    head = MaskDecoder(
        width=config["feat_channels"],
        num_classes=config["num_things_classes"] + config["num_stuff_classes"],
        num_queries=config["num_queries"],
        num_layers=masks["num_layers"],
        num_levels=config["num_transformer_feat_level"],
        num_heads=masks["transformerlayers"]["attn_cfgs"]["num_heads"],
        feed_forward_width=masks["transformerlayers"]["ffn_cfgs"]["feedforward_channels"],
    ).eval()
    _load(neck, maps.pixel_decoder_rules("pixel_decoder."), case, "pixel_decoder.")
    theirs = {name for name in case.weights if not name.startswith("pixel_decoder.")}
    state = WeightMap(maps.mask_decoder_rules()).to_ours({name: case.weights[name] for name in theirs})
    check_state(state, head.state_dict(), where=case.name)
    head.load_state_dict(state)
    return neck, head


def _set_loss(config: dict[str, Any]) -> MaskSetLoss:
    train, assigner = config["train_cfg"], config["train_cfg"]["assigner"]
    weights = {name: config[f"loss_{name}"]["loss_weight"] for name in ("cls", "mask", "dice")}
    if weights != {name: assigner[f"{name}_cost"]["weight"] for name in weights}:
        raise NotCoveredError("costs weighted unlike losses, which no official config has")
    return MaskSetLoss(
        class_weight=weights["cls"],
        mask_weight=weights["mask"],
        dice_weight=weights["dice"],
        no_object_weight=config["loss_cls"]["class_weight"][-1],
        num_points=train["num_points"],
        oversample=train["oversample_ratio"],
        importance=train["importance_sample_ratio"],
    )


def run_mask2former(case: Case) -> list[Check]:
    """Decoded features, predictions of all layers, costs, assignments and losses."""
    neck, head = _mask2former(case)
    features, pyramid = neck(_pyramid(case))
    predictions = head(features, pyramid)
    checks = [Check("mask_features", features, case.outputs["mask_features"], "forward")]
    coarse_first = reversed(list(pyramid.maps.values()))
    for i, x in enumerate(coarse_first):
        checks.append(Check(f"multi_scale_{i}", x, case.outputs[f"multi_scale_{i}"], "forward"))
    for i, (classes, masks) in enumerate(predictions):
        checks.append(Check(f"cls_{i}", classes, case.outputs[f"cls_{i}"], "forward"))
        checks.append(Check(f"mask_{i}", masks, case.outputs[f"mask_{i}"], "forward"))
    semantic = semantic_scores(predictions[-1])
    checks.append(Check("semantic", semantic, case.outputs["semantic"], "forward"))
    return checks + list(_set_checks(case, predictions))


def _set_checks(case: Case, predictions: tuple[Any, ...]) -> Iterator[Check]:
    loss, count = _set_loss(case.config), len(predictions[0].classes)
    targets = [
        MaskTargets(case.inputs[f"gt_labels_{i}"], case.inputs[f"gt_masks_{i}"].bool()) for i in range(count)
    ]
    for layer, prediction in enumerate(predictions):
        draws = [f"layer{layer}_match_img{i}" for i in range(count)]
        pairs = match(prediction, targets, loss, _recorded(case, iter(draws)))
        for i, (queries, numbers) in enumerate(pairs):
            name = f"layer{layer}_img{i}"
            points = case.outputs[f"rand/{draws[i]}"][0]
            costs = matching_costs(prediction.classes[i], prediction.masks[i], targets[i], points, loss)
            yield Check(f"cost_{name}", costs, case.outputs[f"cost_{name}"], "forward")
            assigned = torch.zeros(len(prediction.classes[i]), dtype=torch.int64)
            assigned[queries] = numbers + 1
            yield Check(f"assigned_gt_{name}", assigned, case.outputs[f"assigned_gt_{name}"], "integer")
        draws += [f"layer{layer}_oversample", f"layer{layer}_random"]
        terms = mask_set_terms(prediction, targets, loss, _recorded(case, iter(draws)))
        matched = sum(len(queries) for queries, _ in pairs)
        prefix = "" if layer == len(predictions) - 1 else f"d{layer}."
        ours = {"cls": terms.classes, "mask": terms.masks / matched, "dice": terms.dice / matched}
        for kind, value in ours.items():
            name = f"loss/{prefix}loss_{kind}"
            yield Check(name, value, case.outputs[name].squeeze(), "loss")


def run_sine_positions(case: Case) -> list[Check]:
    """Positions of maps with padding and without."""
    config = case.config
    if not config["normalize"] or config["offset"] or config["scale"] != "2*pi":
        raise NotCoveredError("positions that are not normalised to 2 pi, which no official config has")
    return [
        Check(
            name,
            sine_positions(
                mask, 2 * config["num_feats"], temperature=config["temperature"], eps=config["eps"]
            ),
            case.outputs[name.replace("mask", "pos")],
            "forward",
        )
        for name, mask in case.inputs.items()
    ]


def run_fusion(case: Case) -> list[Check]:
    """Panoptic map and instances; instances are compared in the order of their scores."""
    config, test = case.config, case.config["test_cfg"]
    num_classes = config["num_things"] + config["num_stuff"]
    is_thing = torch.arange(num_classes) < config["num_things"]
    classes, masks = case.inputs["cls"], case.inputs["mask"]
    segments = panoptic_segments(
        classes,
        masks,
        is_thing=is_thing,
        min_score=test.get("object_mask_thr", 0.8),
        min_overlap=test["iou_thr"],
        only_inside=test["filter_low_score"],
    )
    # Official: class, plus 1000 times the number among things; num_classes where there is nothing.
    things = is_thing[segments.classes]
    codes = segments.classes + config["INSTANCE_OFFSET"] * torch.where(things, things.cumsum(0), 0)
    ours = torch.cat([torch.tensor([num_classes]), codes])[segments.segment_ids.long()]
    found = mask_instances(classes, masks, is_thing=is_thing, max_instances=test["max_per_image"])
    boxes = torch.cat([found.boxes, found.scores[:, None]], dim=1)
    order = case.outputs["inst_bboxes"][:, 4].argsort(descending=True)
    return [
        Check("panoptic", ours, case.outputs["panoptic"], "integer"),
        Check("inst_labels", found.classes, case.outputs["inst_labels"][order], "integer"),
        Check("inst_masks", found.masks.int(), case.outputs["inst_masks"][order].int(), "integer"),
        Check("inst_bboxes", boxes, case.outputs["inst_bboxes"][order], "forward"),
    ]


def run_sliding(case: Case) -> list[Check]:
    """The small network of the case by windows and whole, at several scales and flipped."""
    config, weights = case.config, case.weights
    size, windows = tuple(config["ori_shape"]), Windows(tuple(config["crop_size"]), tuple(config["stride"]))
    (kernel,) = set(weights["backbone.conv.weight"].shape[-2:])
    if f"k{kernel} s4 p{kernel // 2}" not in config["model"]:
        raise NotCoveredError(f"another network: {config['model']}")

    def predict(images: Tensor) -> Tensor:
        x = F.conv2d(images, weights["backbone.conv.weight"], weights["backbone.conv.bias"], 4, kernel // 2)
        return F.conv2d(
            x.relu(), weights["decode_head.conv_seg.weight"], weights["decode_head.conv_seg.bias"]
        )

    images = [case.inputs[name] for name in sorted(case.inputs)]
    views = [View(x.flip(3) if flipped else x, flipped) for x in images for flipped in (False, True)]
    first = images[0]
    strips = score_strips(predict, views[0], size=(first.shape[2], first.shape[3]), windows=windows)
    logits = torch.cat([strip.values for strip in strips], dim=2)
    checks = [Check("slide_logits", logits, case.outputs["slide_logits_img0_norescale"], "forward")]
    for name, way in (("slide", windows), ("whole", None)):
        one = mean_probabilities(predict, views[:1], size=size, windows=way)
        every = mean_probabilities(predict, views, size=size, windows=way).argmax(dim=1)[0]
        simple = class_map(predict, views[0], size=size, windows=way)[0]
        checks += [
            Check(f"{name}_prob_img0", one, case.outputs[f"{name}_prob_img0"], "forward"),
            Check(f"{name}_aug_pred", every, case.outputs[f"{name}_aug_pred"], "integer"),
            Check(f"{name}_simple_pred", simple, case.outputs[f"{name}_simple_pred"], "integer"),
        ]
    return checks


def _is(case: Case, family: str, *names: str) -> bool:
    return case.json.get("family") == family and any(name in case.cls.split(" ") for name in names)


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: _is(case, "seg_head", "FPN"), run_fpn),
    Family(lambda case: _is(case, "seg_head", *_HEADS), run_head),
    Family(lambda case: _is(case, "mask2former", "Mask2FormerHead"), run_mask2former),
    Family(lambda case: _is(case, "mask2former", "SinePositionalEncoding"), run_sine_positions),
    Family(lambda case: _is(case, "mask2former", "MaskFormerFusionHead"), run_fusion),
    Family(lambda case: _is(case, "inference", "EncoderDecoder.inference"), run_sliding),
)
