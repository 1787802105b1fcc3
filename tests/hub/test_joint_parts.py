"""A part of a joint run by itself: saved as a run of one task, read again, and says what it said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from imglish.cli.main import main
from imglish.errors import CheckpointError
from imglish.hub.load import load_model, read_weights
from imglish.hub.pretrained import save_pretrained
from imglish.hub.run import LoadedRun, part_alone
from imglish.inference.predictor import Predictor
from tests.inference.tiny_weights import pixels

PARTS = ("vqa", "captioning", "retrieval", "image_classification", "segmentation", "detection")


@pytest.fixture(scope="module")
def world() -> LoadedRun:
    return load_model("world")


def said(source: Path | LoadedRun, part: str) -> object:
    """What one part says of two pictures, numbers among it."""
    predictor = Predictor(source)
    pictures = [pixels(64, 64, seed) for seed in (0, 1)]
    match part:
        case "vqa":
            return predictor.answer(pictures, "what colour is the star?")
        case "captioning":
            return predictor.caption(pictures)
        case "retrieval":
            return predictor.match(pictures, ["a red star", "a house"]).tolist()
        case "image_classification":
            return predictor.classify(pictures)
        case "segmentation":
            return [found.classes.tolist() for found in predictor.segment(pictures)]
        case _:
            found = predictor.detect(pictures, min_score=0.05)
            return [[(one.name, one.score, *one.box) for one in each.objects] for each in found]


def numbers(value: object) -> list[object]:
    """Everything within lists and tuples in a row."""
    if isinstance(value, (list, tuple)):
        return [inner for each in value for inner in numbers(each)]
    return [value]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_says_the_same_from_a_folder_of_its_own(world: LoadedRun, part: str, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in world.model.state_dict().items()}
    folder = save_pretrained(world.parts[part], tmp_path / part)
    alone = load_model(folder)
    assert alone.kind == world.parts[part].kind and not alone.is_part and not alone.parts
    assert alone.labels == world.parts[part].labels
    assert any("encoder.blocks" in name for name in alone.model.state_dict())
    wanted, found = numbers(said(world, part)), numbers(said(folder, part))
    assert len(found) == len(wanted) > 1
    for ours, theirs in zip(found, wanted, strict=True):  # float32, pictures seen together or not
        assert ours == (pytest.approx(theirs, abs=1e-4) if isinstance(theirs, float) else theirs)
    after = world.model.state_dict()  # the joint run stays as it is
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert world.parts[part].is_part


def test_heads_that_normalise_keep_the_norm_before_them(world: LoadedRun, tmp_path: Path) -> None:
    for part, told in {"vqa": True, "image_classification": True, "captioning": False}.items():
        folder = save_pretrained(world.parts[part], tmp_path / part)
        task = yaml.safe_load((folder / "config.yaml").read_text())["task"]
        assert task.get("encoder_norm", False) is told
        again = part_alone(world.parts[part])
        assert "encoder.norm.shared.weight" in again.model.state_dict()
    (tmp_path / "vqa" / "config.yaml").write_text(yaml.safe_dump({"task": task | {"kind": "vqa"}}))
    with pytest.raises(CheckpointError, match=r"encoder\.norm"):  # not read past it in silence
        load_model(tmp_path / "vqa")


def test_the_command_writes_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "world", "captions", "--to", "pretrained", "--part", "captioning"]) == 0
    assert load_model(tmp_path / "captions").kind == "captioning"
    refused = {
        "world has no part 'nlvr2'; give --part with one of vqa, captioning": ["world", "x", "nlvr2"],
        "captions: a captioning model, which has no parts; leave --part out": ["captions", "x", "vqa"],
    }
    for words, (source, target, part) in refused.items():
        assert main(["convert", source, target, "--to", "pretrained", "--part", part]) == 1
        assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x").exists()


def test_weights_of_several_heads_are_no_file(world: LoadedRun, tmp_path: Path) -> None:
    joint = save_pretrained(world, tmp_path / "joint")
    for source, words in {
        "world": "world: ships in the package as a run, not as a file; imglish convert world FOLDER",
        str(joint): "a folder; the weights of a run are .*model.safetensors",
        str(joint / "model.safetensors"): r"weights of several heads on one encoder; .* --part NAME",
    }.items():
        with pytest.raises(CheckpointError, match=words):
            read_weights(source)
