"""A saved folder loads to the same model, tells what it is, and is not written where it would not."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from imglish.errors import CheckpointError
from imglish.hub.card import CardFacts, facts_of, write_card
from imglish.hub.load import load_model
from imglish.hub.pretrained import save_pretrained
from imglish.hub.run import LoadedRun
from imglish.hub.transformers_config import TransformersConfig
from imglish.inference.predictor import Predictor
from imglish.text.training import train_tokenizer
from tests.hub.answers import answer
from tests.hub.official_files import (
    CAPTIONING,
    CLASSIFICATION,
    KINDS,
    NLVR2,
    PRETRAINING,
    RETRIEVAL,
    TOKENIZER,
    VQA,
    saved,
    shrunk,
)
from tests.hub.refusals import refusal
from tests.inference.tiny_weights import TEXTS, pixels, write_run

BEIT3 = (PRETRAINING, RETRIEVAL, VQA, NLVR2, CLASSIFICATION, CAPTIONING)
WORLD = Path(str(resources.files("imglish.hub") / "world"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("text") / "text.spm"
    train_tokenizer(TEXTS * 5, path, vocab_size=45)
    return path.read_bytes()


def loaded(key_list: str, folder: Path, text: bytes) -> LoadedRun:
    (folder / "text.spm").write_bytes(text)
    return load_model(saved(shrunk(key_list), folder / "file.pth"))


def assert_same(back: LoadedRun, run: LoadedRun) -> None:
    weights, expected = back.model.state_dict(), run.model.state_dict()
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)  # bit for bit
    assert (back.kind, back.config, back.labels) == (run.kind, run.config, run.labels)
    assert {"kind": run.settings.get("kind", run.kind), **run.settings} == back.settings
    assert (back.text and back.text.serialized) == (run.text and run.text.serialized)


@pytest.mark.parametrize("key_list", BEIT3)
def test_every_beit3_comes_back_bit_for_bit(key_list: str, tmp_path: Path, text: bytes) -> None:
    run = loaded(key_list, tmp_path, text)
    folder = save_pretrained(run, tmp_path / "deep" / "saved")
    back = load_model(folder)
    assert_same(back, run)
    assert torch.equal(answer(back), answer(run))
    assert_same(load_model(save_pretrained(back, tmp_path / "again")), back)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "config.yaml", "model.safetensors", "README.md",
        *(["text.spm"] if run.text else []),
        *(["answers.txt"] if run.kind == "vqa" else []),
        *(["classes.txt"] if run.kind == "image_classification" else []),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["captioning", "contrastive"])
def test_a_run_answers_the_same_from_where_it_was_saved(kind: str, tmp_path: Path) -> None:
    run = load_model(write_run(tmp_path / "run", kind))
    folder = save_pretrained(run, tmp_path / "saved")
    assert_same(load_model(folder), run)
    here, there = Predictor(folder), Predictor(tmp_path / "run")
    if kind == "captioning":
        assert here.caption(pixels(20, 20)) == there.caption(pixels(20, 20))
    else:
        assert here.match(pixels(20, 20), "a red star") == there.match(pixels(20, 20), "a red star")


def test_class_names_are_kept_with_the_dual_encoder_they_trained(tmp_path: Path, text: bytes) -> None:
    run = loaded(RETRIEVAL, tmp_path, text)
    named = replace(run, kind="class_names", labels=("a dog", "hôtel"), settings=dict(run.settings))
    assert_same(load_model(save_pretrained(named, tmp_path / "saved")), named)
    lines = replace(named, labels=("a\ndog", "hôtel"))  # a list of lines cannot hold it
    message = refusal(lambda: save_pretrained(lines, tmp_path / "lines"))
    assert "would load with other labels, so nothing was saved" in message


def test_the_same_picture_size_and_heads_come_back(tmp_path: Path) -> None:
    run = load_model(WORLD / "encoder")  # four heads of 32 features, which the width does not tell
    wide = load_model(WORLD / "encoder", (96, 64))
    for number, each in enumerate((run, wide)):
        back = load_model(save_pretrained(each, tmp_path / str(number)))
        assert_same(back, each)
    assert load_model(tmp_path / "1").config.image_size == (96, 64)


def test_half_precision_is_kept_in_the_file_and_loads_as_ever(tmp_path: Path, text: bytes) -> None:
    run = loaded(RETRIEVAL, tmp_path, text)
    save_pretrained(run, tmp_path / "whole")
    half = replace(run, model=run.model.half())
    folder = save_pretrained(half, tmp_path / "half")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    weights = load_model(folder).model.state_dict()
    assert all(torch.equal(w, half.model.state_dict()[name].float()) for name, w in weights.items())


# segmenters and detectors: tests/hub/test_pretrained_dense.py


# The card


def test_the_card_of_a_run_tells_its_settings_and_scores(tmp_path: Path) -> None:
    source = write_run(tmp_path / "my_run", "captioning")
    settings = yaml.safe_load((source / "config.yaml").read_text())
    settings |= {"optimizer": {"lr": 0.25}, "train": {"num_steps": 7}, "init": ""}
    (source / "config.yaml").write_text(yaml.safe_dump(settings))
    (source / "scores.json").write_text('{"caption/cider": 0.5}')
    run, facts = load_model(source), replace(facts_of(source), licence="MIT")
    card = (save_pretrained(run, tmp_path / "saved", facts=facts) / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "mit" and front["pipeline_tag"] == "image-to-text"
    assert front["library_name"] == "imglish"
    numbers = sum(parameter.numel() for parameter in run.model.parameters())
    for words in (
        "# my_run", "Task: `captioning`", "Licence: MIT", "| caption/cider | 0.5 |", "lr: 0.25",
        "num_steps: 7",
        f"Parameters: {numbers / 1e6:.2f} million", "predictor.caption(", "AutoModel.from_pretrained",
    ):  # fmt: skip
        assert words in card


def test_the_card_of_an_official_file_has_its_published_scores_and_no_invented_licence() -> None:
    facts = facts_of("beit3_base_patch16_480_vqa")
    assert facts.name == "beit3_base_patch16_480_vqa" and facts.scores and "released at" in facts.source
    assert facts.licence == ""  # no document tells one


def test_what_nobody_knows_is_said_to_be_unknown(tmp_path: Path, text: bytes) -> None:
    folder = save_pretrained(loaded(VQA, tmp_path, text), tmp_path / "saved")
    card = (folder / "README.md").read_text()
    assert "Licence: not told" in card and "None are known." in card and "license" not in card
    other = save_pretrained(
        loaded(VQA, tmp_path, text), tmp_path / "other", facts=CardFacts(licence="Weights licence 3")
    )
    front = yaml.safe_load((other / "README.md").read_text().split("---")[1])
    assert front["license"] == "other" and front["license_name"] == "Weights licence 3"


def test_only_an_address_is_told_of_files_of_ones_own(tmp_path: Path) -> None:
    assert facts_of("https://example.org/weights.pth").source == "https://example.org/weights.pth"
    assert facts_of(tmp_path / "secret" / "weights.pth") == CardFacts(name="weights.pth")


def test_the_card_of_a_joint_run_names_its_parts_and_no_class_of_transformers() -> None:
    card = write_card(load_model("world"), CardFacts())
    assert "- Parts: vqa (`vqa`), captioning (`captioning`), " in card and "segmentation (`semantic_" in card
    assert "transformers" not in card and "predictor.abilities()" in card


def test_sizes_and_labels_are_counted(tmp_path: Path, text: bytes) -> None:
    run = loaded(CLASSIFICATION, tmp_path, text)
    large = nn.Linear(999, 1500)  # 1.5 million, with the biases
    wide = replace(
        run, model=large, config=replace(run.config, image_size=(16, 32)), labels=tuple(map(str, range(25)))
    )
    card = write_card(wide, CardFacts())
    assert "- Parameters: 1.50 million" in card and "- Pictures: 16 x 32 pixels" in card
    assert "- 25 labels: 0, 1, " in card and ", 18, 19 and 5 more\n" in card


def test_damaged_scores_are_one_line(tmp_path: Path) -> None:
    source = write_run(tmp_path / "run", "captioning")
    (source / "scores.json").write_text("{")
    assert "scores.json: damaged" in refusal(lambda: facts_of(source))


# What fails


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path: Path, text: bytes) -> None:
    run = loaded(VQA, tmp_path, text)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    message = refusal(lambda: save_pretrained(run, tmp_path / "there"))
    assert "is not empty; choose another folder" in message
    save_pretrained(run, tmp_path / "there", overwrite=True)
    assert (tmp_path / "there" / "notes.txt").read_text() == "mine"
    assert_same(load_model(tmp_path / "there"), run)
    message = refusal(lambda: save_pretrained(run, tmp_path / "there" / "notes.txt"))
    assert "is a file; expected a folder" in message
    message = refusal(lambda: save_pretrained(run, Path("/proc/none/such")))
    assert "cannot be written" in message


def test_models_that_no_run_has_are_refused(tmp_path: Path) -> None:
    tokenizer = load_model(saved(shrunk(TOKENIZER), tmp_path / "file.pth"))
    message = refusal(lambda: save_pretrained(tokenizer, tmp_path / "saved"))
    assert message.startswith(f"a {KINDS[TOKENIZER]} model (Vqkd), which no run has")
    assert "imglish convert --to imglish" in message and not (tmp_path / "saved").exists()


def test_nothing_is_left_where_it_would_not_load_the_same(tmp_path: Path, text: bytes) -> None:
    run = loaded(VQA, tmp_path, text)
    wrong = replace(run, config=replace(run.config, depth=1))
    message = refusal(lambda: save_pretrained(wrong, tmp_path / "a"))
    assert "would not load again, so nothing was saved" in message and not list((tmp_path / "a").iterdir())
    assert isinstance(run.model, nn.Module)
    with torch.no_grad():
        next(run.model.parameters())[0] = torch.nan  # equals nothing, not even itself
    message = refusal(lambda: save_pretrained(run, tmp_path / "nan"))
    assert "would load with other weights, so nothing was saved" in message
    assert not list((tmp_path / "nan").iterdir())
    short = replace(run, labels=run.labels[:-1])
    with pytest.raises(CheckpointError, match="names 6 labels, the head tells 7"):
        save_pretrained(short, tmp_path / "b")
    lines = replace(run, kind="image_classification", labels=("one\ntwo",))
    assert "KeyError" not in refusal(
        lambda: save_pretrained(replace(lines, kind="detection"), tmp_path / "c")
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "format_version 2, this imglish reads 1; install the version that wrote it"),
        ({"kind": "novel"}, "kind 'novel'; expected one of masked_data_modeling, vqa"),
        ({"pictures": "bgr"}, "pictures 'bgr'; expected model or imagenet"),
        ({"sizes": {"widht": 3}}, "unknown sizes widht"),
        ({"sizes": {"width": 30, "num_heads": 4}}, "sizes of no model (width 30 is not divisible"),
        ({"labels": ("a",), "num_outputs": 2}, "names 1 labels, the head tells 2"),
    ],
)
def test_a_config_of_no_model_is_refused(change: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"kind": "vqa", "sizes": {}, "settings": {}} | change
    assert words in refusal(lambda: TransformersConfig(**settings))


def test_config_json_is_plain_json(tmp_path: Path, text: bytes) -> None:
    folder = save_pretrained(loaded(CLASSIFICATION, tmp_path, text), tmp_path / "saved")
    told = json.loads((folder / "config.json").read_text())
    assert told["model_type"] == "imglish-beit3" and told["format_version"] == 1
    assert told["pictures"] == "imagenet" and told["num_outputs"] == len(told["labels"]) == 5
