"""A run folder that is none, unfinished, damaged or of another model is refused with what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imglish.errors import CheckpointError, ConfigError, DataFormatError
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval
from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.config import ContrastiveTask, RunConfig
from imglish.recipes.initial import load_encoder
from imglish.recipes.run_folder import EMBEDDED, RunFolder, find_run

TINY = Beit3Config(
    image_size=(16, 16),
    patch_size=8,
    vocab_size=32,
    max_text_tokens=16,
    width=8,
    depth=1,
    num_heads=2,
    feed_forward_width=8,
)


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.write_config(RunConfig(name="tiny", task=ContrastiveTask(model=TINY)))
    folder.save_weights(Beit3ForRetrieval(TINY).state_dict())
    return folder


def test_a_finished_run_gives_back_its_config_and_weights(finished: RunFolder) -> None:
    assert finished.config() == RunConfig(name="tiny", task=ContrastiveTask(model=TINY))
    model = Beit3ForRetrieval(TINY)
    assert load_encoder(model, str(finished.path)) == []
    torch.testing.assert_close(model.state_dict(), finished.weights())


def test_heads_that_the_weights_do_not_have_start_anew(finished: RunFolder) -> None:
    fresh = load_encoder(Beit3ForCaptioning(TINY), str(finished.path))
    assert fresh and not any(name.startswith("encoder.blocks") for name in fresh)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"name: \xff\n", r"config\.yaml: not UTF-8 text \(.*expected the settings of a run"),
        (b"name: [tiny\n", r"config\.yaml: not readable as YAML: [^\n]*$"),
        (b"name: tiny\n", r"config\.yaml: task is missing"),
        (
            b"name: tiny\ntask: {kind: contrastiv}\n",
            r"task\.kind is 'contrastiv'.*did you mean 'contrastive'",
        ),
        (b"name: tiny\ntask: {kind: contrastive, batchsize: 2}\n", r"did you mean task\.batch_size\?"),
        (b"", r"config\.yaml: name is missing"),
    ],
)
def test_a_damaged_config_is_refused_by_name(finished: RunFolder, damage: bytes, message: str) -> None:
    finished.config_path.write_bytes(damage)
    with pytest.raises(ConfigError, match=message):
        finished.config()


def test_a_folder_without_a_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"is no run folder: it has no config\.yaml; train the recipe first"
    ):
        RunFolder(tmp_path).config()


@pytest.mark.parametrize("inside", ["", "run"])
def test_a_run_is_not_written_over_or_into_a_file(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt.*is or lies in a file; expected a folder for the run"):
        RunFolder(path / inside).write_config(RunConfig(name="tiny", task=ContrastiveTask()))
    assert path.read_text() == "mine"


def test_weights_that_are_missing_cut_short_or_none_are_refused(finished: RunFolder) -> None:
    whole = finished.weights_path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b"", b"not weights at all"):
        finished.weights_path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors: missing or damaged [^\n]*$"):
            finished.weights()
    finished.weights_path.unlink()
    with pytest.raises(CheckpointError, match=r"the run is not finished; go on with --resume"):
        finished.weights()


def test_weights_of_another_architecture_are_refused_with_both_shapes(finished: RunFolder) -> None:
    wider = Beit3ForRetrieval(replace(TINY, width=16))
    with pytest.raises(
        CheckpointError, match=r"is \(1, 1, 8\), the model expects \(1, 1, 16\); use the model"
    ):
        load_encoder(wider, str(finished.path))
    with pytest.raises(CheckpointError, match=r"blocks\.1\..* is missing, the model expects"):
        load_encoder(Beit3ForRetrieval(replace(TINY, depth=2)), str(finished.path))


def test_a_model_without_an_encoder_takes_no_weights(finished: RunFolder) -> None:
    encoder = ViTConfig(image_size=(16, 16), patch_size=8, width=8, depth=1, num_heads=2)
    model = Vqkd(VqkdConfig(encoder=encoder, decoder_width=8, decoder_depth=1, decoder_heads=2))
    with pytest.raises(CheckpointError, match="a Vqkd has no BEiT-3 encoder"):
        load_encoder(model, str(finished.path))


def test_a_missing_and_a_damaged_text_tokenizer_are_told_apart(finished: RunFolder) -> None:
    with pytest.raises(CheckpointError, match=r"run has no text\.spm: it is no run that reads text"):
        finished.text_tokenizer()
    finished.text_path.write_bytes(b"\x00\x01 no model")
    with pytest.raises(DataFormatError, match=r"text\.spm: not a SentencePiece model, or damaged"):
        finished.text_tokenizer()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"^'nowhere': no such folder; expected that of a finished run, or 'world'[^;]*$"),
        ("wrold", r"^'wrold': no such folder.*; did you mean 'world'\?$"),
        ("", r"^'': no such folder"),
    ],
)
def test_a_run_that_is_not_there_is_refused_by_its_name(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        find_run(name)


def test_the_embedded_weights_and_a_folder_are_found(tmp_path: Path) -> None:
    assert find_run(EMBEDDED, "encoder").config_path.is_file()
    assert find_run(str(tmp_path)) == RunFolder(tmp_path)
