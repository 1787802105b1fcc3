"""The report of a scored detector: its numbers are those of evaluation, its pictures the right ones."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish import Predictor
from imglish.cli.main import main
from imglish.metrics.coco_ap import NUMBERS
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import evaluate_recipe
from tests.recipes.test_detected_pictures import IDS, NAMES, finished, pictures


def make_right(root: Path, run: Path) -> int:
    """Have the surest object found in the last picture be the only one there; returns its class."""
    document = json.loads((root / "objects.json").read_text())
    found = Predictor(run).detect(root / "images" / "2.png", min_score=0)
    sides = ((one, one.box[2] - one.box[0], one.box[3] - one.box[1]) for one in found.objects)
    best = next(one for one, width, height in sides if min(width, height) > 3)
    left, top, right, bottom = best.box
    kept = [entry for entry in document["annotations"] if entry["image_id"] != 25]
    outline = [[left, top, right, top, right, bottom, left, bottom]]
    kept.append(
        {"id": 99, "image_id": 25, "category_id": IDS[best.label], "iscrowd": 0, "segmentation": outline,
         "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    )  # fmt: skip
    (root / "objects.json").write_text(json.dumps(document | {"annotations": kept}))
    return best.label


def test_a_report_tells_the_scores_and_shows_each_picture_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "own")
    (root / "images" / "1.png").write_bytes(b"no picture")
    run = finished(root, tmp_path / "run", "two_stage")
    label = make_right(root, run)
    assert main(["evaluate", str(run), "--report", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "box/ap50" in shown and shown.endswith(f"{tmp_path / 'out' / 'report.html'}\n")
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    expected = evaluate_recipe(RunFolder(run).config(), run)
    assert [row["name"] for row in told["numbers"]] == list(NUMBERS)
    for kind in ("box", "mask"):
        for row in told["numbers"]:
            value = expected.get(f"{kind}/{row['name']}")
            assert row[kind] == (None if value is None else pytest.approx(value, abs=1e-6))
        for row in told["classes"]:
            value = expected.get(f"{kind}/ap/{row['name']}")
            assert row[kind] == (None if value is None else pytest.approx(value, abs=1e-6))
    assert [row["name"] for row in told["classes"]] == list(NAMES)
    assert [row["num_objects"] for row in told["classes"]] == [
        (number < 2) + (number == label) for number in range(len(NAMES))
    ]
    assert (told["num_pictures"], told["num_skipped"]) == (2, 1)
    worst, best = ([example["name"] for example in told[name]] for name in ("worst", "best"))
    assert (worst, best) == (["0.png"], ["2.png"])
    assert told["worst"][0]["box_ap"] < told["best"][0]["box_ap"]

    page = (tmp_path / "out" / "report.html").read_text()
    marked = {key for _, key in re.findall(r'<data value="([^"]+)" data-key="([^"]+)">', page)}
    assert marked >= {"numbers.0.box", "numbers.1.mask", "classes.0.num_objects", "worst.0.box_ap"}
    assert "http" not in page
    drawn = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))).astype(int)
        for code in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    ]
    assert len(drawn) == 4
    image, truth = np.asarray(Image.open(root / "images" / worst[0])).astype(int), drawn[0]
    zoom = 256 // min(image.shape[:2])
    assert truth.shape == (zoom * len(image), zoom * image.shape[1], 3)
    # The lower edge of the second block, bright in the picture, has the colour of its class.
    edge = 12 + len(image) // 3 - 1
    assert np.abs(truth[zoom * (edge + 1) - 1, zoom * 20] - image[edge, 20]).max() > 40
    assert np.abs(truth[-1, -1] - image[-1, -1]).mean() < 40  # background, but for JPEG
