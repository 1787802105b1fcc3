"""The released detectors of ViT-Adapter: names, shapes and wrappings of their files, what they compute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import imglish
from imglish.cli.convert import run as convert_command
from imglish.data.formats.segmentation_classes import COCO_STUFF
from imglish.errors import CheckpointError
from imglish.hub.coco_names import STUFF, THINGS
from imglish.hub.convert import to_imglish, to_official
from imglish.hub.load import load_model, read_weights
from imglish.hub.manifest import find
from imglish.hub.sizes import Hints
from imglish.hub.weights import Weights, backbone_of, empty_model, resize
from imglish.models.detectors.config import (
    MaskHeadConfig,
    NeckConfig,
    SemanticHeadConfig,
    TwoStageConfig,
    cascade_mask_rcnn,
    htc,
    htc_objects365,
    mask_rcnn,
    mask_rcnn_upgraded,
)
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.models.detectors.vit_detector import DetectorConfig, ViTDetectorConfig, vit_detector
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig, vit_segmenter
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter import presets
from imglish.recipes.initial import load_initial
from tests.hub.official_files import same, without_numbers
from tests.hub.test_segmenters import mmcv_file
from tests.models.vit_adapter.test_official import official_shapes

SIDE = 64
CLASSES = ("sky", "fish", "star")
DetectorsConfig = ViTDetectorConfig | ViTSegmenterConfig
LISTS: dict[str, Any] = {}
for _file in ("official_two_stage.json", "official_one_stage.json"):
    LISTS |= json.loads((Path(__file__).parents[1] / "models" / "detectors" / _file).read_text())


def small(vit: ViTConfig) -> ViTConfig:
    """Heads of 64 features, as in the released models, and a block in each quarter."""
    # Those of a BEiT are seen in its tables, so they may be small.
    windows = (3, 4) * 4 if vit.windows[-1] else (14, 0) * 4
    return replace(vit, width=64, depth=8, num_heads=1, mlp_ratio=2.0, windows=windows)


def small_heads(config: TwoStageConfig) -> TwoStageConfig:
    neck = replace(config.neck, width=32, attention_heads=2 if config.neck.attention_heads else 0)
    box = replace(config.box_head, width=16)
    box = replace(box, conv_width=16 if box.num_convs else 256, num_convs=min(box.num_convs, 2))
    semantic = SemanticHeadConfig(num_classes=5, num_convs=1, width=32) if config.semantic_head else None
    mask = config.mask_head and MaskHeadConfig(num_convs=1, width=8, norm=config.mask_head.norm)
    return replace(config, neck=neck, box_head=box, mask_head=mask, semantic_head=semantic)


def configs() -> Mapping[str, DetectorsConfig]:
    """Each form of the official detection tree, small."""
    slim: dict[str, Any] = {"num_heads": 2, "stem_width": 8}
    adapter = replace(presets.vit_adapter("base", "detection"), **slim)

    def vit(detector: DetectorConfig) -> ViTDetectorConfig:
        return ViTDetectorConfig(
            family="vit",
            vit=small(presets.vit("base", windows=presets.window_schedule("base"))),
            adapter=adapter,
            detector=detector,
            num_classes=len(CLASSES),
        )

    def beit(detector: DetectorConfig) -> ViTDetectorConfig:
        beit_adapter = replace(presets.beit_adapter("base", "detection"), **slim)
        own = small(presets.beit("base", "detection"))
        return replace(vit(detector), family="beit", vit=own, adapter=beit_adapter)

    mask = small_heads(mask_rcnn())
    upgraded = vit(small_heads(mask_rcnn_upgraded()))
    assert upgraded.adapter is not None
    over_beit = beit(mask)
    return {
        "Mask R-CNN": vit(mask),
        "plain": replace(vit(mask), adapter=None),
        "without a pyramid": vit(replace(mask, neck=NeckConfig(kind="mapper", width=32))),
        "upgraded": replace(
            upgraded,
            vit=replace(upgraded.vit, layer_scale=0.0),
            adapter=presets.without_extra_extractors(upgraded.adapter),
        ),
        "Uni-Perceiver": replace(
            vit(mask),
            family="uniperceiver",
            vit=small(presets.uniperceiver("base", windows=presets.window_schedule("base"))),
            adapter=replace(presets.uniperceiver_adapter("base", "detection"), **slim),
        ),
        "Cascade": vit(small_heads(cascade_mask_rcnn())),
        "HTC++": beit(small_heads(htc())),
        "HTC++ after Objects365": beit(small_heads(htc_objects365())),
        "HTC++ without masks": beit(
            replace(small_heads(htc()), mask_head=None, semantic_head=None, interleaved=False)
        ),
        "ATSS": vit(OneStageConfig(width=64, num_convs=1)),
        "GFL": vit(OneStageConfig(kind="gfl", width=64, num_convs=1, max_distance=7)),
        "Sparse R-CNN": vit(
            SparseRcnnConfig(
                width=32, num_proposals=6, num_stages=2, dynamic_width=4, feed_forward_width=16, grid=3
            )
        ),
        "panoptic": ViTSegmenterConfig(
            family="beit",
            vit=over_beit.vit,
            adapter=over_beit.adapter,
            segmenter=Mask2FormerConfig(
                width=32, num_queries=5, num_pixel_layers=1, num_layers=2, num_heads=2,
                pixel_feed_forward_width=12, feed_forward_width=20, num_groups=32,
            ),
            num_classes=len(CLASSES),
        ),
    }  # fmt: skip


CONFIGS = configs()


def built(config: DetectorsConfig) -> nn.Module:
    """A model in evaluation mode whose numbers are all of some size, running statistics included."""
    torch.manual_seed(0)
    model: nn.Module
    model = vit_detector(config) if isinstance(config, ViTDetectorConfig) else vit_segmenter(config)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not name.endswith(("head.distances", "proposals.boxes")):
                positive = name.endswith("running_var")
                tensor.copy_(
                    0.5 + torch.rand_like(tensor) if positive else tensor + 0.1 * torch.randn_like(tensor)
                )
    return model.eval()


def official(form: str) -> dict[str, Tensor]:
    return to_official(to_imglish(built(CONFIGS[form]).state_dict(), where="file"))


def tensors(outputs: Any) -> list[Tensor]:
    """All tensors of nested outputs, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        return [tensor for value in outputs.values() for tensor in tensors(value)]
    if isinstance(outputs, (list, tuple)):
        return [tensor for value in outputs for tensor in tensors(value)]
    found = getattr(outputs, "__dict__", None) or {
        name: getattr(outputs, name) for name in getattr(outputs, "__dataclass_fields__", ())
    }
    return tensors(found) if found else []


@torch.no_grad()
def computed(model: nn.Module) -> list[Tensor]:
    """What it finds in a picture: maps, and all that the heads say."""
    images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    heads: Any = model
    if hasattr(model, "candidates"):
        scene = heads.scene(images)
        found = heads.candidates(scene, [(SIDE, SIDE)])
        masks = heads.mask_probabilities(scene, [found[0].boxes[:3, 0]], [torch.zeros(3).long()])
        return tensors((found, masks))
    if isinstance(model, SparseRcnn):
        return tensors(heads(images, [(SIDE, SIDE)]))
    return tensors(heads(images))


@pytest.mark.parametrize("name", [name for name in LISTS if find(name) is not None])
def test_a_released_file_has_the_names_and_shapes_of_the_official_model(name: str) -> None:
    file, content = find(name), LISTS[name]
    assert file is not None and isinstance(file.config, ViTDetectorConfig)
    shapes = {key: tuple(shape) for key, shape in content["state_except_backbone"].items()}
    shapes |= {f"backbone.{key}": shape for key, shape in official_shapes(content["backbone"]).items()}
    weights = to_imglish(without_numbers(shapes), where=name, hints=Hints(official=name))
    assert asdict(weights.config) == asdict(file.config)
    assert (weights.kind, weights.num_labels) == ("detection", 80)
    assert {key: tuple(w.shape) for key, w in to_official(weights).items()} == shapes
    assert sum(p.numel() for p in empty_model(weights).parameters()) == content["n_params"]


@pytest.mark.parametrize("form", CONFIGS)
def test_an_official_file_is_read_computes_the_same_and_comes_back(form: str, tmp_path: Path) -> None:
    config, state = CONFIGS[form], official(form)
    path = mmcv_file(tmp_path / "a_model.pth.tar", state)
    weights = read_weights(path)
    assert weights.config == config and same(to_official(weights), state)
    run = load_model(path)
    assert run.kind == ("panoptic" if form == "panoptic" else "detection") and run.labels == CLASSES
    ours, theirs = computed(run.model), computed(built(config))
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["HTC++", "GFL", "panoptic"])
def test_a_file_is_converted_and_back_with_its_classes(form: str, tmp_path: Path) -> None:
    state = official(form)
    path = mmcv_file(tmp_path / "a_model.pth", state)
    ours, back = tmp_path / "ours.safetensors", tmp_path / "official.safetensors"
    convert_command([str(path), str(ours), "--to", "imglish"])
    assert read_weights(ours).config == CONFIGS[form] and load_model(ours).labels == CLASSES
    convert_command([str(ours), str(back), "--to", "official"])
    assert same(to_official(read_weights(back)), state) and read_weights(back).labels == CLASSES


@pytest.mark.parametrize("form", ["Mask R-CNN", "HTC++", "ATSS", "panoptic"])
@pytest.mark.parametrize("where", ["backbone.interactions.2.", ""])
def test_every_tensor_is_needed_and_none_is_left_over(form: str, where: str) -> None:
    state = official(form)
    # The last one of a part: the first ones tell which detector it is.
    heads = ("roi_head.", "bbox_head.", "panoptic_head.")
    name = [key for key in state if key.startswith(where or heads) and key.endswith(".weight")][-1]
    with pytest.raises(CheckpointError, match="^file: .*missing"):
        to_imglish({key: w for key, w in state.items() if key != name}, where="file")
    with pytest.raises(CheckpointError, match="^file: .*unexpected"):
        to_imglish({**state, f"{name}x": state[name]}, where="file")


def test_what_no_shape_tells_is_as_in_the_file_of_that_name(tmp_path: Path) -> None:
    """The older adapter, soft proposals and the boxes of a picture; the name stays where it is converted."""
    state = official("HTC++")
    old = "htc++_beit_adapter_large_fpn_3x_coco_old"
    path = mmcv_file(tmp_path / f"{old}.pth.tar", state)
    found = read_weights(path).config
    assert isinstance(found, ViTDetectorConfig) and found.adapter is not None
    assert found.adapter.vit_features == "per_interaction"
    convert_command([str(path), str(tmp_path / "x.safetensors"), "--to", "imglish"])
    assert read_weights(tmp_path / "x.safetensors").config == found

    soft = read_weights(mmcv_file(tmp_path / "htc++_beit_adapter_large_fpn_3x_coco.pth", state)).config
    assert isinstance(soft, ViTDetectorConfig) and isinstance(soft.detector, TwoStageConfig)
    assert soft.detector.rpn.nms.kind == "linear"
    run = load_model(mmcv_file(tmp_path / "htc++_augreg_adapter_large_fpn_3x_coco.pth", state))
    detector: Any = run.model
    assert detector.config.selection.max_boxes == 300
    assert run.settings["pictures"] == {
        "range": "imagenet", "scored_scales": ((1600, 1400),), "scored_flip": False, "scored_areas": (),
    }  # fmt: skip


def test_a_picture_is_shown_as_in_the_published_tests(tmp_path: Path) -> None:
    state = official("Mask R-CNN")
    name = "mask_rcnn_augreg_adapter_large_fpn_3x_coco"
    run = load_model(mmcv_file(tmp_path / f"{name}.pth", state))
    pictures = run.settings["pictures"]
    assert (pictures["range"], pictures["scored_scales"]) == ("model", ((1333, 800),))
    with pytest.raises(CheckpointError, match="a detector takes pictures of any size; leave image_size out"):
        load_model(tmp_path / f"{name}.pth", image_size=SIDE)


@pytest.mark.parametrize("form", ["Mask R-CNN", "ATSS"])
def test_objects_are_found_in_a_picture(form: str, tmp_path: Path) -> None:
    run = load_model(mmcv_file(tmp_path / "a_model.pth", official(form)))
    small_views = {**run.settings["pictures"], "scored_scales": ((96, 64),)}
    run = replace(run, settings={**run.settings, "pictures": small_views})
    picture = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)
    found = imglish.Predictor(run).detect(picture)
    assert found.names == CLASSES
    assert all(0 <= one.box[0] <= one.box[2] <= 90 and one.name in CLASSES for one in found.objects)


def test_segments_are_found_in_a_picture(tmp_path: Path) -> None:
    state = official("panoptic")
    run = load_model(mmcv_file(tmp_path / "a_model.pth", state, ("person", "road", "cat")))
    assert run.settings["things"] == (True, False, True)
    small_views = {**run.settings["pictures"], "scored_scales": ((96, 64),)}
    run = replace(run, settings={**run.settings, "pictures": small_views})
    picture = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)
    found = imglish.Predictor(run).panoptic(picture)
    assert found.ids.shape == (40, 90)


def test_weights_beside_their_averages_are_left_out() -> None:
    state = official("HTC++ after Objects365")
    beside = {f"ema_{name.replace('.', '_')}": w for name, w in state.items() if name.startswith("rpn_head.")}
    weights = to_imglish({**state, **beside}, where="file")
    assert set(beside) <= set(weights.dropped) and same(to_official(weights), state)


def test_a_detector_is_no_backbone_but_one_starts_from_it(tmp_path: Path) -> None:
    state = official("HTC++ without masks")
    weights = to_imglish(state, where="file")
    with pytest.raises(CheckpointError, match="file: a detector, which is no backbone"):
        backbone_of(weights)
    with pytest.raises(CheckpointError, match="any size"):
        resize(weights, (32, 32))
    others = {name: w for name, w in state.items() if name.startswith("backbone.")}
    others["rpn_head.weight"] = torch.zeros(1)
    with pytest.raises(
        CheckpointError, match="file: a ViT-Adapter with rpn_head; expected the heads of Mask"
    ):
        to_imglish(others, where="file")

    # As after Objects365: its classes are others, it has no masks, and all else is taken over.
    model = built(replace(CONFIGS["HTC++"], num_classes=7))
    fresh = load_initial(model, str(mmcv_file(tmp_path / "a_model.pth", state)))
    assert all(part in name for name in fresh for part in ("heads.",))
    parts = {".".join(name.split(".")[1:4:2]) for name in fresh if name.startswith("heads.box_heads.")}
    assert parts == {"box_heads.classes"}
    ours = model.state_dict()["neck.attention.qkv.weight"]
    assert torch.equal(ours, weights.state["neck.attention.qkv.weight"])


def test_classes_of_coco_are_known_where_the_file_is(tmp_path: Path) -> None:
    assert THINGS == COCO_STUFF[:80] and len(STUFF) == len(set(STUFF)) == 53
    config = replace(CONFIGS["ATSS"], num_classes=80)
    state = to_official(to_imglish(built(config).state_dict(), where="file"))
    name = "atss_deit_adapter_small_fpn_3x_coco"
    assert load_model(mmcv_file(tmp_path / f"{name}.pth.tar", state, None)).labels == THINGS
    assert load_model(mmcv_file(tmp_path / "other.pth", state, None)).labels[:2] == ("#0", "#1")


def test_a_file_without_settings_in_the_manifest_is_read_by_its_shapes() -> None:
    file = find("htc++_beitv2_adapter_large_fpn_o365")
    assert file is not None and file.config is None and file.kind == "detection"
    weights: Weights = to_imglish(official("HTC++ without masks"), where=file.name)
    assert weights.num_labels == len(CLASSES)
