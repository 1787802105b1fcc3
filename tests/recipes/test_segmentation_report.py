"""The report of a scored segmenter: its numbers are those of evaluation, its pictures the right ones."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.cli.main import main
from imglish.data.pictures import read_picture
from imglish.inference.drawing import draw_classes
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import evaluate_recipe
from tests.recipes.test_segmented_pictures import NAMES, SIZES, finished, pictures, scored_maps
from tests.recipes.tiny_runs import error_line


def test_a_report_tells_the_scores_and_shows_each_picture_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "own")
    Image.new("L", SIZES[3][::-1], 255).save(root / "masks" / "val" / "3.png")  # nothing to be right about
    (root / "masks" / "val" / "4.png").write_bytes(b"no picture")
    run = finished(root, tmp_path / "run")
    assert main(["evaluate", str(run), "--report", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "semantic/mean_dice" in shown and shown.endswith(f"{tmp_path / 'out' / 'report.html'}\n")
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    expected = evaluate_recipe(RunFolder(run).config(), run)
    for name in ("mean_iou", "mean_dice", "pixel_accuracy", "mean_accuracy"):
        assert told[name] == pytest.approx(expected[f"semantic/{name}"], rel=1e-12)
    for row in told["classes"]:
        for name in ("iou", "dice", "accuracy"):
            assert row[name] == pytest.approx(expected[f"semantic/{name}/{row['name']}"], rel=1e-12)
    assert sum(row["share"] for row in told["classes"]) == pytest.approx(1)
    assert (told["num_pictures"], told["num_skipped"]) == (4, 1)
    worst, best = ([example["name"] for example in told[name]] for name in ("worst", "best"))
    assert sorted([*worst, *best]) == ["0.png", "1.png", "2.png"] and len(worst) == 1
    rated = [example["mean_iou"] for example in (*told["worst"], *reversed(told["best"]))]
    assert rated == sorted(rated)

    page = (tmp_path / "out" / "report.html").read_text()
    marked = re.findall(r'<data value="([^"]+)" data-key="([^"]+)">', page)
    assert {key for _, key in marked} >= {"mean_iou", "mean_dice", "classes.2.dice", "worst.0.mean_iou"}
    assert "http" not in page and 'src="data:image/jpeg;base64,' in page


def test_overlays_are_of_the_mask_and_of_what_was_found(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own", SIZES[:1])
    run = finished(root, tmp_path / "run")
    assert main(["evaluate", str(run), "--report", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    seen = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))).astype(int)
        for code in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    ]
    image = read_picture(root / "images" / "val" / "0.png").permute(1, 2, 0).numpy()
    found = draw_classes(image, scored_maps(run)[0], NAMES, legend=False)
    assert len(seen) == 3
    # JPEG and its halved colours: smooth pictures are off by a few grey levels, one picture by another's 30.
    assert np.abs(seen[0] - image).mean() < 4
    assert np.abs(seen[2] - np.asarray(found)).mean() < 8
    assert np.abs(seen[1] - np.asarray(found)).mean() > 12  # the mask is noise


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--predictions", "x.json"], "are two commands; give one of them"),
        (["--split", "test"], "has no test split"),
    ],
)
def test_what_can_not_be_reported_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    run = finished(pictures(tmp_path / "own"), tmp_path / "run")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--report", str(tmp_path / "out"), *arguments]) != 0
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_masks_that_are_all_damaged_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "own", SIZES[:2])
    run = finished(root, tmp_path / "run")
    for path in (root / "masks" / "val").iterdir():
        path.write_bytes(b"no picture")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--report", str(tmp_path / "out")]) == 1
    assert "none of the 2 pictures to score can be used" in error_line(capsys.readouterr().err)
