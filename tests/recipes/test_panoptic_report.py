"""The report of panoptic segments: its numbers are those of evaluation, its pictures the right ones."""

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
from imglish.data.detection import read_panoptic_map
from imglish.data.formats.panoptic import read_panoptic
from imglish.errors import ConfigError
from imglish.inference.drawing import draw_segments
from imglish.recipes.detection_report import report_detection
from imglish.recipes.panoptic_report import report_panoptic
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import evaluate_recipe
from tests.recipes.test_detected_pictures import IDS, NAMES, finished, pictures


def make_right(root: Path, run: Path) -> None:
    """Have the segments found in the last picture be the true ones there."""
    found = Predictor(run).panoptic(root / "images" / "2.png")
    Image.fromarray(np.stack([found.ids, 0 * found.ids, 0 * found.ids], axis=-1).astype(np.uint8)).save(
        root / "maps" / "2.png"
    )
    document = json.loads((root / "panoptic.json").read_text())
    document["annotations"][2]["segments_info"] = [
        {"id": one.number, "category_id": IDS[NAMES.index(one.name)], "area": 1, "bbox": [0, 0, 1, 1],
         "iscrowd": 0}
        for one in found.segments
    ]  # fmt: skip
    assert found.segments
    (root / "panoptic.json").write_text(json.dumps(document))


def test_a_report_tells_the_scores_and_shows_each_picture_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "own")
    (root / "images" / "1.png").write_bytes(b"no picture")
    run = finished(root, tmp_path / "run", "mask2former", panoptic=True)
    make_right(root, run)
    assert main(["evaluate", str(run), "--report", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "panoptic/pq" in shown and shown.endswith(f"{tmp_path / 'out' / 'report.html'}\n")
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    expected = evaluate_recipe(RunFolder(run).config(), run)
    assert [row["name"] for row in told["means"]] == ["all", "things", "stuff"]
    for row, ending in zip(told["means"], ("", "_things", "_stuff"), strict=True):
        for kind in ("pq", "sq", "rq"):
            assert row[kind] == pytest.approx(expected[f"panoptic/{kind}{ending}"], rel=1e-12)
    assert [(row["name"], row["is_thing"]) for row in told["classes"]] == [
        (name, name != "grass") for name in NAMES
    ]
    for row in told["classes"]:
        assert row["pq"] == expected.get(f"panoptic/pq/{row['name']}")
        if row["pq"] is not None:
            assert row["pq"] == pytest.approx(row["sq"] * row["rq"], rel=1e-12)
            assert row["num_true"] >= 1  # in the first picture
    assert (told["num_pictures"], told["num_skipped"]) == (2, 1)
    worst, best = ([(one["name"], one["pq"]) for one in told[name]] for name in ("worst", "best"))
    assert [name for name, _ in (*worst, *best)] == ["0.png", "2.png"]
    assert worst[0][1] < best[0][1] == 1.0

    page = (tmp_path / "out" / "report.html").read_text()
    marked = {key for _, key in re.findall(r'<data value="([^"]+)" data-key="([^"]+)">', page)}
    assert marked >= {"means.0.pq", "means.2.rq", "classes.0.num_true", "worst.0.pq"}
    assert "http" not in page
    drawn = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))).astype(int)
        for code in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    ]
    assert len(drawn) == 4
    record = read_panoptic(root / "panoptic.json", root / "images", root / "maps").records[0]
    image = np.asarray(Image.open(root / "images" / "0.png"))
    truth = np.asarray(draw_segments(image, read_panoptic_map(record), NAMES)).astype(int)
    # JPEG and its halved colours: thin white lines are off by more than the areas between them.
    assert np.abs(drawn[0] - truth).mean() < 12 < np.abs(drawn[1] - truth).mean()
    assert np.array_equal(drawn[2], drawn[3])  # the last picture, where all is right


def test_each_kind_of_run_has_its_own_report(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own")
    objects = RunFolder(finished(root, tmp_path / "objects", "atss")).config()
    segments = RunFolder(finished(root, tmp_path / "segments", "mask2former", panoptic=True)).config()
    for report, config in ((report_panoptic, objects), (report_detection, segments)):
        with pytest.raises(ConfigError, match="finds no (segments|objects); expected one"):
            report(config, tmp_path, "validation", tmp_path / "out", lambda done, total: None)
