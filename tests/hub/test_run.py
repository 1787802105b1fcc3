"""Run folders load for use, and what does not belong together is refused in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from imglish.errors import DataFormatError
from imglish.hub.convert import to_imglish
from imglish.hub.load import load_model, read_weights
from imglish.hub.state_file import write_state
from imglish.models.beit3.config import Beit3Config
from imglish.text.tokenizer import TextTokenizer
from tests.hub.answers import answer
from tests.hub.official_files import (
    CAPTIONING,
    CLASSIFICATION,
    NLVR2,
    NUM_ANSWERS,
    NUM_CLASSES,
    NUM_TEXT_POSITIONS,
    PRETRAINING,
    RETRIEVAL,
    VQA,
    saved,
    shrunk,
)
from tests.hub.refusals import refusal

WORLD = Path(str(resources.files("imglish.hub") / "world"))
CAPTION_SETTINGS = {"max_text_tokens": 64, "num_beams": 3, "length_penalty": 0.6}


def test_the_world_model_is_loaded_by_name_at_its_size_and_at_another() -> None:
    run = load_model("world_encoder")
    assert run.kind == "masked_data_modeling" and run.text is not None
    wide = load_model("world_encoder", (96, 64))
    assert wide.config.image_size == (96, 64) and answer(wide).shape == answer(run).shape
    assert "is not divisible by patch_size" in refusal(lambda: load_model("world_encoder", 50))


def test_the_world_model_has_every_head_on_one_encoder() -> None:
    run = load_model("world")
    assert run.kind == "joint" and set(run.parts) == {
        "vqa", "captioning", "retrieval", "image_classification", "segmentation", "detection"
    }  # fmt: skip
    for part in run.parts.values():
        assert part.is_part and part.text is not None and not part.model.training
    assert "leave image_size out" in refusal(lambda: load_model("world", 128))


def test_the_weights_file_of_a_run_stands_for_its_folder_and_is_recognised_without_it(tmp_path: Path) -> None:
    whole = load_model(WORLD / "encoder" / "model.safetensors")
    assert whole.text is not None
    assert isinstance(whole.config, Beit3Config)
    shutil.copy(WORLD / "encoder" / "model.safetensors", tmp_path / "bare.safetensors")
    bare = load_model(tmp_path / "bare.safetensors", num_heads=whole.config.num_heads)
    assert bare.kind == whole.kind and bare.text is None
    torch.testing.assert_close(answer(bare), answer(whole))


@pytest.mark.parametrize("key_list", [PRETRAINING, RETRIEVAL, VQA, NLVR2, CLASSIFICATION, CAPTIONING])
def test_a_run_of_every_task_is_loaded(key_list: str, tmp_path: Path) -> None:
    weights = to_imglish(shrunk(key_list), where="file")
    save_file(weights.state, tmp_path / "model.safetensors")
    model = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(weights.config).items()}
    task = {"kind": weights.kind, "model": model | {"output_norm": True}, "batch_size": 3} | CAPTION_SETTINGS
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"name": "a_run", "task": task}))
    (tmp_path / "classes.txt").write_text("\n".join("abcde"))
    answers = [json.dumps({"answer": f"word {n}"}) for n in range(NUM_ANSWERS)]
    (tmp_path / "answers.txt").write_text("\n".join(answers))
    run = load_model(tmp_path)
    labels = {"nlvr2": 2, "image_classification": NUM_CLASSES, "vqa": NUM_ANSWERS}
    assert run.kind == weights.kind and len(run.labels) == labels.get(weights.kind, 0)
    assert run.settings["batch_size"] == 3
    assert run.settings["max_text_tokens"] == NUM_TEXT_POSITIONS  # more the model has no place for
    expected = load_model(saved(shrunk(key_list), tmp_path / "file.pth"))
    torch.testing.assert_close(answer(run), answer(expected))
    assert load_model(tmp_path, 32).config.image_size == (32, 32)


def test_weights_of_a_run_are_read_with_the_heads_of_its_settings(tmp_path: Path) -> None:
    weights = read_weights(WORLD / "encoder" / "model.safetensors")
    expected = load_model("world").config
    assert isinstance(expected, Beit3Config) and expected.num_heads == 4
    assert weights.config == replace(expected, init=weights.config.init)  # type: ignore[union-attr]
    alone = read_weights(WORLD / "encoder" / "model.safetensors", backbone=True)
    assert alone.kind == "backbone" and alone.config == weights.config
    write_state(alone.state, alone.hints(), tmp_path / "encoder.safetensors")
    assert answer(load_model(tmp_path / "encoder.safetensors")).shape[-1] == expected.width


def changed_run(folder: Path, **task: Any) -> Path:
    """The World's run with other settings of its task."""
    shutil.copytree(WORLD / "encoder", folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    model = config["task"]["model"] | task.pop("model", {})
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": config["task"] | {"model": model} | task}))
    return folder


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"model": {"width": 64}}, r"class_token has shape (1, 1, 128), the model expects (1, 1, 64)"),
        ({"model": {"depth": 10**9}}, "task.model.depth is 1000000000, model.safetensors holds 4 blocks"),
        ({"model": {"vocab_size": 10**15}}, "the model expects (1000000000000000, 128)"),
        ({"model": {"width": -4}}, "config.yaml: settings of no model"),
        ({"model": {"width": "wide"}}, "config.yaml: settings of no model"),
        ({"model": {"num_heads": 3}}, "settings of no model (width 128 is not divisible by num_heads 3)"),
        ({"model": {"image_size": 64}}, "config.yaml: settings of no model"),
        ({"model": {"image_size": [64]}}, "config.yaml: settings of no model"),
        ({"model": {"novel": 3}}, "task.model has unknown settings novel; expected the settings of a BEiT-3"),
        ({"kind": "novel"}, "is a run of novel, which answers nothing by itself; give one of vqa, nlvr2"),
        ({"kind": "captioning"}, "config.yaml: task has no num_beams, length_penalty; train the run anew"),
        ({"kind": "vqa"}, "answers.txt: no such file"),
        ({"kind": "retrieval", "max_text_tokens": "x"}, "task tells no number as max_text_tokens"),
        ({"kind": "retrieval"}, "checkpoint of another architecture: missing logit_scale"),
        ({"kind": "semantic_segmentation"}, "classes.txt: no such file"),
    ],
)
def test_settings_of_another_model_are_one_line(task: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = changed_run(tmp_path / "run", **task)
    message = refusal(lambda: load_model(folder))
    assert message.startswith(str(folder)) and words in message


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_every_tensor_of_a_run_is_needed_and_no_other(change: str, tmp_path: Path) -> None:
    shutil.copytree(WORLD / "encoder", tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    weights, name = load_file(path), "encoder.blocks.1.attention.key.shared.bias"
    whole = dict(weights)
    match change:
        case "missing":
            del weights[name]
        case "extra":
            weights["encoder.novel"] = torch.zeros(1)
        case "shape":
            weights[name] = torch.zeros(3)
    save_file(weights, path)
    words = {
        "missing": f"missing {name}",
        "extra": "unexpected encoder.novel",
        "shape": f"{name} has shape (3,)",
    }
    assert words[change] in refusal(lambda: load_model(tmp_path / "run"))
    save_file({key: w for key, w in whole.items() if key != "image_head.bias"}, path)
    assert "missing image_head.bias" in refusal(lambda: load_model(tmp_path / "run"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "text.spm: empty file; expected a SentencePiece model"),
        (b"<!DOCTYPE html><html>", "text.spm: not a SentencePiece model, or damaged"),
        (bytes(range(256)), "text.spm: not a SentencePiece model, or damaged"),
    ],
)
def test_a_text_tokenizer_that_is_none_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    shutil.copytree(WORLD / "encoder", tmp_path / "run")
    (tmp_path / "run" / "text.spm").write_bytes(content)
    torch.save(shrunk(CAPTIONING), tmp_path / "run" / "file.pth")
    for source in (tmp_path / "run", tmp_path / "run" / "file.pth"):
        with pytest.raises(DataFormatError) as caught:
            load_model(source)
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_tokenizer_of_another_run_and_lists_of_another_length_are_refused(tmp_path: Path) -> None:
    run = changed_run(tmp_path / "run", model={"vocab_size": 100})
    weights = load_file(run / "model.safetensors")
    for name, tensor in weights.items():
        if tensor.shape[:1] == (256,):
            weights[name] = tensor[:100].clone()
    save_file(weights, run / "model.safetensors")
    ids = TextTokenizer(run / "text.spm").vocab_size
    assert ids > 100
    assert f"text.spm: has {ids} ids, the model embeds 100" in refusal(lambda: load_model(run))
    small = to_imglish(shrunk(CLASSIFICATION), where="file")
    save_file(small.state, run / "model.safetensors")
    model = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(small.config).items()}
    task = {"kind": "image_classification", "model": model}
    (run / "config.yaml").write_text(yaml.safe_dump({"task": task}))
    (run / "text.spm").unlink()
    (run / "classes.txt").write_text("a\nb")
    assert "classes.txt: names 2 labels, model.safetensors tells 5 apart" in refusal(lambda: load_model(run))
    (run / "classes.txt").write_bytes(b"\xff\xfe")
    assert "classes.txt: damaged list of labels (UnicodeDecodeError); expected one class a line" in refusal(
        lambda: load_model(run)
    )


def test_a_damaged_run_is_one_line(tmp_path: Path) -> None:
    assert "holds no finished run" in refusal(lambda: load_model(tmp_path))
    shutil.copytree(WORLD / "encoder", tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"x" * 100)
    assert "is damaged" in refusal(lambda: load_model(tmp_path / "run"))
    (tmp_path / "run" / "config.yaml").write_text("task: [")
    assert "config.yaml: damaged" in refusal(lambda: load_model(tmp_path / "run"))
