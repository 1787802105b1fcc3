"""A run of one task that starts from a joint run takes its encoder, its adapter and the head of that task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.hub.load import load_model
from imglish.hub.pretrained import save_pretrained
from imglish.hub.run import LoadedRun
from imglish.hub.segmenter_run import adapter_config
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.models.joint import whole
from imglish.models.segmenters.config import segmenter_config
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.recipes.initial import initial_text, load_encoder, load_initial

POSITIONS = "encoder.vision_embedding.positions.weight"


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedRun, Path]:
    """The World model, and its folder as a run has it."""
    run = load_model("world")
    return run, save_pretrained(run, tmp_path_factory.mktemp("joint") / "heads")


def config(run: LoadedRun, **changes: Any) -> Beit3Config:
    assert isinstance(run.config, Beit3Config)
    return replace(run.config, **changes)


@pytest.mark.parametrize("kind", ["vqa", "captioning", "retrieval", "class_names"])
def test_the_head_of_the_same_task_comes_along(kind: str, joint: tuple[LoadedRun, Path]) -> None:
    run, folder = joint
    part = "retrieval" if kind == "class_names" else kind
    model: torch.nn.Module
    match kind:
        case "vqa":
            answers = len(run.parts["vqa"].labels)
            model = Beit3ForVqa(config(run, output_norm=False), num_answers=answers)
        case "captioning":
            model = Beit3ForCaptioning(config(run))
        case _:
            model = Beit3ForRetrieval(config(run))
    assert load_initial(model, str(folder), kind) == []
    given = whole(run.parts[part].model).state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.state_dict().items())
    assert initial_text(str(folder)).serialized == run.parts[part].text.serialized  # type: ignore[union-attr]


def test_a_task_that_the_joint_run_has_not_takes_the_encoder_alone(joint: tuple[LoadedRun, Path]) -> None:
    run, folder = joint
    model = Beit3ForNlvr2(config(run, image_size=(96, 64)))
    fresh = load_initial(model, str(folder), "nlvr2")
    assert fresh and all(name.startswith("head.") for name in fresh)
    own, given = model.encoder.state_dict(), run.model.get_submodule("encoder").state_dict()
    resized = own.pop(POSITIONS.removeprefix("encoder."))
    assert len(resized) > len(given.pop(POSITIONS.removeprefix("encoder.")))
    assert all(torch.equal(own[name], given[name]) for name in own)


def test_a_segmenter_takes_adapter_and_heads(joint: tuple[LoadedRun, Path]) -> None:
    run, folder = joint
    part = run.parts["segmentation"]
    model = segmenter_on(
        config(run), adapter_config(part.settings["adapter"]), segmenter_config(part.settings["segmenter"]),
        num_classes=len(part.labels),
    )  # fmt: skip
    assert load_initial(model, str(folder), "semantic_segmentation") == []
    given = whole(part.model).state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.state_dict().items())


def test_both_names_of_the_package_mean_its_encoder_here() -> None:
    run = load_model("world_encoder")
    states = []
    for name in ("world", "world_encoder"):
        model = Beit3ForCaptioning(config(run))
        load_encoder(model, name, "captioning")
        states.append(model.encoder.state_dict())
        assert initial_text(name).serialized == run.text.serialized  # type: ignore[union-attr]
    given = run.model.get_submodule("encoder").state_dict()
    assert all(torch.equal(state[name], given[name]) for state in states for name in given)
