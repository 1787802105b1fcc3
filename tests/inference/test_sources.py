"""A predictor takes names, files, runs, folders of runs and loaded models, and says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imglish.errors import CheckpointError
from imglish.hub import run as hub_run
from imglish.hub.load import load_model
from imglish.hub.run import LoadedRun
from imglish.inference.predictor import Predictor
from tests.hub.official_files import BEIT_FINE_TUNED, RETRIEVAL, shrunk
from tests.inference.tiny_weights import pixels, write_files, write_run

PICTURE = pixels(20, 20)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "mine", "retrieval", seed=1)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_a_string_and_what_was_loaded_are_the_same_source(files: Path) -> None:
    path = files / "retrieval.pth"
    expected = Predictor(load_model(path)).embed_images(PICTURE)
    for source in (path, str(path)):
        np.testing.assert_array_equal(Predictor(source).embed_images(PICTURE), expected)


def test_an_official_name_is_loaded_by_its_name(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(name: str, device: str) -> LoadedRun:
        asked.append((name, device))
        return load_model(files / "captioning.pth")

    monkeypatch.setattr("imglish.inference.sources.load_model", fake)
    assert Predictor("beit3_base_patch16_480_coco_captioning").caption(PICTURE)
    assert asked == [("beit3_base_patch16_480_coco_captioning", "cpu")]


def test_a_name_that_nobody_knows_is_refused_at_once(tmp_path: Path) -> None:
    message = refusal(lambda: Predictor("beit3_base_patch16_480_vqq"))
    assert "did you mean 'beit3_base_patch16_480_vqa'?" in message
    assert "neither a model's name nor a file" in refusal(lambda: Predictor(tmp_path / "no"))
    assert refusal(lambda: Predictor("")).startswith("'': no weights are called so")


def test_a_run_is_found_alone_by_its_name_in_a_demo_or_by_its_kind(retrieval: Path, tmp_path: Path) -> None:
    expected = Predictor(retrieval).embed_images(PICTURE)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "any_name").symlink_to(retrieval)
    write_run(tmp_path / "some" / "captioning", "captioning")
    predictor = Predictor(tmp_path / "some")
    np.testing.assert_array_equal(predictor.embed_images(PICTURE), expected)
    assert isinstance(predictor.caption(PICTURE), str)
    message = refusal(lambda: predictor.answer(PICTURE, "what?"))
    assert f"{tmp_path / 'some'} holds no run of that kind; this needs one of vqa, such as" in message
    write_run(tmp_path / "some" / "contrastive", "contrastive", seed=2)
    fresh = Predictor(tmp_path / "some")
    assert "any_name, contrastive; give one of them" in refusal(lambda: fresh.embed_images(PICTURE))
    (tmp_path / "some" / "retrieval").symlink_to(retrieval)
    np.testing.assert_array_equal(Predictor(tmp_path / "some").embed_images(PICTURE), expected)


def test_names_of_classes_go_to_the_dual_encoder_of_a_folder(retrieval: Path, tmp_path: Path) -> None:
    (tmp_path / "retrieval").symlink_to(retrieval)
    write_run(tmp_path / "captioning", "captioning")
    predictor = Predictor(tmp_path)
    assert predictor.classify(PICTURE, ["star", "fish"]) == Predictor(retrieval).classify(
        PICTURE, ["star", "fish"]
    )
    assert "has no classes of its own" in refusal(lambda: predictor.classify(PICTURE))


def test_what_is_no_finished_run_is_refused_when_it_is_asked(retrieval: Path, tmp_path: Path) -> None:
    assert refusal(lambda: Predictor(tmp_path).caption(PICTURE)).startswith(f"{tmp_path} holds no finished")
    message = refusal(lambda: Predictor(retrieval).caption(PICTURE))
    assert message.startswith(f"{retrieval} is a run of retrieval; this needs one of captioning, such as ")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("task: 3")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"")
    assert "config.yaml: damaged" in refusal(lambda: Predictor(tmp_path).caption(PICTURE))


def test_missing_text_tokenizers_are_named(retrieval: Path, tmp_path: Path) -> None:
    torch.save(shrunk(RETRIEVAL), tmp_path / "file.pth")
    predictor = Predictor(tmp_path / "file.pth")
    assert predictor.embed_images([PICTURE]).shape[0] == 1  # no text is needed for that
    message = refusal(lambda: predictor.embed_texts("a"))
    assert message == (
        f"{tmp_path / 'file.pth'} came without a text tokenizer: put text.spm or beit3.spm beside the weights"
    )
    for path in retrieval.iterdir():
        if path.name != "text.spm":
            (tmp_path / "run").mkdir(exist_ok=True)
            (tmp_path / "run" / path.name).symlink_to(path)
    assert f"{tmp_path / 'run'} has no text.spm" in refusal(
        lambda: Predictor(tmp_path / "run").match(PICTURE, "a")
    )


def test_a_beit_of_unknown_pictures_is_refused(tmp_path: Path) -> None:
    torch.save(shrunk(BEIT_FINE_TUNED), tmp_path / "beit.pth")
    message = refusal(lambda: Predictor(tmp_path / "beit.pth").classify(PICTURE))
    assert f"{tmp_path / 'beit.pth'} is a BEiT whose file does not say which pictures it takes" in message
    run = load_model(tmp_path / "beit.pth")
    told = replace(run, settings={"pictures": "imagenet"})
    assert len(Predictor(told).classify(PICTURE)) == len(run.labels)


def test_one_model_is_loaded_once(retrieval: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []

    def counting(folder: Path, device: str) -> LoadedRun:
        loaded.append(folder)
        return hub_run.load_run(folder, device)

    monkeypatch.setattr("imglish.inference.sources.load_run", counting)
    predictor = Predictor(retrieval)
    assert not loaded
    predictor.match([PICTURE], ["a", "b"])
    predictor.search([PICTURE], "a")
    assert loaded == [retrieval]
