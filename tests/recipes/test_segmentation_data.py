"""From a folder of masks to a trained segmenter, and what a check of such a folder says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from imglish.cli.main import main
from imglish.errors import ConfigError
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import SegmentationFolderData, SegmentationSetData, TableData
from imglish.recipes.runs import RECIPES
from imglish.recipes.segmentation_config import CroppedPictures
from imglish.recipes.segmentation_records import segmentation_files
from tests.recipes.tiny_runs import LOOP, error_line

SMALL = "--task.adapter.num-interactions 1 --task.adapter.stem-width 8 --task.adapter.num-heads 2".split()
HEAD = "--task.segmenter.neck-width 8 --task.segmenter.head-width 8".split()
CROPS = (
    "--task.pictures.kind cropped --task.pictures.crop 32 32 --task.pictures.stride 24 24 "
    "--task.pictures.scale 96 40 --task.pictures.scored-scale 96 40 --task.pictures.range model"
).split()


def own_folder(root: Path, count: int = 10) -> Path:
    """Pictures of two colours and of different sizes, with masks of two classes and a little ignored."""
    rng = np.random.default_rng(0)
    for number in range(count):
        height, width = 36 + 4 * (number % 3), 48 - 5 * (number % 2)
        mask = np.zeros((height, width), np.uint8)
        mask[:, rng.integers(10, 30) :] = 3
        mask[:2] = 255
        picture = np.where(mask[..., None] == 3, (200, 60, 40), (30, 90, 180)).astype(np.uint8)
        for kind, pixels, suffix in (("images", picture, "jpg"), ("masks", mask, "png")):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{number:02d}.{suffix}")
    return root


def training(root: Path, out: Path, *more: str) -> list[str]:
    data = ["--data.kind", "segmentation_folder", "--data.root", str(root)]
    return [
        "train",
        "semantic_segmentation_demo",
        *LOOP,
        *SMALL,
        *HEAD,
        *CROPS,
        *data,
        "--out",
        str(out),
        *more,
    ]


def test_a_run_is_scored_on_the_classes_that_it_learned_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(training(own_folder(tmp_path / "own", count=4), out)) == 0
    other = own_folder(tmp_path / "other", count=4)
    for path in (other / "masks").iterdir():  # as many classes, but others
        Image.open(path).point(lambda value: 7 if value == 3 else value).save(path)
    capsys.readouterr()
    assert main(["evaluate", str(out), "--data.root", str(other)]) == 1
    told = "has learned 2 classes (background, class 3), the data to score has 2 (background, class 7)"
    assert told in error_line(capsys.readouterr().err)
    assert (out / "classes.txt").read_text() == "background\nclass 3\n"


SEVERAL = (
    "--task.pictures.scored-ratios 0.5 1.0 --task.pictures.scored-flip --task.pictures.fit at_least_crop"
).split()


@pytest.mark.parametrize("views", [[], SEVERAL])
def test_a_folder_of_masks_of_any_sizes_becomes_a_scored_segmenter(tmp_path: Path, views: list[str]) -> None:
    root, out = own_folder(tmp_path / "own"), tmp_path / "run"
    several = ["--data.held-out", "0.3"]  # three pictures to score, of three sizes
    assert main(training(root, out, "--train.num-steps", "3", *several, *views)) == 0
    assert (out / "classes.txt").read_text().splitlines() == ["background", "class 3"]
    scores = json.loads((out / "scores.json").read_text())
    assert {"semantic/mean_iou", "semantic/iou/background", "semantic/pixel_accuracy"} <= scores.keys()
    assert not (out / "skipped.log").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("lone mask", r"has no picture 99 in "),
        ("lone picture", r"99\.jpg: has no mask; expected "),
        ("one class", "have the single class 'background'; expected at least two"),
    ],
)
def test_a_folder_that_can_not_be_trained_on_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, words: str
) -> None:
    root = own_folder(tmp_path / "own", count=4)
    if damage == "lone mask":
        (root / "masks" / "99.png").write_bytes((root / "masks" / "01.png").read_bytes())
    elif damage == "lone picture":
        (root / "images" / "99.jpg").write_bytes((root / "images" / "01.jpg").read_bytes())
    else:
        for path in (root / "masks").iterdir():
            Image.new("L", Image.open(path).size).save(path)
    capsys.readouterr()
    assert main(training(root, tmp_path / "run")) == 1
    line = error_line(capsys.readouterr().err)
    assert re.search(words, line), line
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_what_is_wrong_with_single_masks_is_counted_while_training_goes_on(tmp_path: Path) -> None:
    root, out = own_folder(tmp_path / "own"), tmp_path / "run"
    (root / "masks" / "00.png").write_bytes(b"no picture")
    Image.new("L", (5, 5)).save(root / "masks" / "01.png")
    Image.new("L", Image.open(root / "images" / "02.jpg").size, 255).save(root / "masks" / "02.png")
    assert main(training(root, out, "--train.num-steps", "4")) == 0
    log = (out / "skipped.log").read_text()
    assert "00.png: is no picture" in log and "01.png: is 5 high and 5 wide" in log and "02.png" not in log


def test_other_data_has_no_masks() -> None:
    with pytest.raises(ConfigError, match="data.kind table has no class maps; expected folder"):
        segmentation_files(TableData(), "train")


@pytest.mark.parametrize(
    "settings", [{"held_out": 0.0}, {"held_out": 1.0}, {"ignored": (-1,)}, {"num_validation": -1}]
)
def test_impossible_settings_of_data_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SegmentationFolderData(**settings)


@pytest.mark.parametrize(
    "settings", [{"crop": (0, 0)}, {"ratios": (0.0, 1.0)}, {"scored_ratios": ()}, {"stride": (513, 1)}]
)
def test_impossible_settings_of_pictures_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|leave gaps"):
        CroppedPictures(**settings)


def test_defaults_are_those_of_the_official_configs_for_ade20k() -> None:
    pictures = CroppedPictures()
    assert (pictures.crop, pictures.stride, pictures.scale) == ((512, 512), (341, 341), (2048, 512))
    assert (pictures.ratios, pictures.most_of_one, pictures.flip) == ((0.5, 2.0), 0.75, 0.5)
    assert pictures.training().distortion is not None and pictures.range == "imagenet"
    config = RunConfig(name="x", task=SegmentationTask(pictures=pictures), data=SegmentationSetData())
    assert config.data.kind == "segmentation_set"


def test_the_giant_has_the_numbers_of_the_paper() -> None:
    """Appendix C of the paper; windows and queries of ViT-Adapter's config at 896 pixels."""
    config = RECIPES["ade20k_giant"]()
    task, optimizer, schedule = config.task, config.optimizer, config.schedule
    assert isinstance(task, SegmentationTask) and isinstance(task.segmenter, Mask2FormerConfig)
    assert (optimizer.lr, optimizer.layer_decay, optimizer.weight_decay) == (1e-5, 0.95, 0.05)
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert (schedule.kind, schedule.warmup_steps, schedule.final_lr) == ("poly", 1500, 0.0)
    assert schedule.warmup_lr == pytest.approx(1e-6 * 1e-5)
    assert (config.train.num_steps, task.batch_size, config.train.max_grad_norm) == (80_000, 16, 0.0)
    assert isinstance(task.model, Beit3Config)
    assert (task.model.image_size, task.model.drop_path, task.model.depth) == ((896, 896), 0.5, 40)
    assert isinstance(task.pictures, CroppedPictures)
    assert (task.pictures.crop, task.pictures.stride, task.pictures.scale) == (
        (896, 896),
        (512, 512),
        (3584, 896),
    )
    assert (task.segmenter.width, task.segmenter.num_queries) == (1024, 200)


@pytest.mark.parametrize("name", ["segmentation_base", "segmentation_large", "ade20k_giant"])
def test_recipes_say_how_to_run_them_and_show_models_what_they_were_trained_on(name: str) -> None:
    text, config = RECIPES[name].__doc__ or "", RECIPES[name]()
    assert f"imglish train {name} " in text and "Source: " in text and config.name == name
    assert isinstance(config.task, SegmentationTask) and isinstance(config.task.pictures, CroppedPictures)
    assert isinstance(config.task.model, Beit3Config)
    assert config.task.pictures.range == "model" and config.task.pictures.crop == config.task.model.image_size


# Checks


def checked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    capsys.readouterr()
    assert main(["data", "check", *arguments]) == code
    shown = capsys.readouterr()
    return shown.out.splitlines() + shown.err.splitlines()


def test_a_check_counts_classes_of_both_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own_folder(tmp_path / "own")
    Image.new("L", Image.open(root / "images" / "02.jpg").size, 255).save(root / "masks" / "02.png")
    shown = checked(capsys, str(root))
    assert shown[0] == f"{root} (train): 9 pictures with masks, 2 classes"
    assert shown[1].startswith("  background: 8 pictures, ") and shown[1].endswith("% of labelled pixels")
    assert shown[3] == "  note: masks without a labelled pixel: 1; they count for nothing"
    assert shown[4] == f"{root} (validation): 1 pictures with masks, 2 classes"
    shares = [float(line.split(", ")[1].split("%")[0]) for line in shown[1:3]]
    assert sum(shares) == pytest.approx(100, abs=0.02)


def test_a_check_lists_every_file_that_can_not_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_folder(tmp_path / "own")
    (root / "images" / "00.jpg").write_bytes(b"no picture")
    Image.new("L", (5, 5)).save(root / "masks" / "01.png")
    (root / "masks" / "99.png").write_bytes((root / "masks" / "03.png").read_bytes())
    named = tmp_path / "classes.txt"
    named.write_text("0 ground\n3 tree\n")
    Image.new("L", Image.open(root / "images" / "02.jpg").size, 7).save(root / "masks" / "02.png")
    shown = checked(capsys, str(root), "--classes", str(named), code=1)
    assert shown[0] == f"{root} (train): 6 pictures with masks, 2 classes"
    told = "\n".join(shown[1:5])
    problems = ("99.png: has no picture 99", "00.jpg: is no picture", "01.png: is 5 high", "02.png: has the")
    assert all(problem in told for problem in problems)
    assert shown[5].startswith("  ground: 6 pictures")
    assert "problems" in shown[-1] and "in 2 of 2" in shown[-1]  # what is alone is alone in each split


def test_published_sets_are_checked_by_their_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, values in (("training", (0, 1)), ("validation", (1, 3))):
        for kind, level, suffix in (("images", 50, "jpg"), ("annotations", 0, "png")):
            folder = tmp_path / kind / part
            folder.mkdir(parents=True)
            pixels = np.full((4, 6), level, np.uint8)
            if kind == "annotations":
                pixels[:2], pixels[2:] = values
            Image.fromarray(pixels).save(folder / f"a.{suffix}")
    shown = checked(capsys, str(tmp_path), "--layout", "ade20k")
    assert shown[0] == f"{tmp_path} (train): 1 pictures with masks, 150 classes"
    assert shown[1] == "  wall: 1 pictures, 100.00% of labelled pixels"
    assert "  note: classes that no picture has: 149 (building, sky, floor, tree, ceiling)" in shown
    assert "  note: classes that no training picture has: sky" in shown
    shown = checked(capsys, str(tmp_path), "--layout", "cityscapes", code=1)
    assert "leftImg8bit/train: no such folder" in shown[0]


def test_a_loss_without_a_label_is_no_number_of_its_own() -> None:
    """An all-ignored crop, as any crop may be, trains nothing and breaks nothing."""
    from imglish.losses.segmentation import pixel_cross_entropy

    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()
