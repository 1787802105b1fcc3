"""Pictures of a test split, of which nobody has told what is there, are predicted and not scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imglish.cli.main import main
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Shares, Splits
from imglish.recipes.data_config import CocoInstancesData, CocoPanopticData, FolderData, YoloData
from imglish.recipes.detection_records import detection_files, segmented_pictures
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import evaluate_recipe
from tests.recipes.test_detected_pictures import IDS, finished, pictures
from tests.recipes.tiny_runs import error_line

TEST = ["--split", "test", "--data.test", "info.json", "--data.test-images", "images"]


def without_annotations(root: Path, *, categories: list[dict[str, Any]] | None = None) -> None:
    """The pictures as COCO's ``image_info`` files have them."""
    document = json.loads((root / "objects.json").read_text())
    del document["annotations"]
    document["categories"] = categories or document["categories"]
    (root / "info.json").write_text(json.dumps(document))


def test_objects_of_pictures_without_annotations_are_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "two_stage")
    without_annotations(root)
    untold, told = tmp_path / "untold.json", tmp_path / "told.json"
    assert main(["evaluate", str(run), "--predictions", str(untold), *TEST]) == 0
    assert main(["evaluate", str(run), "--predictions", str(told)]) == 0
    found = json.loads(untold.read_text())
    assert found == json.loads(told.read_text()) and len(found) > 3  # the same pictures, after all
    assert found[0].keys() == {"image_id", "category_id", "bbox", "score", "segmentation"}
    capsys.readouterr()
    for more in ([], ["--report", str(tmp_path / "report")]):
        assert main(["evaluate", str(run), *more, *TEST]) == 1
        assert error_line(capsys.readouterr().err).endswith(
            "the test split has 3 pictures without objects: there is nothing to score; --predictions FILE "
            "writes predictions"
        )
    assert not (tmp_path / "report").exists()


def test_a_test_split_with_annotations_is_scored(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "atss")
    config = RunFolder(run).config()
    assert isinstance(config.data, CocoInstancesData)
    data = replace(config.data, test="objects.json", test_images="images")
    assert evaluate_recipe(replace(config, data=data), run, "test") == evaluate_recipe(config, run)


def test_segments_of_pictures_without_annotations_are_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """COCO's file of test pictures names its 80 things alone."""
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "mask2former", panoptic=True)
    without_annotations(root, categories=[{"id": 3, "name": "dark"}])
    assert main(["evaluate", str(run), "--predictions", str(tmp_path / "untold.json"), *TEST]) == 0
    assert main(["evaluate", str(run), "--predictions", str(tmp_path / "told.json")]) == 0
    found = json.loads((tmp_path / "untold.json").read_text())
    assert found == json.loads((tmp_path / "told.json").read_text())
    assert {info["category_id"] for one in found["annotations"] for info in one["segments_info"]} <= set(IDS)
    for one in found["annotations"]:
        mine, theirs = ((tmp_path / name / one["file_name"]).read_bytes() for name in ("untold", "told"))
        assert mine == theirs
    capsys.readouterr()
    assert main(["evaluate", str(run), *TEST]) == 1
    assert "the test split has 3 pictures without segments" in error_line(capsys.readouterr().err)


def test_a_file_to_train_on_or_to_score_needs_annotations(tmp_path: Path) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "atss")
    without_annotations(root)
    config = RunFolder(run).config()
    assert isinstance(config.data, CocoInstancesData)
    data = replace(config.data, validation="info.json")
    with pytest.raises(DataFormatError, match=r"info.json: .*has no key 'annotations'"):
        evaluate_recipe(replace(config, data=data), run)
    with pytest.raises(ConfigError, match=r"data.kind yolo has no test split; give --split validation"):
        detection_files(YoloData(root=root), "test")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "pale"}, r"has category 7 'pale' \(a thing\) where training has category 7 'light' \(a th"),
        ({"isthing": 0}, r"has category 7 'light' \(stuff\) where training has category 7 'light' \(a thing"),
        ({"id": 8}, r"has category 8 'light' .* where training has category 7 'light'"),
    ],
)
def test_segments_are_of_the_same_categories_in_training_and_scoring(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    root = pictures(tmp_path / "own")
    run = finished(root, tmp_path / "run", "mask2former", panoptic=True)
    document = json.loads((root / "panoptic.json").read_text())
    document["categories"][1] |= change
    for one in document["annotations"]:
        for segment in one["segments_info"]:
            segment["category_id"] = change.get("id", 7) if segment["category_id"] == 7 else IDS[0]
    (root / "other.json").write_text(json.dumps(document))
    config = RunFolder(run).config()
    assert isinstance(config.data, CocoPanopticData)
    config = replace(config, data=replace(config.data, validation="other.json"))
    folder = RunFolder(tmp_path / "new")
    folder.create()
    with pytest.raises(DataFormatError, match=rf"other\.json: {said}.*; expected the same categories in"):
        assemble(config, folder, Shares())
    if "id" in change:  # whose ids a run does not know
        return
    with pytest.raises(DataFormatError, match=r"(classes|things)\.txt: the run has learned . "):
        assemble(config, RunFolder(run), Shares(), Splits(train=False))


def test_a_world_is_scored_on_what_it_holds_out(tmp_path: Path) -> None:
    """Things of colours and shapes that are never seen together in training."""
    write_world(WorldConfig(), tmp_path / "w", num_train=2, num_validation=2, num_compositional=3, workers=1)
    data = FolderData(root=tmp_path / "w")
    files = detection_files(data, "test", detection_files(data, "train").categories).usable()
    assert len(files.records) == 3 and files.semantic is not None and files.has_masks
    segmented = segmented_pictures(data, "test")
    assert segmented.told and len(segmented.records) == 3
    write_world(WorldConfig(), tmp_path / "none", num_train=2, num_validation=2, workers=1)
    with pytest.raises(ConfigError, match="no compositional split; it has train, validation"):
        detection_files(FolderData(root=tmp_path / "none"), "test")
