"""The manifest agrees with itself, with the models, and with the weight maps."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from imglish.hub.convert import to_imglish
from imglish.hub.manifest import OFFICIAL_FILES, find
from imglish.hub.manifest_backbones import BACKBONE_FILES
from imglish.hub.official_file import Config, OfficialFile
from imglish.hub.weight_maps import beit3_map, vit_map
from imglish.hub.weights import Weights, empty_model
from imglish.models.beit3.config import Beit3Config
from imglish.models.detectors.vit_detector import ViTDetectorConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.plain_weights import DROPPED, HEAD, UNIPERCEIVER_DROPPED
from imglish.models.vit.weights import INDEX
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.weights import VQKD_MAP
from tests.hub.official_files import FULL_SIZE, shapes, without_numbers

MODELS = [file for file in OFFICIAL_FILES if file.config is not None]
PUBLISHED = [file for file in MODELS if file.parameters is not None]
# One of each. The document counts a classifier's vision side alone; its model here has texts, too.
COUNTED = {
    f"{file.config} {file.kind} {file.parameters}": file
    for file in PUBLISHED
    if not (isinstance(file.config, Beit3Config) and file.kind == "image_classification")
}.values()
ROUNDING = 1.0  # the documents round to whole millions, once downwards


def name_of(file: OfficialFile) -> str:
    return file.name


def test_names_and_addresses_are_unique() -> None:
    assert len({file.name for file in OFFICIAL_FILES}) == len(OFFICIAL_FILES)
    assert len({file.url for file in OFFICIAL_FILES}) == len(OFFICIAL_FILES)


@pytest.mark.parametrize(
    ("family", "count"),
    [
        ("beit3_", 29),
        ("beit_", 12),
        ("beitv2_", 12),
        ("vqkd_", 3),
        ("timm/beit3_", 8),
        ("beit3.spm", 1),
        ("upernet_", 11),
        ("mask2former_", 12),
        ("mask_rcnn_", 16),
        ("cascade_mask_rcnn_", 2),
        ("atss_", 1),
        ("gfl_", 1),
        ("sparse_rcnn_", 1),
        ("htc++_", 6),
        ("deit_", 3),
        ("augreg_", 4),
        ("mae_", 1),
        ("dinov2_", 3),
        ("uniperceiver_", 2),
    ],
)
def test_every_published_file_is_there(family: str, count: int) -> None:
    assert sum(file.name.startswith(family) for file in OFFICIAL_FILES) == count


@pytest.mark.parametrize("file", OFFICIAL_FILES, ids=name_of)
def test_a_name_is_that_of_the_file_at_its_address(file: OfficialFile) -> None:
    address = urlsplit(file.url)
    hosts = ("github.com", "huggingface.co", "dl.fbaipublicfiles.com", "storage.googleapis.com")
    assert address.scheme == "https" and address.netloc in hosts
    path = PurePosixPath(address.path)
    if file in BACKBONE_FILES:  # named alike, whatever their authors called them
        family, size = file.name.split("_")[:2]
        released = {
            "deit": f"{file.name}-",
            "augreg": {"tiny": "Ti_16-", "base": "B_16-", "large": "L_16-"}.get(size, ""),
            "mae": f"mae_pretrain_vit_{size}.",
            "dinov2": f"dinov2_vit{size[0]}14_",
            "uniperceiver": f"uni-perceiver-{size}-",
        }
        assert path.name.startswith(released[family])
    elif file.layout == "timm-vision":
        assert address.path == f"/{file.name}/resolve/main/model.safetensors"
    else:
        assert path.name == file.name or path.stem.startswith(file.name)


@pytest.mark.parametrize("file", MODELS, ids=name_of)
def test_fine_tuning_began_with_a_file_of_the_manifest_and_of_the_same_size(file: OfficialFile) -> None:
    if file.trained_from is None:
        return
    parent = find(file.trained_from)
    assert parent is not None and file.config is not None
    if parent.config is None:  # of a run whose settings were not released
        assert parent.kind == "detection"
        return
    own, theirs = encoder(file.config), encoder(parent.config)
    assert isinstance(theirs, type(own)) and (theirs.width, theirs.depth) == (own.width, own.depth)


def encoder(config: Config) -> Beit3Config | ViTConfig:
    """What reads the pictures."""
    assert not isinstance(config, VqkdConfig)
    return config.vit if isinstance(config, ViTSegmenterConfig | ViTDetectorConfig) else config


@pytest.mark.parametrize("file", COUNTED, ids=name_of)
def test_the_config_gives_the_published_number_of_parameters(file: OfficialFile) -> None:
    assert file.config is not None and file.parameters is not None
    model = empty_model(_weights(file))
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(file.parameters, abs=ROUNDING)


def _weights(file: OfficialFile) -> Weights:
    """Weights without numbers: the head's bias alone tells how many labels there are."""
    heads = {
        "masked_data_modeling": "image_head.bias",
        "vqa": "head.output.bias",
        "image_classification": "head.bias",
    }
    assert file.config is not None
    state = {}
    if file.kind in heads:
        state[heads[file.kind]] = torch.empty(file.num_labels or 0, device="meta")
    return Weights(kind=file.kind, config=file.config, state=state, where=file.name)


@pytest.mark.parametrize("key_list", FULL_SIZE)
def test_the_config_is_that_of_the_official_names_and_shapes(key_list: str) -> None:
    file = find(FULL_SIZE[key_list])
    assert file is not None and file.config is not None
    weights = to_imglish(without_numbers(shapes(key_list)), where=key_list)
    assert weights.kind == file.kind
    assert file.num_labels in (None, weights.num_labels)
    assert sizes(weights.config) == sizes(file.config)


def sizes(config: Config) -> dict[str, Any]:
    """What the shapes tell of a config; the head says whether there is an output norm."""
    return {
        name: getattr(config, name)
        for name in config.__dataclass_fields__
        if name not in ("output_norm", "layer_scale")
    }


@pytest.mark.parametrize("file", [file for file in MODELS if file.layout == "official"], ids=name_of)
def test_what_is_left_out_is_what_the_weight_map_leaves_out(file: OfficialFile) -> None:
    match file.config:
        case Beit3Config():
            dropped = beit3_map(file.kind).dropped
        case ViTConfig(attention_bias="all") as plain:
            heads = (*DROPPED, HEAD) if file.kind == "backbone" else DROPPED
            dropped = UNIPERCEIVER_DROPPED if plain.embedding_norm else heads
        case ViTConfig():
            dropped = vit_map(file.kind, "mean").dropped
        case VqkdConfig():
            dropped = VQKD_MAP.dropped
        case ViTSegmenterConfig() | ViTDetectorConfig():
            dropped = (INDEX,)
        case None:
            raise AssertionError("a model without sizes")
    assert file.dropped == dropped


def test_scores_are_those_of_the_documents() -> None:
    scores = {(file.name, score.metric): score.value for file in OFFICIAL_FILES for score in file.scores}
    assert scores["beit3_base_patch16_480_vqa", "VQAv2 test-dev"] == 77.65
    assert scores["beit3_large_patch16_480_coco_captioning", "COCO captions CIDEr"] == 143.2
    assert scores["beit3_large_patch16_384_coco_retrieval", "COCO image R@1"] == 63.4
    assert scores["beit3_large_patch16_384_coco_retrieval", "COCO text R@1"] == 82.1
    assert scores["beit3_base_patch16_224_nlvr2", "NLVR2 test-P"] == 84.4
    assert scores["beitv2_large_patch16_224_pt1k_ft21kto1k", "ImageNet-1k top-1"] == 88.4
    assert scores["upernet_deit_adapter_tiny_512_160_ade20k", "ADE20K mIoU"] == 42.6
    assert scores["mask2former_beitv2_adapter_large_896_80k_ade20k", "ADE20K mIoU"] == 61.2
    assert scores["mask_rcnn_dinov2_adapter_large_fpn_3x_coco", "COCO box AP"] == 55.3
    assert scores["htc++_beitv2_adapter_large_fpn_o365_coco", "COCO mask AP"] == 53.0
    assert scores["mask2former_beitv2_adapter_large_16x1_3x_coco-panoptic", "COCO PQ"] == 58.4
    city = "mask2former_beit_adapter_large_896_80k_cityscapes"
    assert scores[city, "Cityscapes mIoU, multi-scale and flip"] == 85.8


def test_beits_have_the_pictures_of_their_documents() -> None:
    """After the commands: ``--imagenet_default_mean_and_std`` for all of BEiT v2 and pretraining on IN-1k."""
    pictures = {file.name: file.pictures for file in OFFICIAL_FILES if isinstance(file.config, ViTConfig)}
    assert {name for name, taken in pictures.items() if taken == "model"} == {
        name
        for name in pictures
        if (name.startswith("beit_") and "_pt22k" in name) or name.startswith("augreg_")
    }
    assert pictures["beit_base_patch16_224_pt1k_800ep"] == "imagenet"
    assert pictures["beitv2_large_patch16_224_pt1k_ft21kto1k"] == "imagenet"
    assert set(pictures.values()) == {"model", "imagenet"}
    pretrained = [file for file in OFFICIAL_FILES if file.kind == "masked_image_modeling"]
    assert len(pretrained) == 7 and {file.num_labels for file in pretrained} == {8192}


def test_an_unknown_name_is_not_found() -> None:
    assert find("beit3_huge") is None
