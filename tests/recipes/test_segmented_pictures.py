"""Pictures are segmented for use exactly as evaluation scored them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from imglish import Predictor
from imglish.data.formats.mask_folder import MaskRecord
from imglish.data.formats.mask_labels import numbered
from imglish.data.segmentation import SegmentationDataset, collate_segmentation
from imglish.data.transforms.segmentation import ScoringViews
from imglish.decoding.masks import class_scores
from imglish.decoding.scored_views import batch_class_map
from imglish.decoding.sliding import Windows
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.convert import to_imglish
from imglish.hub.load import load_model
from imglish.hub.manifest import OFFICIAL_FILES
from imglish.hub.segmenter_pictures import segmenter_pictures
from imglish.inference.segmentation import shown_pictures
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import Mask2FormerConfig, SegmenterConfig, UPerNetConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.assembly.segmentation import build_segmenter
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import SegmentationFolderData
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import finished_run
from imglish.recipes.segmentation_config import CroppedPictures, SeveralViews
from imglish.tasks.mask_segmentation import MaskSegmentationTask
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask
from tests.hub.test_segmenters import CLASSES, CONFIGS, mmcv_file, official
from tests.inference.tiny_weights import segmenter

# (height, width): larger than the crop of 32, smaller, longer one way, and of a single strip.
SIZES = ((100, 60), (20, 26), (40, 150), (33, 33), (12, 90))
NAMES = ("sky", "fish", "star")
HEADS: dict[str, SegmenterConfig] = {
    "upernet": UPerNetConfig(head_width=8, auxiliary_width=4),
    "mask2former": Mask2FormerConfig(
        width=16, num_queries=4, num_pixel_layers=1, num_layers=1, num_heads=2, pixel_feed_forward_width=8,
        feed_forward_width=8, num_groups=4,
    ),
}  # fmt: skip
CROPS = CroppedPictures(crop=(32, 32), stride=(24, 24), scale=(96, 40), scored_scale=(96, 40), range="model")
SEVERAL: dict[str, Any] = {"scored_ratios": (0.5, 1.25), "scored_flip": True}
VIEWS: dict[str, dict[str, Any]] = {
    "one scale": {},
    "ImageNet's range, no multiples of 32": {"range": "imagenet", "fit": "plain"},
    "several scales": {**SEVERAL, "fit": "at_least_crop"},
    "several scales of the recipe": {
        "scored_at": "several_scales",
        "several": SeveralViews(ratios=(0.5, 1.25)),
    },
    "padded": {**SEVERAL, "padding": "black"},
    "without windows": {"stride": (0, 0)},
}


def pictures(root: Path, sizes: tuple[tuple[int, int], ...] = SIZES) -> Path:
    """Pictures with masks of three values for both splits, those to be scored of ``sizes``."""
    draw = np.random.default_rng(0)
    for part, shapes in (("train", SIZES[:2]), ("val", sizes)):
        for number, (height, width) in enumerate(shapes):
            coarse = Image.fromarray(draw.integers(0, 255, (5, 5, 3), dtype=np.uint8))
            mask = draw.integers(0, 3, (height, width), dtype=np.uint8)
            for kind, image in (("images", coarse.resize((width, height))), ("masks", Image.fromarray(mask))):
                folder = root / kind / part
                folder.mkdir(parents=True, exist_ok=True)
                image.save(folder / f"{number}.png")
    (root / "names.txt").write_text("\n".join(NAMES))
    return root


def finished(root: Path, out: Path, head: str = "upernet", **settings: Any) -> Path:
    """A finished run on `pictures` with weights that find several classes."""
    torch.manual_seed(3)
    beit3 = Beit3Config(
        image_size=(32, 32), patch_size=8, vocab_size=30, max_text_tokens=8, width=16, depth=1, num_heads=2,
        feed_forward_width=16, init="scaled",
    )  # fmt: skip
    task = SegmentationTask(
        model=beit3,
        adapter=ViTAdapterConfig(num_interactions=1, stem_width=8, num_heads=2, value_ratio=0.5),
        segmenter=HEADS[head],
        pictures=replace(CROPS, **settings),
    )
    config = RunConfig(
        name="own", task=task, data=SegmentationFolderData(root=root, classes=root / "names.txt")
    )
    config = replace(config, train=replace(config.train, device="cpu"))
    model = build_segmenter(task, len(NAMES))
    with torch.no_grad():  # so that not one class wins everywhere
        for name, parameter in model.named_parameters():
            parameter.add_((1.0 if name.endswith("classifier.weight") else 0.3) * torch.randn_like(parameter))
    folder = RunFolder(out)
    folder.create()
    folder.write_config(config)
    folder.save_weights(model.state_dict())
    folder.classes_path.write_text("\n".join(NAMES) + "\n")
    return out


def scored_maps(run: Path) -> list[NDArray[np.int64]]:
    """The map of each picture that evaluation compares with its mask."""
    found = []
    with finished_run(RunFolder(run).config(), run, "validation") as ready:
        task = ready.assembly.task.eval()
        assert isinstance(task, SemanticSegmentationTask | MaskSegmentationTask)
        for loaded in ready.assembly.evaluation(ready.shares):
            found += [row.numpy() for row in task.class_map(loaded.batch)]
    return found


@pytest.mark.parametrize(
    ("head", "views"),
    [
        *(("upernet", views) for views in VIEWS),
        ("mask2former", "one scale"),
        ("mask2former", "several scales"),
    ],
)
def test_a_run_with_crops_segments_as_it_was_scored(tmp_path: Path, head: str, views: str) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", head, **VIEWS[views])
    paths = sorted((root / "images" / "val").iterdir())
    found = Predictor(run).segment(paths)
    for given, expected in zip(found, scored_maps(run), strict=True):
        np.testing.assert_array_equal(given.classes, expected)
    assert [given.classes.shape for given in found] == list(SIZES)
    assert max(np.unique(given.classes).size for given in found) > 1  # or the comparison is worth nothing


def test_scales_and_flip_may_be_asked_for_and_taken_back(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own", SIZES[:2])
    paths = sorted((root / "images" / "val").iterdir())
    one = Predictor(finished(root, tmp_path / "one"))
    several = finished(root, tmp_path / "several", **VIEWS["several scales"])
    asked, single = one.segment(paths, scales=(0.5, 1.25), flip=True), one.segment(paths)
    for given, expected in zip(asked, scored_maps(several), strict=True):
        np.testing.assert_array_equal(given.classes, expected)
    assert any((a.classes != b.classes).any() for a, b in zip(asked, single, strict=True))
    padded = Predictor(finished(root, tmp_path / "padded", **VIEWS["padded"]))
    back = padded.segment(paths, scales=(1.0,), flip=False)
    assert all((a.classes == b.classes).all() for a, b in zip(back, single, strict=True))


@pytest.mark.parametrize("scales", [(), (0.0, 1.0), (-1.0,), "large", 1.0, (float("nan"),)])
def test_scales_that_are_none_are_refused(tmp_path: Path, scales: Any) -> None:
    run = finished(tmp_path / "own", tmp_path / "run")
    with pytest.raises(ConfigError, match="expected positive numbers, such as"):
        Predictor(run).segment([], scales=scales)


@pytest.mark.parametrize(
    "damaged", [{"kind": "cropped"}, {"kind": "cropped", "crop": [0, 0], "stride": [1, 1]}, "cropped"]
)
def test_damaged_settings_of_pictures_are_told_in_a_line(tmp_path: Path, damaged: Any) -> None:
    run = finished(tmp_path / "own", tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["task"]["pictures"] = damaged
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(CheckpointError, match=r"task.pictures of the run: damaged \(") as error:
        Predictor(run).segment([])
    assert "\n" not in str(error.value)


def test_whole_pictures_take_no_scales() -> None:
    with pytest.raises(ConfigError, match="takes neither scales nor flip"):
        Predictor(segmenter()).segment([], flip=True)
    assert Predictor(segmenter()).segment([], flip=False) == []


# Official files


@pytest.mark.parametrize("form", ["ViT", "BEiT"])  # with UPerNet, and with Mask2Former
def test_an_official_file_segments_as_its_test_would_score(tmp_path: Path, form: str) -> None:
    """Windows of 64 pixels every 42, fitted into 256 x 64 and then to multiples of 32 (FACTS, 8 and 10)."""
    path = mmcv_file(tmp_path / "a_model.pth", official(CONFIGS[form]))
    run = load_model(path, image_size=64)
    root = pictures(tmp_path / "own")
    records = [
        MaskRecord(picture, root / "masks" / "val" / picture.name)
        for picture in sorted((root / "images" / "val").iterdir())
    ]
    views = ScoringViews(scale=(256, 64), crop=(64, 64), fit="multiple_of_32", pictures="imagenet")
    scored = SegmentationDataset(records=records, labels=numbered(CLASSES), scoring=views)
    found = Predictor(run).segment([record.path for record in records])
    for number, given in enumerate(found):
        batch = collate_segmentation([scored.get(number, np.random.default_rng(0))])
        with torch.no_grad():
            expected = batch_class_map(
                lambda images: class_scores(run.model(images)), batch, Windows((64, 64), (42, 42))
            )
        np.testing.assert_array_equal(given.classes, expected[0].numpy())
    assert {given.names for given in found} == {CLASSES}
    assert max(np.unique(given.classes).size for given in found) > 1


def test_several_scales_of_an_official_file_are_fitted_as_in_its_test(tmp_path: Path) -> None:
    run = load_model(mmcv_file(tmp_path / "a_model.pth", official(CONFIGS["ViT"])), image_size=64)
    shown = shown_pictures(run, (0.5, 1.0), None)
    assert shown is not None and shown.windows == Windows((64, 64), (42, 42))
    assert (shown.views.fit, shown.views.padding, shown.views.flip) == ("at_least_crop", "none", False)
    name = "mask2former_beit_adapter_large_896_80k_ade20k"
    weights = to_imglish(official(CONFIGS["BEiT"]), where=f"{name}.zip")
    assert isinstance(weights.config, ViTSegmenterConfig)
    told = segmenter_pictures(weights, weights.config, None)
    assert told["several"] == {
        "ratios": (640 / 896, 768 / 896, 1.0), "flip": True, "fit": "multiple_of_32", "padding": "black"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("upernet_deit_adapter_tiny_512_160_ade20k", ((512, 512), (341, 341), (2048, 512), "imagenet")),
        ("upernet_augreg_adapter_large_512_160k_ade20k", ((512, 512), (341, 341), (2048, 512), "model")),
        ("some_model", ((512, 512), (341, 341), (2048, 512), "imagenet")),
    ],
)
def test_a_file_is_shown_pictures_as_its_name_tells(
    tmp_path: Path, name: str, expected: tuple[object, ...]
) -> None:
    path = mmcv_file(tmp_path / f"{name}.pth.tar", official(CONFIGS["ViT"]))
    told = load_model(path).settings["pictures"]
    assert tuple(told[key] for key in ("crop", "stride", "scored_scale", "range")) == expected


def test_every_released_segmenter_has_the_settings_of_its_published_test() -> None:
    """FACTS of the adapter, sections 8 and 10."""
    scored = {file.name: file.scored for file in OFFICIAL_FILES if file.kind == "semantic_segmentation"}
    assert None not in scored.values() and len(scored) == 22

    def of(name: str) -> tuple[int, tuple[int, int], str, bool, tuple[int, ...], str]:
        told = scored[name]
        assert told is not None
        sides = tuple(round(ratio * min(told.scale)) for ratio in told.ratios)
        return told.crop, told.scale, told.fit, told.flip, sides, told.padding

    assert of("upernet_beit_adapter_large_640_160k_ade20k") == (
        640, (2048, 640), "multiple_of_32", False, (320, 480, 640, 800, 960, 1120), "none"
    )  # fmt: skip
    assert of("mask2former_beit_adapter_large_896_80k_ade20k") == (
        896, (3584, 896), "multiple_of_32", False, (640, 768, 896), "black"
    )  # fmt: skip
    assert of("mask2former_beitv2_adapter_large_896_80k_ade20k") == (
        896, (3584, 896), "multiple_of_32", True, (800, 832, 864, 896), "mean"
    )  # fmt: skip
    assert not of("mask2former_beitv2_adapter_large_896_80k_cocostuff164k")[3]
    assert of("mask2former_beit_adapter_large_896_80k_cityscapes") == (
        896, (2048, 1024), "plain", False, (512, 768, 1024, 1280, 1536, 1792, 2048), "none"
    )  # fmt: skip
    assert of("upernet_beit_adapter_large_640_80k_cocostuff164k")[1] == (2560, 640)
    assert of("mask2former_beit_adapter_base_480_40k_pascal_context_59")[:2] == (480, (4096, 520))
