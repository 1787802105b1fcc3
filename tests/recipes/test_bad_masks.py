"""Masks of every kind and fault, as somebody who checks or trains on them sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imglish.cli.main import main
from tests.recipes.test_segmentation_data import CROPS, SMALL, checked, own_folder, training
from tests.recipes.tiny_runs import LOOP

RED, GREEN = (200, 30, 40), (20, 180, 60)
PALETTE = [0, 0, 0, *RED, *GREEN, *[7] * 759]
TABLE = "200,30,40 car\n#14b43c tree\n0,0,0 ignored\n"

HEADS = {
    "semantic_fpn": "--task.segmenter.neck-width 8 --task.segmenter.head-width 8",
    "mask2former": "--task.segmenter.kind mask2former --task.segmenter.width 16 --task.num-points 16 "
    "--task.segmenter.num-queries 4 --task.segmenter.num-pixel-layers 1 --task.segmenter.num-layers 1 "
    "--task.segmenter.num-heads 2 --task.segmenter.num-groups 4 "
    "--task.segmenter.pixel-feed-forward-width 8 --task.segmenter.feed-forward-width 8",
}


def ids() -> NDArray[np.uint8]:
    """0 above, then 1 and 2 side by side."""
    mask = np.zeros((12, 16), np.uint8)
    mask[4:, :8], mask[4:, 8:] = 1, 2
    return mask


def mask_of(kind: str) -> Image.Image:
    """The same classes, written in different ways."""
    values = ids()
    match kind:
        case "grey":
            return Image.fromarray(values)
        case "palette":
            image = Image.fromarray(values)
            image.putpalette(PALETTE)
            return image
        case "sixteen bits":
            return Image.fromarray(values.astype(np.uint16) * 1000)
        case "one bit":
            return Image.fromarray(values > 0)
        case "grey of three channels":
            return Image.fromarray(values).convert("RGB")
        case _:
            return Image.fromarray(np.array([(0, 0, 0), RED, GREEN], np.uint8)[values])


def folder_of(root: Path, kind: str, count: int = 3) -> Path:
    for number in range(count):
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (9 * number, 80, 90)).save(root / "images" / f"{number}.jpg")
        mask_of(kind).save(root / "masks" / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("kind", "named", "expected"),
    [
        ("grey", "0 ground\n1 car\n2 tree\n", {"ground": 1 / 3, "car": 1 / 3, "tree": 1 / 3}),
        ("grey", None, {"background": 1 / 3, "class 1": 1 / 3, "class 2": 1 / 3}),
        ("palette", "0 ground\n1 car\n2 tree\n", {"ground": 1 / 3, "car": 1 / 3, "tree": 1 / 3}),
        ("palette", TABLE, {"car": 0.5, "tree": 0.5}),  # by its colours
        ("sixteen bits", "0 ground\n1000 car\n2000 tree\n", {"ground": 1 / 3, "car": 1 / 3, "tree": 1 / 3}),
        ("sixteen bits", None, {"background": 1 / 3, "class 1000": 1 / 3, "class 2000": 1 / 3}),
        ("one bit", "ground\nobject\n", {"ground": 1 / 3, "object": 2 / 3}),
        ("one bit", None, {"background": 1 / 3, "class 1": 2 / 3}),
        ("grey of three channels", None, {"background": 1 / 3, "class 1": 1 / 3, "class 2": 1 / 3}),
        ("colours", TABLE, {"car": 0.5, "tree": 0.5}),
        ("colours", None, {"background": 1 / 3, "#14b43c": 1 / 3, "#c81e28": 1 / 3}),
    ],
)
def test_masks_may_be_written_in_any_way(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    named: str | None,
    expected: dict[str, float],
) -> None:
    root, words = folder_of(tmp_path / "own", kind), []
    if named is not None:
        (tmp_path / "classes.txt").write_text(named)
        words = ["--classes", str(tmp_path / "classes.txt")]
    shown = checked(capsys, str(root), *words)
    assert shown[0] == f"{root} (train): 2 pictures with masks, {len(expected)} classes"
    lines = [re.fullmatch(r"  (.*): 2 pictures, ([\d.]+)% of labelled pixels", line) for line in shown[1:]]
    found = {line[1]: float(line[2]) for line in lines if line}
    assert found == pytest.approx({name: 100 * share for name, share in expected.items()}, abs=0.01)


def test_colours_that_the_table_does_not_name_are_told_by_file_and_colour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "own", "colours")
    (tmp_path / "classes.txt").write_text("200,30,40 car\n0,0,0 ground\n")
    shown = checked(capsys, str(root), "--classes", str(tmp_path / "classes.txt"), code=1)
    told = next(line for line in shown if "0.png" in line)
    assert "has the colour #14b43c, which is none of the 2 known ones; expected the colours of the" in told


def test_masks_of_colours_do_not_go_with_a_table_of_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "own", "colours")
    (tmp_path / "classes.txt").write_text("0 ground\n1 car\n")
    shown = checked(capsys, str(root), "--classes", str(tmp_path / "classes.txt"), code=1)
    told = next(line for line in shown if "0.png" in line)
    assert "has channels R+G+B; expected one channel of class ids: name the class of each colour" in told


def test_a_mask_with_an_unknown_id_is_left_out_of_training_and_told(tmp_path: Path) -> None:
    root, out = own_folder(tmp_path / "own"), tmp_path / "run"
    (tmp_path / "classes.txt").write_text("0 ground\n3 tree\n")
    size = Image.open(root / "images" / "02.jpg").size
    Image.new("L", size, 7).save(root / "masks" / "02.png")
    command = training(root, out, "--train.num-steps", "4", "--data.classes", str(tmp_path / "classes.txt"))
    assert main(command) == 0
    told = (out / "skipped.log").read_text()
    assert "02.png: has the value 7; expected one of 0, 3, ... for 2 classes, or 255 for ignored" in told
    assert json.loads((out / "scores.json").read_text())["semantic/pixel_accuracy"] > 0


@pytest.mark.parametrize("head", HEADS)
def test_masks_with_nothing_but_ignored_pixels_train_to_an_end(tmp_path: Path, head: str) -> None:
    root, out = own_folder(tmp_path / "own", count=4), tmp_path / "run"
    for path in (root / "masks").iterdir():
        Image.new("L", Image.open(path).size, 255).save(path)
    (tmp_path / "classes.txt").write_text("0 ground\n3 tree\n")
    data = ["--data.kind", "segmentation_folder", "--data.root", str(root)]
    named = ["--data.classes", str(tmp_path / "classes.txt"), "--out", str(out)]
    command = ["train", "semantic_segmentation_demo", *LOOP, *SMALL, *CROPS, *HEADS[head].split()]
    assert main([*command, *data, *named]) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert scores["semantic/mean_iou"] == 0 and not (out / "skipped.log").exists()


def test_a_crop_of_no_pixels_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own_folder(tmp_path / "own", count=4)
    command = training(root, tmp_path / "run", "--task.pictures.crop", "0", "32")
    capsys.readouterr()
    assert main(command) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(r"settings.task.pictures: crop \(0, 32\), .* must be positive", told), told
    assert "Traceback" not in told and not (tmp_path / "run").exists()


def test_pictures_of_one_pixel_are_smaller_than_any_crop_and_train(tmp_path: Path) -> None:
    root, out = own_folder(tmp_path / "own", count=4), tmp_path / "run"
    for name in ("00", "03"):  # one to train on and the one to score
        Image.new("RGB", (1, 1)).save(root / "images" / f"{name}.jpg")
        Image.new("L", (1, 1), 3).save(root / "masks" / f"{name}.png")
    assert main(training(root, out, "--task.pictures.padding", "mean")) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert scores["semantic/pixel_accuracy"] in (0, 1) and not (out / "skipped.log").exists()
