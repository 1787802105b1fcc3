"""Objects and segments are found for use as evaluation scored them, and written in COCO's formats."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from imglish import Predictor, load_model
from imglish.cli.main import main
from imglish.data.pictures import read_segment_ids
from imglish.decoding.boxes import DenseSelection
from imglish.decoding.found_objects import (
    FoundObjects,
    FoundSegments,
    find_segments,
    mask_pixels,
    shown_pictures,
)
from imglish.errors import CheckpointError, ConfigError
from imglish.inference.detection import Detected
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.ops.nms import NmsSettings
from imglish.recipes.assembly.detection import build_detector
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import CocoInstancesData, CocoPanopticData
from imglish.recipes.detection_config import DetectionPictures, DetectionTask, DetectorConfig
from imglish.recipes.detection_predictions import ObjectsTask
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import evaluate_recipe, finished_run
from imglish.tasks.instance_segmentation import InstanceSegmentationTask
from tests.recipes.tiny_runs import error_line
from tests.tasks.test_detection import ADAPTER, TWO_STAGE
from tests.tasks.test_mask_segmentation import SEGMENTER
from tests.tasks.test_sparse_detection import SPARSE
from tests.tasks.tiny import CONFIG

# (height, width): larger and smaller than the 64 pixels that pictures are fitted into, and longer one way.
SIZES = ((100, 60), (40, 150), (33, 33))
NAMES = ("dark", "light", "grass")
IDS = (3, 7, 20)  # of the categories, with gaps
PICTURES = DetectionPictures(
    pipeline="one_scale", scale=(64, 64), scored_scales=((64, 64),), range="model", flip=0.0
)
SEVERAL: dict[str, Any] = {"scored_scales": ((48, 48), (96, 80)), "scored_flip": True}
DETECTORS: dict[str, DetectorConfig] = {
    "two_stage": TWO_STAGE,
    "atss": OneStageConfig(kind="atss", width=16, num_convs=1, num_groups=4),
    "gfl": OneStageConfig(kind="gfl", width=16, num_convs=1, num_groups=4),
    "sparse_rcnn": SPARSE,
    "mask2former": SEGMENTER,
}


def pictures(root: Path) -> Path:
    """Pictures with two blocks each, as COCO instances and as panoptic segments."""
    draw = np.random.default_rng(0)
    images: list[Any] = []
    objects: list[Any] = []
    panoptic: list[Any] = []
    for folder in ("images", "maps"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (height, width) in enumerate(SIZES):
        image_id = 10 * number + 5
        pixels = draw.integers(90, 160, (height, width, 3), dtype=np.uint8)
        ids = np.full((height, width), 9)
        for place, (x, y) in enumerate(((4, 3), (16, 12))):
            w, h = width // 3, height // 3
            pixels[y : y + h, x : x + w] = 20 if place == 0 else 240
            ids[y : y + h, x : x + w] = place + 1
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            objects.append(
                {"id": len(objects) + 1, "image_id": image_id, "category_id": IDS[place], "area": w * h,
                 "bbox": [x, y, w, h], "iscrowd": 0, "segmentation": outline}
            )  # fmt: skip
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=-1).astype(np.uint8)).save(
            root / "maps" / f"{number}.png"
        )
        images.append({"id": image_id, "file_name": f"{number}.png", "height": height, "width": width})
        segments = [
            {"id": key, "category_id": category, "area": 1, "bbox": [0, 0, 1, 1], "iscrowd": 0}
            for key, category in ((1, 3), (2, 7), (9, 20))
        ]
        panoptic.append({"image_id": image_id, "file_name": f"{number}.png", "segments_info": segments})
    categories = [
        {"id": key, "name": name, "isthing": int(key < 20)} for key, name in zip(IDS, NAMES, strict=True)
    ]
    for name, listed in (("objects", objects), ("panoptic", panoptic)):
        document = {"images": images, "annotations": listed, "categories": categories}
        (root / f"{name}.json").write_text(json.dumps(document))
    return root


def finished(root: Path, out: Path, kind: str, *, panoptic: bool = False, **settings: Any) -> Path:
    """A finished run on `pictures` whose weights find something everywhere."""
    torch.manual_seed(3)
    task = DetectionTask(
        model=CONFIG,
        adapter=ADAPTER,
        detector=DETECTORS[kind],
        pictures=replace(PICTURES, **settings),
        panoptic=panoptic,
        selection=DenseSelection(min_score=0.02, nms=NmsSettings(max_overlap=0.5), max_boxes=9),
    )
    data: CocoInstancesData | CocoPanopticData = CocoInstancesData(
        root=root, train="objects.json", train_images="images", validation="objects.json",
        validation_images="images",
    )  # fmt: skip
    if panoptic:
        data = CocoPanopticData(
            root=root, train="panoptic.json", train_images="images", train_maps="maps",
            validation="panoptic.json", validation_images="images", validation_maps="maps",
        )  # fmt: skip
    config = RunConfig(name="own", task=task, data=data)
    config = replace(config, train=replace(config.train, device="cpu"))
    model = build_detector(task, len(NAMES))
    with torch.no_grad():  # so that answers differ from place to place
        for name, parameter in model.named_parameters():
            parameter.add_((0.0 if "norm" in name else 0.1) * torch.randn_like(parameter))
            if panoptic and name == "head.classifier.weight":
                parameter.mul_(30)  # sure enough to be a segment
    folder = RunFolder(out)
    folder.create()
    folder.write_config(config)
    folder.save_weights(model.state_dict())
    folder.classes_path.write_text("".join(f"{name}\n" for name in NAMES))
    if panoptic:
        folder.things_path.write_text("dark\nlight\n")
    return out


def scored(run: Path) -> list[FoundObjects]:
    """What evaluation compares with what is true, for each picture."""
    with finished_run(RunFolder(run).config(), run, "validation") as ready:
        task = ready.assembly.task.eval()
        assert isinstance(task, ObjectsTask)
        return [one for each in ready.assembly.evaluation(ready.shares) for one in task.found(each.batch)]


def scored_segments(run: Path) -> list[FoundSegments]:
    """The segments that evaluation compares with the true ones, for each picture."""
    with finished_run(RunFolder(run).config(), run, "validation") as ready:
        task = ready.assembly.task.eval()
        assert isinstance(task, InstanceSegmentationTask)
        return [
            find_segments(task.model, views[0], size, task.is_thing)
            for each in ready.assembly.evaluation(ready.shares)
            for size, views in shown_pictures(each.batch)
        ]


def paths(root: Path) -> list[Path]:
    return sorted((root / "images").iterdir())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((kind, {}) for kind in DETECTORS),
        ("two_stage", {**SEVERAL, "scored_areas": ((0.0, 900.0), (400.0, float("inf")))}),
        ("gfl", {**SEVERAL, "range": "imagenet"}),
    ],
)
def test_a_run_detects_as_it_was_scored(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", kind, **settings)
    given, expected = Predictor(run).detect(paths(root), min_score=0), scored(run)
    assert max(len(found.objects) for found in given) > 1  # or the comparison is worth nothing
    for found, (objects, masks) in zip(given, expected, strict=True):
        # Equal but for sums of another order, where memory lies otherwise.
        np.testing.assert_allclose([one.score for one in found.objects], objects.scores, rtol=1e-5, atol=1e-7)
        boxes = np.array([one.box for one in found.objects]).reshape(-1, 4)
        np.testing.assert_allclose(boxes, objects.boxes, rtol=1e-5, atol=1e-3)
        assert [one.label for one in found.objects] == objects.labels.tolist()
        assert [one.name for one in found.objects] == [NAMES[label] for label in objects.labels.tolist()]
        if masks is None:
            assert kind in ("atss", "gfl", "sparse_rcnn") and all(one.mask is None for one in found.objects)
        else:
            for one, mask in zip(found.objects, masks, strict=True):
                assert one.mask is not None and one.mask.size == mask.size
                assert (one.mask.pixels() != mask_pixels(mask)).mean() < 1e-3
    single = Predictor(run).detect(paths(root)[0], min_score=0)
    assert isinstance(single, Detected) and len(single.objects) == len(given[0].objects)
    assert json.loads(json.dumps(single.to_json())) == single.to_json()
    for one in single.objects:
        if one.mask is not None:
            assert one.mask.pixels().shape == one.mask.size == SIZES[0]


def test_scales_and_flip_may_be_asked_for_and_taken_back(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own")
    one = Predictor(finished(root, tmp_path / "one", "gfl"))
    several = Predictor(finished(root, tmp_path / "several", "gfl", scored_scales=((48, 48), (96, 96)),
                                 scored_flip=True))  # fmt: skip
    picture = paths(root)[0]
    asked = one.detect(picture, min_score=0, scales=(0.75, 1.5), flip=True)
    both, single = several.detect(picture, min_score=0), one.detect(picture, min_score=0)
    back = several.detect(picture, min_score=0, scales=(64 / 48,), flip=False)
    scores = [[o.score for o in found.objects] for found in (asked, both, back, single)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5) and scores[2] == pytest.approx(scores[3], rel=1e-5)
    assert scores[0] != pytest.approx(scores[2], rel=1e-3)
    (best, second, *_) = scores[3]
    assert len(one.detect(picture, min_score=(best + second) / 2).objects) == 1


def test_panoptic_segments_are_those_that_were_scored(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "mask2former", panoptic=True)
    assert load_model(run).settings["things"] == (True, True, False)
    given, expected = Predictor(run).panoptic(paths(root)), scored_segments(run)
    assert max(len(found.segments) for found in given) > 1
    for found, (segments, scores) in zip(given, expected, strict=True):
        np.testing.assert_array_equal(found.ids, segments.ids)
        assert [one.number for one in found.segments] == segments.segment_ids.tolist()
        assert [one.name for one in found.segments] == [NAMES[label] for label in segments.labels.tolist()]
        assert [one.is_thing for one in found.segments] == [
            name != "grass" for _, name, _, _ in found.segments
        ]
        np.testing.assert_allclose([one.score for one in found.segments], scores, rtol=1e-5)
    assert given[0].draw(paths(root)[0], legend=False).size == SIZES[0][::-1]
    with pytest.raises(CheckpointError, match="run of panoptic; this needs one of detection"):
        Predictor(run).detect([])
    (run / "things.txt").unlink()
    with pytest.raises(CheckpointError, match=r"things.txt: no such file"):
        load_model(run)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"min_score": 1.5}, r"min_score must lie in \[0, 1\]; got 1.5"),
        ({"scales": ()}, "expected positive numbers, such as"),
        ({"scales": (0.0,)}, "expected positive numbers, such as"),
        ({"scales": (0.5, 1.0)}, "mask2former looks at one view"),
        ({"flip": True}, "mask2former looks at one view"),
    ],
)
def test_what_can_not_be_asked_is_refused(tmp_path: Path, arguments: Any, words: str) -> None:
    run = finished(pictures(tmp_path / "own"), tmp_path / "run", "mask2former")
    with pytest.raises(ConfigError, match=words):
        Predictor(run).detect([], **arguments)
    with pytest.raises(CheckpointError, match="takes pictures of any size; leave image_size out"):
        load_model(run, image_size=64)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("pictures", "scored_scales"), [[64]], "task.pictures of the run: damaged"),
        (("selection", "max_boxes"), 0, "task.selection of the run: damaged"),
        (("detector", "kind"), "yolo", "settings of no detector"),
        (("detector", "num_levels"), 3, "unknown settings of a detector: num_levels"),
        (("detector", "width"), 32, "another architecture|has shape"),
        (("backbone",), None, "settings of no detector"),
    ],
)
def test_damaged_settings_are_told_in_a_line(
    tmp_path: Path, place: tuple[str, ...], value: Any, words: str
) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "gfl")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    node = settings["task"]
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    if value is None:
        del node[place[-1]]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(CheckpointError, match=words) as error:
        Predictor(run).detect(paths(root)[0])
    assert "\n" not in str(error.value)


def test_predictions_are_a_file_that_pycocotools_scores_alike(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "two_stage")
    assert main(["evaluate", str(run), "--predictions", str(tmp_path / "out" / "found.json")]) == 0
    told = json.loads((tmp_path / "out" / "found.json").read_text())
    assert len(told) == sum(len(found.objects) for found in scored(run))
    assert {entry["image_id"] for entry in told} == {5, 15, 25} and {
        entry["category_id"] for entry in told
    } <= set(IDS)
    expected = evaluate_recipe(RunFolder(run).config(), run)
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "objects.json"))
        for kind, name in (("bbox", "box"), ("segm", "mask")):
            rows = [{key: value for key, value in entry.items() if key != "bbox" or name == "box"}
                    for entry in told]  # fmt: skip
            evaluation = COCOeval(truth, truth.loadRes(rows), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            # Boxes are written to the hundredth of a pixel, as COCO's own are.
            assert evaluation.stats[8] == pytest.approx(expected[f"{name}/ar100"], abs=1e-3)


def test_panoptic_predictions_are_read_as_a_published_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "mask2former", panoptic=True)
    out = tmp_path / "found.json"
    assert main(["evaluate", str(run), "--predictions", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 3 predictions\n"
    told = json.loads(out.read_text())["annotations"]
    for entry, (segments, _) in zip(told, scored_segments(run), strict=True):
        maps = read_segment_ids(tmp_path / "found" / entry["file_name"], segments.ids.shape)
        np.testing.assert_array_equal(maps.numpy(), segments.ids)
        assert [info["category_id"] for info in entry["segments_info"]] == [
            IDS[label] for label in segments.labels.tolist()
        ]
    assert [entry["image_id"] for entry in told] == [5, 15, 25]
    assert main(["evaluate", str(run), "--predictions", str(tmp_path / "found")]) == 1
    assert "segments are a .json file and a folder" in error_line(capsys.readouterr().err)


def test_data_of_other_classes_is_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "gfl")
    (run / "classes.txt").write_text("light\ndark\ngrass\n")
    assert main(["evaluate", str(run)]) == 1
    assert "has learned 3 classes (light, dark, grass), the data to score has 3" in error_line(
        capsys.readouterr().err
    )
    assert (run / "classes.txt").read_text() == "light\ndark\ngrass\n"


def test_masks_that_are_not_scored_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "two_stage")
    assert main(["evaluate", str(run)]) == 0
    assert "mask/ap" in capsys.readouterr().out and "masks are not scored" not in caplog.text
    document = json.loads((root / "objects.json").read_text())
    document["annotations"][3]["segmentation"] = []
    (root / "objects.json").write_text(json.dumps(document))
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "box/ap" in shown and "mask/ap" not in shown
    assert "masks are not scored: 1 of the 6 objects to score have no outline" in caplog.text


def test_predict_prints_objects_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "two_stage")
    first, *_ = paths(root)
    expected = Predictor(run).detect(first, min_score=0.4)
    asked = ["predict", str(first), "--run", str(run), "--detect", "--min-score", "0.4"]
    capsys.readouterr()
    assert main([*asked, "--draw", str(tmp_path / "drawn")]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{first}: {len(expected.objects)} object") and len(lines) == len(expected.objects)
    best = expected.objects[0]
    assert lines[0].startswith(f"  {best.score:.0%} {best.name} ({best.box[0]:.1f}, ")
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "0_drawn_objects.png"))
    assert (drawn != np.asarray(expected.draw(first))).mean() < 1e-2  # a box may be a pixel off by rounding
    assert drawn.shape == (4 * 100, 4 * 60, 3)
    assert (drawn[::4, ::4] != np.asarray(Image.open(first))).mean() > 0.01
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["pictures"][0]["objects"]
    assert [entry.keys() for entry in told] == [{"name", "score", "box", "mask"}] * len(expected.objects)


def test_predict_writes_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "mask2former", panoptic=True)
    first = paths(root)[0]
    maps = tmp_path / "maps"
    capsys.readouterr()
    assert main(["predict", str(first), "--run", str(run), "--panoptic", str(maps), "--draw", str(maps)]) == 0
    expected = Predictor(run).panoptic(first)
    np.testing.assert_array_equal(np.asarray(Image.open(maps / "0_segments.png")), expected.ids)
    assert (maps / "0_drawn_segments.png").is_file()
    shown = ", ".join(f"{one.number} {one.name}" for one in expected.segments)
    assert capsys.readouterr().out == f"{first}: {maps / '0_segments.png'} ({shown or 'no segment'})\n"


def test_a_picture_without_segments_is_drawn_as_it_is(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "mask2former", panoptic=True)
    weights = RunFolder(run).weights()
    weights["head.classifier.weight"].zero_()
    weights["head.classifier.bias"][:-1], weights["head.classifier.bias"][-1] = 0, 9  # sure of no object
    RunFolder(run).save_weights(weights)
    picture = paths(root)[0]
    words = ["predict", str(picture), "--run", str(run), "--panoptic", str(tmp_path / "maps")]
    assert main([*words, "--draw", str(tmp_path / "drawn")]) == 0
    assert not np.asarray(Image.open(tmp_path / "maps" / "0_segments.png")).any()
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "0_drawn_segments.png"))
    np.testing.assert_array_equal(drawn, np.asarray(Image.open(picture)))
