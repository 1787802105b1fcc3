"""Repositories of the Hugging Face Hub load as run folders and files here do, and fail in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save

from imglish.cli.main import main
from imglish.hub import load
from imglish.hub.huggingface import Repository, fetch_repository, repository_of
from imglish.hub.load import load_model, read_weights
from imglish.inference.predictor import Predictor
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.recipes.initial import initial_text, load_encoder
from tests.hub.answers import answer
from tests.hub.huggingface_server import Hub, commit_of, serve_hub
from tests.hub.official_files import CAPTIONING, CLASSIFICATION, RETRIEVAL, shrunk
from tests.hub.refusals import refusal
from tests.hub.server import Site, serve
from tests.inference.tiny_weights import pixels, write_run

WORLD = Path(str(resources.files("imglish.hub") / "world" / "encoder"))
PICTURE = pixels(20, 20)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub on this machine, and an empty cache; the library has read its environment long before."""
    with serve_hub(Hub()) as running:
        point_to(running.address, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.chdir(tmp_path)
        yield running


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library find the Hub at another address."""
    constants = huggingface_hub.constants
    place = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + place)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_on_the_hub_answers_as_the_run_here(hub: Hub, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "retrieval")
    hub.files = contents(folder)
    here, there = Predictor(folder), Predictor("org/name")
    assert there.match(PICTURE, "a red star") == here.match(PICTURE, "a red star")
    assert load_model("org/name", 32).config.image_size == (32, 32)
    assert hub.downloaded() == ["config.yaml", "model.safetensors", "text.spm"]  # once


def test_only_weights_without_code_and_what_use_needs_is_fetched(hub: Hub) -> None:
    hub.files = contents(WORLD) | dict.fromkeys(
        ("pytorch_model.bin", "model.pth", "optimizer.pt", "data.pkl", "model.onnx", "train.py", "huge.npz"),
        b"code",
    )
    hub.files |= {"checkpoints/1/model.safetensors": b"old", "other.safetensors": b"another"}
    run = load_model("org/name")
    assert run.kind == "masked_data_modeling" and run.text is not None
    assert hub.downloaded() == ["config.yaml", "model.safetensors", "text.spm"]
    torch.testing.assert_close(answer(run), answer(load_model(WORLD)))


@pytest.mark.parametrize("name", ["model.safetensors", "beit3_[base].safetensors"])
def test_a_single_file_of_weights_is_used_with_the_lists_beside_it(hub: Hub, name: str) -> None:
    hub.files = {name: save(shrunk(CLASSIFICATION)), "classes.txt": b"a\nb\nc\nd\ne", "README.md": b"# Card"}
    run = load_model("org/name")
    assert run.kind == "image_classification" and run.labels == tuple("abcde")
    save_path = Path("here.safetensors")
    save_path.write_bytes(hub.files[name])
    torch.testing.assert_close(answer(run), answer(load_model(save_path)))
    assert hub.downloaded() == sorted(["README.md", name, "classes.txt"])


def test_a_revision_is_a_branch_a_tag_a_reference_or_a_commit(hub: Hub) -> None:
    hub.files = {"model.safetensors": save(shrunk(CAPTIONING))}
    hub.revisions = {
        "v1.0": {"model.safetensors": save(shrunk(RETRIEVAL))},
        "refs/pr/1": {"model.safetensors": save(shrunk(CLASSIFICATION))},
    }
    assert load_model("org/name").kind == "captioning"
    assert load_model("org/name@v1.0").kind == "retrieval"
    assert load_model("org/name@refs/pr/1").kind == "image_classification"
    assert load_model(f"org/name@{commit_of(hub.revisions['v1.0'])}").kind == "retrieval"
    message = refusal(lambda: load_model("org/name@v2"))
    assert message.startswith("org/name@v2: has no revision v2; give a branch, tag or commit")


def test_a_new_state_of_the_branch_is_fetched(hub: Hub) -> None:
    hub.files = {"weights.safetensors": save(shrunk(CAPTIONING))}
    assert load_model("org/name").kind == "captioning"
    hub.files = {"weights.safetensors": save(shrunk(RETRIEVAL))}
    assert load_model("org/name").kind == "retrieval"


def test_what_lies_here_is_meant_first_and_a_known_name_before_both(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files = {"model.safetensors": save(shrunk(CAPTIONING))}
    shutil.copytree(WORLD, tmp_path / "org" / "name")
    assert load_model("org/name").kind == "masked_data_modeling"
    assert Predictor("org/name") is not None and hub.asked == []
    monkeypatch.setenv("IMGLISH_CACHE", str(tmp_path / "own"))
    weights = tmp_path / "served.pth"
    torch.save(shrunk(CLASSIFICATION), weights)
    with serve(Site(content=weights.read_bytes())) as site:
        config = read_weights(weights).config
        file = replace(site.file(kind="image_classification", config=config), name="org/name")
        monkeypatch.setattr(load, "find", lambda name: file if name == "org/name" else None)
        assert load_model("org/name").kind == "image_classification"
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("org/name", ("org/name", None)),
        ("org/name@main", ("org/name", "main")),
        ("org-1/na.me_2@refs/pr/3", ("org-1/na.me_2", "refs/pr/3")),
        ("name", None),
        ("a/b/c", None),
        ("/tmp/x", None),
        ("./x", None),
        ("../x", None),
        ("weights/model.pth", None),
        ("weights/model.safetensors", None),
        ("org/name@", None),
        ("org/na me", None),
        ("https://huggingface.co/org/name", None),
        (Path("org/name"), None),
        ("", None),
    ],
)
def test_an_id_is_told_from_a_path(name: str | Path, meant: tuple[str, str | None] | None) -> None:
    assert repository_of(name) == (None if meant is None else Repository(*meant))


def test_weights_of_the_hub_are_converted(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.files = contents(WORLD)
    assert main(["convert", "org/name", "world.safetensors", "--to", "imglish"]) == 0
    assert "world.safetensors: masked_data_modeling" in capsys.readouterr().out
    world = load_model("world_encoder")  # its heads are told by its settings, not by the width
    torch.testing.assert_close(answer(load_model("world.safetensors")), answer(world))


def test_a_run_starts_from_weights_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "retrieval")
    hub.files = contents(folder)
    source = load_model(folder)
    assert isinstance(source.model, Beit3ForRetrieval) and source.text is not None
    model = Beit3ForRetrieval(source.model.encoder.config)
    assert load_encoder(model, "org/name") == []
    assert all(torch.equal(w, source.model.state_dict()[name]) for name, w in model.state_dict().items())
    assert initial_text("org/name").serialized == source.text.serialized


# What fails


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            (404, "RepoNotFound"),
            "no such repository on the Hugging Face Hub, or a private one; check the name",
        ),
        (
            (401, ""),
            "no such repository on the Hugging Face Hub, or a private one; check the name, or log in",
        ),
        (
            (401, "GatedRepo"),
            "a gated repository of the Hugging Face Hub; ask for access on its page, then log",
        ),
        ((403, ""), "not to be had from the Hugging Face Hub (it answered HTTP 403); check the network"),
        ((500, ""), "not to be had from the Hugging Face Hub (it answered HTTP 500); check the network"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub: Hub, answers: tuple[int, str], words: str) -> None:
    hub.refusal = answers
    message = refusal(lambda: load_model("org/name"))
    assert message.startswith("org/name: ") and words in message


def test_a_gated_repository_lists_its_files_and_gives_none(hub: Hub) -> None:
    hub.files, hub.gated = contents(WORLD), True
    assert "org/name: a gated repository" in refusal(lambda: load_model("org/name"))


def test_a_misspelt_official_name_gets_advice_where_the_hub_does_not_know_it_either(hub: Hub) -> None:
    message = refusal(lambda: load_model("timm/beit3_base_patch16_224.in22k_ft_in1"))
    assert "no such repository" in message
    assert message.endswith("did you mean 'timm/beit3_base_patch16_224.in22k_ft_in1k'?")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, "found config.json, pytorch_model.bin"),
        ({"model-1.safetensors": b"x", "model-2.safetensors": b"x"}, "found 2 of them"),
        ({"deep/model.safetensors": b"x"}, "found nothing"),
        ({}, "found nothing"),
    ],
)
def test_a_repository_without_usable_weights_is_one_line(
    hub: Hub, files: dict[str, bytes], found: str
) -> None:
    hub.files = files
    message = refusal(lambda: load_model("org/name"))
    assert message.startswith("org/name: a repository without usable weights; expected model.safetensors, or")
    assert found in message and hub.downloaded() == []


def test_weights_that_are_damaged_there_are_one_line(hub: Hub) -> None:
    hub.files = {"model.safetensors": save(shrunk(RETRIEVAL))[:-100]}
    assert "damaged safetensors file" in refusal(lambda: load_model("org/name"))
    hub.files = contents(WORLD) | {"config.yaml": b"model: unet"}
    assert "config.yaml: damaged" in refusal(lambda: load_model("org/name"))


def test_without_a_network_the_cache_answers_and_nothing_else(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files = {"weights.safetensors": save(shrunk(CLASSIFICATION))}
    load_model("org/name")
    with serve_hub(Hub()) as other:
        nowhere = other.address
    point_to(nowhere, monkeypatch)
    assert load_model("org/name").kind == "image_classification"
    message = refusal(lambda: load_model("org/another"))
    assert "org/another: no such file or folder here, and not to be had from the Hugging Face Hub" in message
    assert message.endswith("check the network, HF_ENDPOINT and HF_HUB_OFFLINE")


def test_a_cache_that_cannot_be_written_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files = contents(WORLD)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/proc/no/such")
    assert refusal(lambda: load_model("org/name")).startswith("org/name: ")


FETCH = """
import sys
from pathlib import Path
from imglish.hub.huggingface import fetch_repository, repository_of
assert "huggingface_hub" not in sys.modules
try:
    path = fetch_repository(repository_of(sys.argv[1]))
    print(path, sorted(beside.name for beside in path.parent.iterdir()))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_the_librarys_environment_says_where_and_whether_to_fetch(hub: Hub, tmp_path: Path) -> None:
    hub.files = contents(WORLD)
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    surroundings |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret"}

    def fetch(name: str, **more: str) -> str:
        command = [sys.executable, "-c", FETCH, name]
        done = subprocess.run(
            command, env=surroundings | more, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        return done.stdout.strip()

    told = fetch("org/name")
    home = tmp_path / "home" / "hub" / "models--org--name" / "snapshots" / commit_of(hub.files)
    assert told == f"{home / 'model.safetensors'} ['config.yaml', 'model.safetensors', 'text.spm']"
    assert "Bearer hf_secret" in hub.tokens
    asked = len(hub.asked)
    assert fetch("org/name", HF_HUB_OFFLINE="1") == told
    unknown = fetch("org/another", HF_HUB_OFFLINE="1")
    assert unknown.startswith("CheckpointError org/another: no such file or folder here, and not to be had")
    assert "offline mode is set" in unknown and len(hub.asked) == asked


def test_the_message_of_the_hub_alone_is_one_line_too(hub: Hub) -> None:
    assert "no such repository" in refusal(lambda: fetch_repository(Repository("org/other", None)))
    assert "no name that the Hugging Face Hub allows" in refusal(lambda: load_model("org--x/.name-"))
