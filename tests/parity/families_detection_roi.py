"""Parity families of two-stage detectors: RoIAlign, region proposals, box and mask heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from imglish.losses.two_stage import TwoStageLoss, box_terms, mask_term, rpn_terms, semantic_term
from imglish.models.detectors.cascade import CascadeHeads
from imglish.models.detectors.config import (
    BoxHeadConfig,
    MaskHeadConfig,
    NeckConfig,
    ProposalConfig,
    RpnConfig,
    SemanticHeadConfig,
    StageConfig,
    TwoStageConfig,
)
from imglish.models.detectors.htc import HybridTaskCascadeHeads
from imglish.models.detectors.objects import Objects
from imglish.models.detectors.rpn import RegionProposals
from imglish.models.detectors.weights import roi_head_rules, rpn_rules
from imglish.models.weight_map import Rule, WeightMap, check_state
from imglish.ops.anchors import AnchorShapes
from imglish.ops.assignment import MaxOverlapRule
from imglish.ops.box_sampling import BoxSampling
from imglish.ops.box_selection import BoxSelection, select
from imglish.ops.mask_regions import paste_masks
from imglish.ops.nms import NmsSettings
from imglish.ops.roi_align import pyramid_roi_align, roi_align, roi_levels
from imglish.structures.pyramid import FeaturePyramid
from imglish.structures.two_stage import BoxStage
from tests.parity.case import Case, Check, Family, NotCoveredError

Settings = Mapping[str, Any]
_KINDS = {"nms": "hard", "soft_nms": "linear"}


def run_roi_align(case: Case) -> list[Check]:
    """Features of boxes; the names of outputs say grid, points of a cell, and where pixel centres are."""
    features, rois = case.inputs["feat"], case.inputs["rois"]
    checks = []
    for name, recorded in case.outputs.items():
        grid, points, *rest = name.removeprefix("align").split("_")
        found = roi_align(
            features,
            rois[:, 1:],
            rois[:, 0].long(),
            size=int(grid),
            scale=case.config["spatial_scale"],
            sampling_ratio=int(points.removeprefix("sr")),
            aligned=rest != ["unaligned"],
        )
        checks.append(Check(name, found, recorded, "forward"))
    return checks


def run_extractor(case: Case) -> list[Check]:
    """The level of each box and its features there."""
    config, rois = case.config, case.inputs["rois"]
    if config["sampling_ratio"]:
        raise NotCoveredError("a fixed number of points of a cell, which no official config has")
    strides, finest = config["featmap_strides"], config["finest_scale"]
    maps = [case.inputs[f"p{level + 2}"] for level in range(len(strides))]
    found = pyramid_roi_align(
        maps, strides, rois[:, 1:], rois[:, 0].long(), size=config["output_size"], finest_scale=finest
    )
    levels = roi_levels(rois[:, 1:], len(strides), finest_scale=finest)
    return [
        Check("out", found, case.outputs["out"], "forward"),
        Check("levels", levels, case.outputs["levels"], "integer"),
    ]


def run_rpn(case: Case) -> list[Check]:
    """Raw predictions, proposals, and losses of each level."""
    head, train, test = case.config["head"], case.config["train_cfg"], case.config["test_cfg"]
    anchors = head["anchor_generator"]
    _expect(train["sampler"], add_gt_as_proposals=False)
    _expect(head["bbox_coder"], target_means=[0.0] * 4, target_stds=[1.0] * 4)
    _expect(head["loss_cls"], type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)
    _expect(head["loss_bbox"], loss_weight=1.0)
    _expect(test, min_bbox_size=0)
    config = RpnConfig(
        num_convs=head.get("num_convs", 1),
        anchors=AnchorShapes(ratios=tuple(anchors["ratios"]), scales=tuple(anchors["scales"])),
        rule=_rule(train["assigner"]),
        sampling=_sampling(train["sampler"]),
        border=None if train["allowed_border"] < 0 else train["allowed_border"],
        testing=ProposalConfig(before_nms=test["nms_pre"], kept=test["max_per_img"]),
        nms=_nms(test["nms"]),
    )
    module = RegionProposals(head["feat_channels"], config)
    _load(module, rpn_rules(config), case)
    pyramid, size = _pyramid(case, anchors["strides"]), _size(case)
    outputs = module(pyramid)
    checks = []
    for level, (grid, found, deltas) in enumerate(
        zip(outputs.grids, outputs.objectness, outputs.deltas, strict=True)
    ):
        maps = (found.unflatten(1, (*grid, -1)), deltas.unflatten(1, (*grid, -1)).flatten(3))
        for kind, x in zip(("cls", "reg"), maps, strict=True):
            name = f"{kind}_{level}"
            checks.append(Check(name, x.permute(0, 3, 1, 2), case.outputs[name], "forward"))
    proposals = module.propose(outputs, [size], config.testing)[0]
    checks.append(Check("proposals", proposals, case.outputs["proposals"][:, :4], "forward"))

    objects = Objects(case.inputs["gt_bboxes"], torch.zeros(0), None, torch.zeros(0, 4))
    sample = module.sample(outputs, [size], [objects], torch.arange)
    loss = TwoStageLoss(rpn_box=_loss_kind(head["loss_bbox"]), rpn_beta=head["loss_bbox"].get("beta", 1.0))
    for level in range(len(outputs.grids)):
        place = sample.levels == level
        columns = (x if x.ndim == 0 else x[place] for x in sample)
        terms = rpn_terms(type(sample)(*columns), loss)
        for ours, theirs in (("rpn_class", "loss_rpn_cls"), ("rpn_box", "loss_rpn_bbox")):
            name = f"loss/{theirs}_{level}"
            checks.append(Check(name, terms[ours].mean, case.outputs[name], "loss"))
    return checks


def run_roi_head(case: Case) -> list[Check]:
    """Losses of every stage, and what is found."""
    config, loss, num_classes = _two_stage(case)
    heads = _heads(case, config, num_classes)
    _load(heads, roi_head_rules(config), case)
    heads.eval()
    strides = [stride for stride in (4, 8, 16, 32, 64) if f"p{stride.bit_length() - 1}" in case.inputs]
    scene = heads.scene(_pyramid(case, strides))
    outlines = case.inputs["gt_masks"].bool() if heads.mask_heads else None
    objects = Objects(case.inputs["gt_bboxes"], case.inputs["gt_labels"], outlines, torch.zeros(0, 4))
    size, proposals = _size(case), [case.inputs["proposals"]]
    boxes, masks = heads.training_stages(scene, proposals, [objects], [size], torch.arange)
    checks = []
    for number, box in enumerate(boxes):
        prefix = f"loss/s{number}." if len(boxes) > 1 else "loss/"
        weight = loss.stages[number]
        classes, corrections = box_terms(box, loss)
        ours = {"cls": classes, "bbox": corrections}
        if masks:
            ours["mask"] = mask_term(masks[number])
        for name, term in ours.items():
            recorded = case.outputs[f"{prefix}loss_{name}"].squeeze()
            checks.append(Check(f"{prefix}loss_{name}", weight * term.mean, recorded, "loss"))
        checks.append(Check(f"{prefix}acc", _percent(box), case.outputs[f"{prefix}acc"][0], "loss"))
    if scene.semantic_logits is not None:
        term = semantic_term(scene.semantic_logits, case.inputs["gt_semantic_seg"][:, 0])
        recorded = case.outputs["loss/loss_semantic_seg"]
        checks.append(Check("semantic", loss.semantic * term.mean, recorded, "loss"))
    return checks + _found_checks(case, config, heads, scene)


def _found_checks(case: Case, config: TwoStageConfig, heads: CascadeHeads, scene: Any) -> list[Check]:
    """What is found, by class as it is recorded, and the masks pasted into the picture."""
    size = _size(case)
    kept = select(heads.candidates(scene, [case.inputs["proposals"]], [size])[0], config.selection)
    order = kept.labels.argsort(stable=True)
    boxes, labels = kept.boxes[order], kept.labels[order]
    found = torch.cat([boxes, kept.scores[order, None]], dim=1)
    checks = [
        Check("det_labels", labels, case.outputs["det_labels"], "integer"),
        Check("det_boxes", found, case.outputs["det_boxes"], "forward"),
    ]
    if not heads.mask_heads:
        return checks
    (probabilities,) = heads.mask_probabilities(scene, [boxes], [labels])
    threshold = case.config["test_cfg"]["mask_thr_binary"]
    none = torch.zeros(0, *size, dtype=torch.bool)
    pasted = torch.cat([none, *paste_masks(probabilities, boxes, size, threshold)])
    return [*checks, Check("det_masks", pasted.int(), case.outputs["det_masks"].int(), "integer")]


def _heads(case: Case, config: TwoStageConfig, num_classes: int) -> CascadeHeads:
    width = case.config["head"]["bbox_roi_extractor"]["out_channels"]
    if not config.interleaved:
        return CascadeHeads(width, config, num_classes)
    semantic = case.config["head"].get("semantic_head")
    return HybridTaskCascadeHeads(width, config, num_classes, semantic["num_ins"] if semantic else 0)


def _two_stage(case: Case) -> tuple[TwoStageConfig, TwoStageLoss, int]:
    """Our settings, losses and classes of an official RoI head."""
    head, test = case.config["head"], case.config["test_cfg"]
    num_stages = head.get("num_stages", 1)
    box_heads, train = _listed(head["bbox_head"], num_stages), _listed(case.config["train_cfg"], num_stages)
    first, masks = box_heads[0], _mask_head(case, num_stages)
    for one in box_heads:
        own = {"bbox_coder": first["bbox_coder"] | {"target_stds": one["bbox_coder"]["target_stds"]}}
        _expect(one, **(first | own))
        _expect(one["loss_cls"], type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)
        _expect(one["bbox_coder"], target_means=[0.0] * 4)
    for one in train:
        _expect(one["sampler"], **(train[0]["sampler"] | {"add_gt_as_proposals": True}))
    semantic = head.get("semantic_head")
    config = TwoStageConfig(
        neck=NeckConfig(width=head["bbox_roi_extractor"]["out_channels"]),
        box_head=_box_head(first),
        stages=tuple(
            StageConfig(rule=_rule(own["assigner"]), stds=tuple(one["bbox_coder"]["target_stds"]))
            for one, own in zip(box_heads, train, strict=True)
        ),
        sampling=_sampling(train[0]["sampler"]),
        strides=tuple(head["bbox_roi_extractor"]["featmap_strides"]),
        mask_head=masks,
        interleaved=head.get("interleaved", False),
        semantic_head=None if semantic is None else _semantic_head(semantic, head),
        selection=BoxSelection(
            min_score=test["score_thr"], nms=_nms(test["nms"]), max_boxes=test["max_per_img"]
        ),
    )
    loss = TwoStageLoss(
        box=_loss_kind(first["loss_bbox"]),
        box_beta=first["loss_bbox"].get("beta", 1.0),
        box_weight=first["loss_bbox"]["loss_weight"],
        stages=tuple(head.get("stage_loss_weights", (1.0,))),
        semantic=semantic["loss_seg"]["loss_weight"] if semantic else 0.0,
    )
    return config, loss, first["num_classes"]


def _mask_head(case: Case, num_stages: int) -> MaskHeadConfig | None:
    head = case.config["head"]
    if not head.get("mask_head"):
        return None
    mask_heads, grid = (
        _listed(head["mask_head"], num_stages),
        head["mask_roi_extractor"]["roi_layer"]["output_size"],
    )
    flow = head.get("mask_info_flow", False)
    _expect(head, interleaved=flow)
    for number, one in enumerate(mask_heads):
        _expect(one, **{name: mask_heads[0][name] for name in ("num_convs", "conv_out_channels")})
        _expect(one["loss_mask"], type="CrossEntropyLoss", use_mask=True, loss_weight=1.0)
        if one["type"] == "HTCMaskHead" and one.get("with_conv_res", True) != (flow and number > 0):
            raise NotCoveredError(
                "mask heads that read the one before otherwise than in the official configs"
            )
    for one in _listed(case.config["train_cfg"], num_stages):
        _expect(one, mask_size=2 * grid)
    return MaskHeadConfig(
        num_convs=mask_heads[0]["num_convs"],
        width=mask_heads[0]["conv_out_channels"],
        norm="batch" if mask_heads[0].get("norm_cfg") else "none",
        grid=grid,
    )


def _box_head(head: Settings) -> BoxHeadConfig:
    shared = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1)}
    num_convs, num_linears = shared.get(
        head["type"], (head.get("num_shared_convs", 0), head.get("num_shared_fcs", 0))
    )
    decoded = head.get("reg_decoded_bbox", False)
    if decoded != (head["loss_bbox"]["type"] == "GIoULoss"):
        raise NotCoveredError("GIoU of changes, or differences of boxes, which no official config has")
    return BoxHeadConfig(
        num_convs=num_convs,
        num_linears=num_linears,
        conv_width=head.get("conv_out_channels", 256),
        width=head["fc_out_channels"],
        norm="batch" if head.get("norm_cfg") else "none",
        class_agnostic=head["reg_class_agnostic"],
        grid=head["roi_feat_size"],
    )


def _semantic_head(semantic: Settings, head: Settings) -> SemanticHeadConfig:
    (stride,) = head["semantic_roi_extractor"]["featmap_strides"]
    if stride != 4 << semantic["fusion_level"] or semantic["loss_seg"]["ignore_index"] != 255:
        raise NotCoveredError("a semantic branch joined on another level than regions are read off")
    return SemanticHeadConfig(
        num_classes=semantic["num_classes"],
        stride=stride,
        num_convs=semantic["num_convs"],
        width=semantic["conv_out_channels"],
    )


def _expect(settings: Settings, **values: Any) -> None:
    """Refuse settings that no official config has."""
    for name, value in values.items():
        if settings.get(name, value) != value:
            raise NotCoveredError(f"{name} {settings[name]}, where the official configs have {value}")


def _listed(value: Any, number: int) -> list[Any]:
    return list(value) if isinstance(value, list) else [value] * number


def _rule(assigner: Settings) -> MaxOverlapRule:
    return MaxOverlapRule(
        positive=assigner["pos_iou_thr"],
        negative=assigner["neg_iou_thr"],
        low_quality=assigner["min_pos_iou"] if assigner.get("match_low_quality", True) else None,
        share_best=assigner.get("gt_max_assign_all", True),
        crowd=None if assigner["ignore_iof_thr"] < 0 else assigner["ignore_iof_thr"],
    )


def _sampling(sampler: Settings) -> BoxSampling:
    _expect(sampler, type="RandomSampler", neg_pos_ub=-1)
    return BoxSampling(number=sampler["num"], foreground_share=sampler["pos_fraction"])


def _nms(settings: Settings) -> NmsSettings:
    kind: Any = _KINDS[settings["type"]]
    return NmsSettings(kind=kind, max_overlap=settings["iou_threshold"])


def _loss_kind(settings: Settings) -> Any:
    return {"L1Loss": "l1", "SmoothL1Loss": "smooth_l1", "GIoULoss": "giou"}[settings["type"]]


def _percent(stage: BoxStage) -> Tensor:
    return (stage.classes.argmax(dim=1) == stage.sample.labels).double().mean() * 100


def _pyramid(case: Case, strides: list[int]) -> FeaturePyramid:
    return FeaturePyramid({stride: case.inputs[f"p{stride.bit_length() - 1}"] for stride in strides})


def _size(case: Case) -> tuple[int, int]:
    height, width = case.config["img"]
    return height, width


def _load(module: nn.Module, rules: tuple[Rule, ...], case: Case) -> None:
    state = WeightMap(rules).to_ours(case.weights)
    check_state(state, module.state_dict(), where=case.name)
    assert WeightMap(rules).to_official(state).keys() == case.weights.keys()
    module.load_state_dict(state)


def _is(case: Case, family: str, *names: str) -> bool:
    return case.json.get("family") == family and any(name in case.cls.split(" ") for name in names)


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: _is(case, "det_parts", "RoIAlign"), run_roi_align),
    Family(lambda case: _is(case, "det_parts", "SingleRoIExtractor"), run_extractor),
    Family(lambda case: _is(case, "det_head", "RPNHead"), run_rpn),
    Family(
        lambda case: _is(case, "det_head", "StandardRoIHead", "CascadeRoIHead", "HybridTaskCascadeRoIHead"),
        run_roi_head,
    ),
)
