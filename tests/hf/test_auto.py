"""transformers' Auto classes load a saved folder, and what they give equals imglish's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from imglish.errors import CheckpointError, ConfigError
from imglish.hf.auto import register
from imglish.hub.load import load_model
from imglish.hub.pretrained import save_pretrained
from imglish.hub.run import LoadedRun
from imglish.inference.predictor import Predictor
from imglish.text.tokenizer import EOS, PAD
from tests.inference.tiny_weights import FILES, TEXTS, pixels, write_files, write_run

transformers = pytest.importorskip("transformers")

QUESTIONS = ["a red star", "what colour is the star?"]  # of unlike length, so that one is padded


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved folder of each kind."""
    register()
    register()  # twice does no harm
    base = write_files(tmp_path_factory.mktemp("files"))
    return {kind: save_pretrained(load_model(base / f"{kind}.pth"), base / "saved" / kind) for kind in FILES}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def auto(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModel.from_pretrained(folder)
    return model, transformers.AutoProcessor.from_pretrained(folder)


@torch.no_grad()
def expected(run: LoadedRun, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What imglish's own model says; its padding is True where the mask of transformers is 0."""
    model: Any = run.model
    images, ids = batch["pixel_values"], batch.get("input_ids")
    padding = None if ids is None else ids == PAD
    match run.kind:
        case "image_classification":
            return {"logits": model(images)}
        case "nlvr2":
            return {"logits": model(images[:, 0], images[:, 1], ids, padding)}
        case "vqa":
            return {"logits": model(images, ids, padding)}
        case "retrieval":
            vision, text, scale = model(images, ids, padding)
            cosines = scale * vision @ text.T
            return {
                "image_embeds": vision, "text_embeds": text,
                "logits_per_image": cosines, "logits_per_text": cosines.T,
            }  # fmt: skip
        case "captioning":
            assert ids is not None
            words = model(images, ids, padding, torch.ones_like(ids, dtype=torch.bool))
            return {"logits": words.view(*ids.shape, -1)}
        case _:
            return {"last_hidden_state": model.encoder(images, ids, padding=padding).tokens}


def batch_of(processor: Any, kind: str) -> Any:
    pictures: list[Any] = [pixels(20, 30, seed) for seed in (0, 1)]
    if kind == "nlvr2":
        pictures = [(pictures[0], pictures[1]), (pictures[1], pictures[0])]
    text = None if kind == "image_classification" else QUESTIONS
    return processor(images=pictures, text=text)


@torch.no_grad()
@pytest.mark.parametrize("kind", FILES)
def test_auto_model_says_what_load_model_says(kind: str, folders: dict[str, Path]) -> None:
    model, processor = auto(folders[kind])
    run = load_model(folders[kind])
    batch = batch_of(processor, kind)
    said, wanted = model(**batch), expected(run, dict(batch))
    assert set(said.keys()) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(said[name], tensor)  # the same operations on the same machine
    assert all(
        torch.equal(a, b) for a, b in zip(model(**batch, return_dict=False), said.to_tuple(), strict=True)
    )
    assert not model.training and model.config.kind == kind


@torch.no_grad()
def test_one_in_the_attention_mask_keeps_a_word(folders: dict[str, Path]) -> None:
    model, processor = auto(folders["vqa"])
    batch = batch_of(processor, "vqa")
    mask, ids = batch["attention_mask"], batch["input_ids"]
    assert mask.dtype == torch.int64 and mask[1].all() and 0 < mask[0].sum() < mask.shape[1]
    assert torch.equal(mask == 0, ids == PAD)
    alone = processor(images=pixels(20, 30, 0), text=QUESTIONS[0])
    assert alone["input_ids"].shape[1] < ids.shape[1] and alone["attention_mask"].all()
    # A padded word is not looked at: the same answer as without it, but for the order of sums.
    torch.testing.assert_close(model(**alone).logits, model(**batch).logits[:1], atol=1e-5, rtol=1e-5)
    turned = model(batch["pixel_values"], ids, 1 - mask).logits
    assert (turned - model(**batch).logits).abs().max() > 1e-2
    unmasked = model(alone["pixel_values"], alone["input_ids"]).logits
    torch.testing.assert_close(unmasked, model(**alone).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pictures_are_prepared_as_the_predictor_does(folders: dict[str, Path]) -> None:
    model, processor = auto(folders["image_classification"])
    pictures = [pixels(20, 40), pixels(40, 20)]  # in ImageNet's range, cut out of the middle
    said = model(**processor(images=pictures)).logits.softmax(dim=1)
    predictor = Predictor(folders["image_classification"])
    for row, labels in zip(said, predictor.classify(pictures), strict=True):
        wanted = {label.name: label.probability for label in labels}
        found = dict(zip(model.config.id2label.values(), row.tolist(), strict=True))
        assert found == pytest.approx(wanted, abs=1e-5)  # float32, batched in another way
    assert (said[0] - said[1]).abs().max() > 1e-2


def test_texts_are_cut_and_ended_as_in_training(folders: dict[str, Path]) -> None:
    run = load_model(folders["retrieval"])
    _, processor = auto(folders["retrieval"])
    texts = [*TEXTS, "a star " * 40]
    rows = processor(text=texts)["input_ids"]
    assert run.text is not None and rows.shape[1] == run.settings["max_text_tokens"]
    for row, text in zip(rows, texts, strict=True):
        assert row[row != PAD].tolist() == run.text.encode_for_model(text, rows.shape[1])


def test_captions_are_those_of_the_predictor(tmp_path: Path) -> None:
    register()
    run = load_model(write_run(tmp_path / "run", "captioning"))
    folder = save_pretrained(run, tmp_path / "saved")
    model, processor = auto(folder)
    pictures = [pixels(20, 20, seed) for seed in range(3)]
    ids = model.generate(processor(images=pictures)["pixel_values"])
    assert ids.dtype == torch.int64 and (ids[:, 0] == 0).all() and ((ids == EOS).sum(dim=1) == 1).all()
    assert processor.batch_decode(ids) == Predictor(run).caption(pictures)
    greedy = model.generate(processor(images=pictures)["pixel_values"], num_beams=1, max_length=5)
    assert greedy.shape[1] <= 5
    for asked in ({"num_beams": 1}, {"length_penalty": 3.0}):
        settings = {**run.settings, **asked}
        told = Predictor(replace(run, settings=settings)).caption(pictures)
        changed = model.generate(processor(images=pictures)["pixel_values"], **asked)
        assert processor.batch_decode(changed) == told
    short = model.generate(processor(images=pictures[:1])["pixel_values"], max_length=4)
    rows = model.generate(processor(images=pictures)["pixel_values"])
    for row in rows:  # after a text's end there is nothing but padding
        assert (row[row.tolist().index(EOS) + 1 :] == PAD).all()
    assert short.shape[1] <= 4


@pytest.mark.parametrize("kind", FILES)
def test_what_transformers_saves_comes_back_there_and_here(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model, processor = auto(folders[kind])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, other = auto(tmp_path)
    batch = batch_of(processor, kind)
    with torch.no_grad():
        for a, b in zip(again(**batch).to_tuple(), model(**batch).to_tuple(), strict=True):
            assert torch.equal(a, b)
    assert (other.text and other.text.serialized) == (processor.text and processor.text.serialized)
    run, first = load_model(tmp_path), load_model(folders[kind])
    assert (run.kind, run.config, run.labels) == (first.kind, first.config, first.labels)
    assert run.settings == first.settings
    weights = first.model.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in run.model.state_dict().items())


def test_labels_are_where_transformers_looks(folders: dict[str, Path]) -> None:
    config = transformers.AutoConfig.from_pretrained(folders["image_classification"])
    labels = load_model(folders["image_classification"]).labels
    assert tuple(config.id2label.values()) == labels and config.num_labels == len(labels)
    assert config.label2id == {label: number for number, label in enumerate(labels)}
    assert config.hidden_size == 64 and config.num_hidden_layers == 2
    sizes = {"width": 8, "depth": 3, "num_heads": 4, "vocab_size": 90}
    other = type(config)(sizes={**config.sizes, **sizes})
    assert (other.hidden_size, other.num_hidden_layers) == (8, 3)
    assert (other.num_attention_heads, other.vocab_size) == (4, 90)


def test_what_was_found_while_loading_is_told_where_it_is_asked(folders: dict[str, Path]) -> None:
    register()
    model, told = transformers.AutoModel.from_pretrained(folders["vqa"], output_loading_info=True)
    assert model.config.kind == "vqa" and not told["missing_keys"]


def test_only_the_main_process_writes_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    model, _ = auto(folders["vqa"])
    model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other" / "config.yaml").exists()


def test_a_model_is_trained_there_and_used_here(folders: dict[str, Path], tmp_path: Path) -> None:
    model, processor = auto(folders["vqa"])
    model.train()
    before = model.body.head.output.weight.detach().clone()
    loss = model(**batch_of(processor, "vqa")).logits.square().sum()
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    state = load_model(tmp_path).model.state_dict()
    assert not torch.equal(state["head.output.weight"], before)
    assert torch.equal(state["head.output.weight"], model.body.head.output.weight.detach())


# What fails


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(change: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    shutil.copytree(folders["vqa"], folder)
    weights = load_file(folder / "model.safetensors")
    if change == "missing":
        del weights["head.norm.bias"]
    else:
        weights["head.novel" if change == "extra" else "head.norm.bias"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        (CheckpointError, RuntimeError), match=r"weights of another model|size mismatch|ismatch"
    ):
        transformers.AutoModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"novel": 3}, "unknown settings novel"),
        ({"format_version": 9}, "format_version 9, this imglish reads 1"),
        ({"kind": "novel"}, "kind 'novel'"),
    ],
)
def test_a_config_of_something_else_is_refused(
    change: dict[str, Any], words: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    told = json.loads((folders["vqa"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | change))
    with pytest.raises(CheckpointError, match=words):
        transformers.AutoConfig.from_pretrained(tmp_path)


def test_what_a_kind_needs_and_does_not_do_is_said(folders: dict[str, Path], tmp_path: Path) -> None:
    model, processor = auto(folders["vqa"])
    with pytest.raises(ValueError, match="a vqa model needs pixel_values"):
        model(input_ids=torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="a vqa model needs input_ids"):
        model(pixel_values=torch.zeros(1, 3, 16, 16))
    with pytest.raises(ConfigError, match="a vqa model writes no captions"):
        model.generate(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ConfigError, match="push the model's folder as a whole"):
        processor.save_pretrained(tmp_path / "pushed", push_to_hub=True)
    with pytest.raises(ConfigError, match="nothing to prepare"):
        processor()
    with pytest.raises(ConfigError, match="expected 'pt'"):
        processor(text="a", return_tensors="np")
    shutil.copytree(folders["vqa"], tmp_path / "silent")
    (tmp_path / "silent" / "text.spm").unlink()
    _, silent = auto(tmp_path / "silent")
    with pytest.raises(ConfigError, match="came without text.spm"):
        silent(text="a red star")
    with pytest.raises(ConfigError, match="unknown options colour"):
        transformers.AutoProcessor.from_pretrained(folders["vqa"], colour="red")


def test_pictures_that_are_seen_alone_stay_so(tmp_path: Path) -> None:
    register()
    run = load_model(write_run(tmp_path / "run", "captioning"))
    alone = replace(run, settings={**run.settings, "picture_alone": True})
    model, _ = auto(save_pretrained(alone, tmp_path / "saved"))
    assert model.config.picture_alone and model.body.picture_alone
