"""The recipes of Sparse R-CNN: the official config's numbers, and a run of the small one.

Numbers are typed from the adapter's FACTS, sections 6, 8 and 10; those of the learned boxes, the sampling
ratio and the weights of the loss are from the official config itself, the score from its documents.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.cli.main import main
from imglish.config.core import from_yaml, to_yaml
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.hub.load import list_models
from imglish.inference.predictor import Predictor
from imglish.losses.sparse_rcnn import SparseRcnnLoss
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import DELTA_STDS
from imglish.models.detectors.vit_detector import ViTDetectorConfig, to_official
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.backbone_config import ViTBackboneConfig, vit_settings
from imglish.recipes.assembly.detection import build_detector
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionPictures, DetectionTask
from imglish.recipes.detection_official import by_name
from imglish.recipes.runs import RECIPES
from imglish.train.schedule import learning_rate
from tests.models.vit_adapter.test_official import official_shapes, shapes_of
from tests.recipes.test_dense_rates import VIT, detector, groups_of

NAME = "sparse_rcnn_deit_adapter_small_fpn_3x_coco"
KEYS = Path(__file__).parents[1] / "models" / "detectors" / "official_sparse_rcnn.json"
SMALL = SparseRcnnConfig(
    width=16, num_proposals=4, num_stages=2, num_heads=2, dynamic_width=4, feed_forward_width=16, grid=3
)


def official() -> tuple[RunConfig, DetectionTask]:
    config = RECIPES[NAME]()
    assert isinstance(config.task, DetectionTask)
    return config, config.task


def test_the_recipe_is_the_config() -> None:
    config, task = official()
    model, adapter, found = task.model, task.adapter, task.detector
    assert isinstance(model, ViTBackboneConfig) and isinstance(found, SparseRcnnConfig)
    assert (model.width, model.depth, model.drop_path, model.windows) == (384, 12, 0.2, (14, 14, 0) * 4)
    assert (adapter.drop_path, adapter.num_heads, adapter.value_ratio) == (0.2, 6, 1.0)
    assert (found.num_proposals, found.num_stages, found.num_heads, found.max_boxes) == (300, 6, 8, 300)
    assert (found.width, found.dynamic_width, found.feed_forward_width) == (256, 64, 2048)
    assert (found.num_class_layers, found.num_box_layers, found.grid, found.sampling_ratio) == (1, 3, 7, 2)
    assert DELTA_STDS == (0.5, 0.5, 1.0, 1.0)
    loss = SparseRcnnLoss(class_weight=2.0, side_weight=5.0, overlap_weight=2.0, alpha=0.25, gamma=2.0)
    assert task.sparse_rcnn_loss == loss
    assert (task.pictures, task.batch_size) == (DetectionPictures(pipeline="many_scales"), 16)
    optimizer, train = config.optimizer, config.train
    assert (optimizer.lr, optimizer.weight_decay, optimizer.layer_decay) == (1e-4, 0.05, 1.0)
    assert (optimizer.betas, optimizer.decay_by) == ((0.9, 0.999), "name")
    assert (train.num_epochs, train.max_grad_norm, train.ema_decay) == (36, 1.0, 0.0)
    rates = [learning_rate(step, 36_000, optimizer, config.schedule) for step in (0, 26_999, 27_000, 33_000)]
    assert rates == pytest.approx([1e-7, 1e-4, 1e-5, 1e-6])
    assert config.init == "deit_small_patch16_224" and config.init in list_models()


def test_the_recipe_builds_the_official_names_and_total() -> None:
    task = official()[1]
    assert isinstance(task.model, ViTBackboneConfig) and isinstance(task.detector, SparseRcnnConfig)
    with torch.device("meta"):
        model = build_detector(task, 80)
    config = ViTDetectorConfig(
        family="vit",
        vit=ViTConfig(**vit_settings(task.model)),
        adapter=task.adapter,
        detector=task.detector,
        num_classes=80,
    )
    content: dict[str, Any] = json.loads(KEYS.read_text())[NAME]
    shapes = {f"backbone.{key}": shape for key, shape in official_shapes(content["backbone"]).items()}
    shapes |= {key: tuple(shape) for key, shape in content["state_except_backbone"].items()}
    assert shapes_of(to_official(model.state_dict(), config)) == shapes
    assert sum(parameter.numel() for parameter in model.parameters()) == 109_748_920


# Officially the norms of the layers before classes and boxes are steps of a sequence, without a name.
RATES = [
    ("proposals.boxes", 0.25, 1e-4),
    ("proposals.features", 0.25, 1e-4),
    ("stages.1.attention.projection.weight", 1.0, 0.05),
    ("stages.1.attention.projection.bias", 1.0, 0.0),
    ("stages.1.attention_norm.weight", 1.0, 0.0),
    ("stages.0.interaction.weights.weight", 1.0, 0.05),
    ("stages.0.interaction.hidden_norm.weight", 1.0, 0.0),
    ("stages.0.interaction.output_norm.weight", 1.0, 0.0),
    ("stages.0.class_layers.1.weight", 1.0, 0.05),
    ("stages.0.box_layers.4.bias", 1.0, 0.0),
    ("stages.0.classes.weight", 1.0, 0.05),
    ("backbone.backbone.blocks.0.norm1.weight", 1.0, 0.0),
]


@pytest.mark.parametrize(("name", "factor", "decay"), RATES)
def test_learned_boxes_have_a_rate_and_a_decay_of_their_own(name: str, factor: float, decay: float) -> None:
    assert groups_of(detector(VIT, SMALL), by_name())[name] == pytest.approx((factor, decay))


def test_by_shape_learned_boxes_are_as_all_else() -> None:
    found = groups_of(detector(VIT, SMALL), replace(by_name(), decay_by="shape"))
    assert found["proposals.boxes"] == found["stages.0.classes.weight"] == (1.0, 0.05)


@pytest.mark.parametrize("name", [NAME, "sparse_rcnn_demo"])
def test_recipes_survive_yaml(name: str) -> None:
    config = RECIPES[name]()
    assert from_yaml(RunConfig, to_yaml(config), "config.yaml") == config


def test_documents_tell_command_source_and_score() -> None:
    text = RECIPES[NAME].__doc__ or ""
    assert f"imglish train {NAME} --data.root " in text and "Source: " in text and "Needs: " in text
    assert "48.1" in text.splitlines()[0]


@pytest.mark.parametrize("views", [{"scored_flip": True}, {"scored_scales": ((64, 64), (96, 96))}])
def test_several_views_are_refused(views: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sparse_rcnn is scored in one view"):
        DetectionTask(detector=SMALL, pictures=DetectionPictures(**views))


def test_the_demo_trains_is_scored_and_detects(tmp_path: Path) -> None:
    world, out = tmp_path / "world", tmp_path / "run"
    write_world(WorldConfig(), world, num_train=6, num_validation=3)
    settings = (
        "--init= --task.batch-size 2 --train.num-steps 2 --train.log-every 1 --train.num-workers 0 "
        "--train.device cpu --schedule.warmup-steps 0 --task.model.width 8 --task.model.depth 1 "
        "--task.model.num-fusion-layers 0 --task.model.num-heads 2 --task.model.feed-forward-width 8 "
        "--task.adapter.num-interactions 1 --task.adapter.stem-width 8 --task.adapter.num-heads 2 "
        "--task.detector.width 8 --task.detector.num-heads 2 --task.detector.num-stages 2 "
        "--task.detector.max-boxes 7"
    ).split()
    assert main(["train", "sparse_rcnn_demo", "--data.root", str(world), "--out", str(out), *settings]) == 0
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    terms = [line for line in log if "loss_giou" in line]
    assert len(terms) == 2
    for line in terms:  # terms are means over the boxes of the whole update, as the loss is
        assert line["loss"] == pytest.approx(sum(line[f"loss_{name}"] for name in ("class", "box", "giou")))
    assert main(["evaluate", str(out)]) == 0
    picture = next(world.rglob("*.png"))
    found = Predictor(out).detect(picture, min_score=0)
    assert len(found.objects) == 7  # type: ignore[union-attr]
