"""`load_model` takes names, files of every layout and run folders, and refuses the rest in one line."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from imglish.hub import load
from imglish.hub.convert import to_imglish, to_timm_vision
from imglish.hub.download import cached_path
from imglish.hub.load import list_models, load_model, read_weights
from imglish.hub.manifest import OFFICIAL_FILES
from imglish.hub.manifest_beit3 import TEXT_TOKENIZER
from imglish.hub.official_file import OfficialFile
from imglish.hub.state_file import write_state
from imglish.hub.weights import fill
from imglish.models.beit3.config import Beit3Config
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from tests.hub.answers import answer
from tests.hub.official_files import (
    BEIT_FINE_TUNED,
    BEIT_PRETRAINED,
    CAPTIONING,
    CLASSIFICATION,
    GRID,
    KINDS,
    NLVR2,
    NUM_ANSWERS,
    NUM_CLASSES,
    NUM_TEXT_POSITIONS,
    NUM_WORDS,
    PATCH,
    RETRIEVAL,
    TOKENIZER,
    VQA,
    same,
    saved,
    shrunk,
)
from tests.hub.refusals import refusal
from tests.hub.server import Site, serve

SIZE = (GRID * PATCH, GRID * PATCH)
WORLD = Path(str(resources.files("imglish.hub") / "world"))
WORLD_WORDS = 512  # ids of the World's text tokenizer


@pytest.mark.parametrize("key_list", KINDS)
def test_a_bare_official_file_is_recognised_and_answers(key_list: str, tmp_path: Path) -> None:
    run = load_model(saved(shrunk(key_list), tmp_path / "some.pth"))
    assert run.kind == KINDS[key_list] and not run.model.training
    assert run.config.image_size == SIZE
    assert {tensor.dtype for tensor in run.model.parameters()} == {torch.float32}
    answer(run)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=1.0)},
        lambda state: {"state_dict": state, "meta": {"a": 1}},
        lambda state: {"module": state, "lr_schedulers": [], "mp_world_size": 1},
        lambda state: {"state_dict": {"model": state}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {name: nn.Parameter(tensor) for name, tensor in state.items()},
        lambda state: {name: tensor.half() for name, tensor in state.items()},
    ],
    ids=["model", "state_dict", "module", "two deep", "data parallel", "parameters", "half"],
)
def test_a_wrapped_file_gives_the_same_answer(
    wrap: Callable[[dict[str, Tensor]], Any], tmp_path: Path
) -> None:
    state = {name: tensor.half().float() for name, tensor in shrunk(RETRIEVAL).items()}
    expected = answer(load_model(saved(state, tmp_path / "bare.pth")))
    wrapped = load_model(saved(wrap(state), tmp_path / "wrapped.pth"))
    assert torch.equal(answer(wrapped), expected)
    assert not any(p.dtype == torch.float16 for p in wrapped.model.parameters())


@pytest.mark.parametrize("old_format", [True, False])
def test_both_formats_of_torch_save_are_read(old_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(shrunk(CLASSIFICATION), path, _use_new_zipfile_serialization=not old_format)
    assert load_model(path).kind == "image_classification"


@pytest.mark.parametrize("key_list", KINDS)
def test_every_layout_of_safetensors_gives_the_same_answer(key_list: str, tmp_path: Path) -> None:
    official = shrunk(key_list)
    weights = to_imglish(official, where="file")
    save_file(official, tmp_path / "official.safetensors")
    write_state(weights.state, weights.hints(), tmp_path / "ours.safetensors")
    expected = answer(load_model(tmp_path / "official.safetensors"))
    assert torch.equal(answer(load_model(tmp_path / "ours.safetensors")), expected)


@torch.no_grad()
def test_timms_vision_side_gives_the_same_classes(tmp_path: Path) -> None:
    weights = to_imglish(shrunk(CLASSIFICATION), where="file")
    write_state(to_timm_vision(weights), weights.hints(), tmp_path / "timm.safetensors")
    run = load_model(tmp_path / "timm.safetensors")
    official = load_model(saved(shrunk(CLASSIFICATION), tmp_path / "file.pth"))
    torch.testing.assert_close(answer(run), answer(official))


@pytest.mark.parametrize("image_size", [32, (24, 40)])
def test_a_file_is_loaded_at_another_size(image_size: int | tuple[int, int], tmp_path: Path) -> None:
    run = load_model(saved(shrunk(VQA), tmp_path / "file.pth"), image_size)
    assert run.config.image_size == ((32, 32) if image_size == 32 else image_size)
    assert answer(run).shape == (1, NUM_ANSWERS)


def test_heads_of_an_unknown_width_can_be_told_and_are_kept_by_converting(tmp_path: Path) -> None:
    path = saved(shrunk(RETRIEVAL, width=96), tmp_path / "file.pth")
    assert "pass num_heads" in refusal(lambda: load_model(path))
    weights = read_weights(path, num_heads=4)
    write_state(weights.state, weights.hints(), tmp_path / "ours.safetensors")
    run = load_model(tmp_path / "ours.safetensors")
    assert isinstance(run.config, Beit3Config) and run.config.num_heads == 4
    assert torch.equal(answer(run), answer(load_model(path, num_heads=4)))


# what belongs to a model


def test_labels_are_numbers_unless_a_list_lies_beside(tmp_path: Path) -> None:
    path = saved(shrunk(VQA), tmp_path / "file.pth")
    assert load_model(path).labels == tuple(f"#{n}" for n in range(NUM_ANSWERS))
    lines = [json.dumps({"answer": f"word {n}", "label": n}) for n in range(NUM_ANSWERS)]
    (tmp_path / "answer2label.txt").write_text("\n".join(lines))
    assert load_model(path).labels == tuple(f"word {n}" for n in range(NUM_ANSWERS))
    (tmp_path / "answer2label.txt").write_text("\n".join(lines[1:]))
    assert f"names {NUM_ANSWERS - 1} labels, {path} tells {NUM_ANSWERS}" in refusal(lambda: load_model(path))
    (tmp_path / "answer2label.txt").write_text("word 1\n")
    assert "answer2label.txt: damaged list of labels" in refusal(lambda: load_model(path))


def test_classes_and_statements_have_labels(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n".join("abcde"))
    run = load_model(saved(shrunk(CLASSIFICATION), tmp_path / "file.pth"))
    assert run.labels == tuple("abcde") and len(run.labels) == NUM_CLASSES
    assert run.settings["pictures"] == "imagenet"
    assert load_model(saved(shrunk(NLVR2), tmp_path / "file.pth")).labels == ("false", "true")


@pytest.mark.parametrize("name", ["text.spm", "beit3.spm"])
def test_a_text_tokenizer_beside_the_file_is_used(name: str, tmp_path: Path) -> None:
    path = saved(shrunk(CAPTIONING, num_words=WORLD_WORDS), tmp_path / "file.pth")
    assert load_model(path).text is None
    shutil.copy(WORLD / "encoder" / "text.spm", tmp_path / name)
    text = load_model(path).text
    assert text is not None and text.vocab_size <= WORLD_WORDS
    assert load_model(saved(shrunk(CLASSIFICATION), tmp_path / "file.pth")).text is None


def test_a_text_tokenizer_of_more_words_than_the_model_is_refused(tmp_path: Path) -> None:
    path = saved(shrunk(CAPTIONING), tmp_path / "file.pth")
    shutil.copy(WORLD / "encoder" / "text.spm", tmp_path / "text.spm")
    assert f"embeds {NUM_WORDS}; put the model's own" in refusal(lambda: load_model(path))


def test_captions_have_the_settings_of_the_released_models(tmp_path: Path) -> None:
    run = load_model(saved(shrunk(CAPTIONING), tmp_path / "file.pth"))
    longest = min(32, NUM_TEXT_POSITIONS)  # these files have fewer positions than the released ones
    assert dict(run.settings) == {"max_text_tokens": longest, "num_beams": 3, "length_penalty": 0.6}


# official names


def test_the_list_names_what_can_be_loaded() -> None:
    names = list_models()
    assert names[:2] == ("world", "world_encoder") and len(set(names)) == len(names)
    assert set(names[2:]) == {file.name for file in OFFICIAL_FILES} - {"beit3.spm"}


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site()) as running:
        yield running


def offer(
    site: Site, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **known: Any
) -> OfficialFile:
    """Serve a file, and let the manifest know it."""
    site.content = saved({"model": state}, tmp_path / "served").read_bytes()
    file = site.file(**known)
    monkeypatch.setattr(load, "find", lambda name: file if name == file.name else None)
    return file


def test_an_official_name_is_downloaded_checked_and_loaded(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    cache.mkdir()
    shutil.copy(WORLD / "encoder" / "text.spm", cache / TEXT_TOKENIZER.name)
    state = shrunk(RETRIEVAL, num_words=WORLD_WORDS)
    config = to_imglish(state, where="file").config
    file = offer(site, state, monkeypatch, tmp_path, kind="retrieval", config=config)
    run = load_model("a_model", 32)
    assert run.kind == "retrieval" and run.text is not None and run.config.image_size == (32, 32)
    assert cached_path(file).is_file() and site.asked == [""]
    expected = load_model(saved(state, tmp_path / "file.pth"), 32)
    assert torch.equal(answer(load_model("a_model", 32)), answer(expected))
    assert site.asked == [""]


def test_lists_of_labels_in_the_cache_name_the_models_they_fit(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    weights = to_imglish(shrunk(CLASSIFICATION), where="file")
    offer(site, shrunk(CLASSIFICATION), monkeypatch, tmp_path, kind=weights.kind, config=weights.config)
    cache.mkdir()
    (cache / "classes.txt").write_text("\n".join("abcde"))
    assert load_model("a_model").labels == tuple("abcde")
    (cache / "classes.txt").write_text("\n".join("abcdef"))
    assert load_model("a_model").labels == ("#0", "#1", "#2", "#3", "#4")


def test_released_classifiers_of_imagenet_tell_names_and_other_files_numbers(tmp_path: Path) -> None:
    state = shrunk(CLASSIFICATION)
    state |= {"head.weight": torch.randn(1000, state["head.weight"].shape[1]), "head.bias": torch.randn(1000)}
    labels = load_model(saved(state, tmp_path / "beit3_base_patch16_224_in1k.pth")).labels
    assert len(set(labels)) == 1000 and labels[:2] == ("tench", "goldfish") and labels[999] == "toilet tissue"
    assert load_model(saved(state, tmp_path / "mine.pth")).labels[:2] == ("#0", "#1")


def test_a_pretrained_beit_is_loaded_whole_by_its_name_and_as_a_backbone_where_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = to_imglish(shrunk(BEIT_PRETRAINED), where="file")
    known = {"kind": weights.kind, "config": weights.config, "num_labels": weights.num_labels}
    offer(site, shrunk(BEIT_PRETRAINED), monkeypatch, tmp_path, **known, pictures="imagenet")
    run = load_model("a_model")
    assert run.kind == "masked_image_modeling" and isinstance(run.model, ViTForMaskedImageModeling)
    assert run.settings == {"pictures": "imagenet"} and run.labels == () and run.text is None
    alone = read_weights("a_model", (24, 24), backbone=True)
    assert alone.kind == "backbone" and alone.config.image_size == (24, 24)  # type: ignore[union-attr]
    vit = fill(read_weights("a_model", backbone=True))
    assert same(dict(vit.state_dict()), dict(run.model.vit.state_dict()))


@pytest.mark.parametrize("key_list", [BEIT_FINE_TUNED, BEIT_PRETRAINED])
def test_a_beit_says_which_pictures_it_takes_where_anybody_does(key_list: str, tmp_path: Path) -> None:
    path = saved(shrunk(key_list), tmp_path / "unknown.pth")
    assert not load_model(path).settings
    version1 = "beit_base_patch16_224_pt22k"
    version2 = "beitv2_base_patch16_224_pt1k"
    ending = "_ft1k" if key_list == BEIT_FINE_TUNED else ""
    for name, expected in ((version1, "model"), (version2, "imagenet")):
        named = shutil.copy(path, tmp_path / f"{name}{ending}.pth")
        assert load_model(named).settings["pictures"] == expected
        weights = read_weights(named)
        write_state(weights.state, weights.hints(), tmp_path / "converted.safetensors")
        assert load_model(tmp_path / "converted.safetensors").settings["pictures"] == expected


def test_a_beit_cuts_off_a_margin_below_384_pixels(tmp_path: Path) -> None:
    path = saved(shrunk(BEIT_FINE_TUNED), tmp_path / "beit_base_patch16_224_pt22k_ft1k.pth")
    shares = {side: load_model(path, side).settings["crop_share"] for side in (16, 376, 384)}
    assert shares == {16: 0.875, 376: 0.875, 384: 1.0}


@pytest.mark.parametrize("key_list", [BEIT_FINE_TUNED, TOKENIZER, CLASSIFICATION])
def test_names_of_other_families_are_loaded_alike(
    key_list: str, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = to_imglish(shrunk(key_list), where="file")
    known = {"kind": weights.kind, "config": weights.config, "num_labels": weights.num_labels}
    offer(site, shrunk(key_list), monkeypatch, tmp_path, **known)
    expected = load_model(saved(shrunk(key_list), tmp_path / "file.pth"))
    assert torch.equal(answer(load_model("a_model")), answer(expected))


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"kind": "captioning"}, "kind vqa instead of captioning"),
        ({"num_labels": 3129}, f"labels {NUM_ANSWERS} instead of 3129"),
        ({"depth": 3}, "depth 2 instead of 3"),
        ({"vocab_size": 64010}, f"vocab_size {NUM_WORDS} instead of 64010"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    known: dict[str, Any], words: str, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = to_imglish(shrunk(VQA), where="file").config
    assert isinstance(config, Beit3Config)
    entry = {"kind": "vqa", "config": config, **known}
    sizes = {key: entry.pop(key) for key in ("depth", "vocab_size") if key in entry}
    entry["config"] = replace(config, **sizes)
    file = offer(site, shrunk(VQA), monkeypatch, tmp_path, **entry)
    message = refusal(lambda: load_model("a_model"))
    assert message.startswith(f"{cached_path(file)}: not a_model: {words}")
