"""Which pictures a detector is trained on and scored on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from imglish.data.loader import SinglePlan
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Shares
from imglish.recipes.data_config import CocoInstancesData
from imglish.recipes.detection_demo import atss_demo
from imglish.recipes.run_folder import RunFolder


def test_pictures_that_are_too_small_are_scored_but_not_trained_on(tmp_path: Path) -> None:
    """As in the official loader: a shorter side of less than 32 pixels; one such must not let others in."""
    (tmp_path / "pictures").mkdir()
    sizes = [(40, 50), (31, 90), (64, 33), (20, 20)]
    for number, (height, width) in enumerate(sizes):
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(tmp_path / f"pictures/{number}.png")
    document = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
            for number, (height, width) in enumerate(sizes)
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100,
             "iscrowd": 0}
            for number in range(len(sizes))
        ],
    }  # fmt: skip
    (tmp_path / "all.json").write_text(json.dumps(document))
    data = CocoInstancesData(
        root=tmp_path, train="all.json", train_images="pictures", validation="all.json",
        validation_images="pictures",
    )  # fmt: skip
    config = replace(atss_demo(num_steps=1), data=data, init="")
    folder = RunFolder(tmp_path / "run")
    folder.create()
    assembly = assemble(config, folder, Shares())
    assert isinstance(assembly.plan, SinglePlan) and assembly.evaluation_set is not None
    trained = assembly.plan.source.dataset
    rng = np.random.default_rng(0)
    found = [trained.get(row, rng).original_size for row in range(len(trained))]
    assert sorted(found) == [(40, 50), (64, 33)]
    assert len(assembly.evaluation_set) == 4
