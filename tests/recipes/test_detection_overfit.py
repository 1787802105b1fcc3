"""Every detector of the World learns sixteen pictures by heart: box AP above 0.9 (minutes each)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.recipes import detection_demo
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import CocoInstancesData
from imglish.recipes.detection_config import DetectionTask

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(WorldConfig(), folder, num_train=16, num_validation=2)
    maps = folder / "maps" / "images"  # beside the pictures' own folder, as COCO's are
    maps.mkdir(parents=True)
    (maps / "train").symlink_to(folder / "ade20k" / "annotations" / "training")
    return folder


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        (detection_demo.mask_rcnn_demo, 200),
        (detection_demo.cascade_mask_rcnn_demo, 300),
        (detection_demo.htc_demo, 300),
        (detection_demo.atss_demo, 200),
        (detection_demo.gfl_demo, 200),
        (detection_demo.mask2former_instances_demo, 400),
    ],
)
def test_sixteen_pictures_are_learned_by_heart(
    recipe: Callable[..., RunConfig], steps: int, world: Path, tmp_path: Path
) -> None:
    config = recipe(world=world, num_steps=steps)
    assert isinstance(config.task, DetectionTask)
    # What is scored is what was trained on, so nothing is flipped.
    data = CocoInstancesData(
        root=world, train="coco/instances_train.json", train_images="images/train",
        validation="coco/instances_train.json", validation_images="images/train",
        semantic="maps" if recipe is detection_demo.htc_demo else "", semantic_first=1,
    )  # fmt: skip
    config = replace(
        config, data=data, task=replace(config.task, pictures=replace(config.task.pictures, flip=0.0))
    )
    scores = train_recipe(config, tmp_path / "run")
    assert scores["box/ap"] > 0.9, scores
