"""A model goes to the Hub by its own library, and comes back from there bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from imglish.hub.card import CardFacts
from imglish.hub.load import load_model
from imglish.hub.push import push_to_hub
from tests.hub.huggingface_server import Hub, serve_hub
from tests.hub.refusals import refusal
from tests.hub.test_huggingface import point_to
from tests.inference.tiny_weights import write_run


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty repository's Hub on this machine, and an empty cache."""
    with serve_hub(Hub()) as running:
        point_to(running.address, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.chdir(tmp_path)
        yield running


def test_what_is_pushed_loads_again_bit_for_bit(hub: Hub, tmp_path: Path) -> None:
    run = load_model(write_run(tmp_path / "run", "captioning"))
    hub.files = {"old.txt": b"stays"}
    address = push_to_hub(run, "org/name", facts=CardFacts(name="A name", licence="MIT"), message="First")
    assert address.startswith(f"{hub.address}/org/name/commit/")
    assert [(made["organization"], made["name"]) for made in hub.created] == [("org", "name")]
    # Seen by its owners only; older versions of the library say it in the other way.
    assert hub.created[0].get("visibility") == "private" or hub.created[0]["private"]
    assert set(hub.files) == {
        "old.txt", "README.md", "config.json", "config.yaml", "model.safetensors", "text.spm",
    }  # fmt: skip
    assert hub.messages == ["First"] and b"# A name" in hub.files["README.md"]
    assert set(hub.tokens) >= {"Bearer hf_secret"}
    back = load_model("org/name")
    weights, expected = back.model.state_dict(), run.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert back.config == run.config and back.settings == run.settings


def test_another_branch_is_written_to_where_it_is_named(hub: Hub, tmp_path: Path) -> None:
    run = load_model(write_run(tmp_path / "run", "captioning"))
    message = refusal(lambda: push_to_hub(run, "org/name", revision="draft"))  # which is not there
    assert "no such repository or branch" in message and hub.files == {}
    assert any(path.endswith("/draft") for path in hub.asked)


def test_an_id_that_is_none_and_a_refusal_are_one_line(hub: Hub, tmp_path: Path) -> None:
    run = load_model(write_run(tmp_path / "run", "captioning"))
    for name in ("name", "org/name@main", "../x"):
        assert "no id of a repository" in refusal(lambda name=name: push_to_hub(run, name))  # type: ignore[misc]
    assert hub.asked == []
    for status, words in (
        (401, "does not know you; log in (hf auth login, or HF_TOKEN)"),
        (403, "you may not write there; take a token that may"),
        (500, "answered HTTP 500"),
    ):
        hub.refusal = (status, "")
        message = refusal(lambda: push_to_hub(run, "org/name"))
        assert message.startswith("org/name: ") and words in message


def test_without_a_network_it_is_one_line(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_model(write_run(tmp_path / "run", "captioning"))
    with serve_hub(Hub()) as other:
        nowhere = other.address
    point_to(nowhere, monkeypatch)
    message = refusal(lambda: push_to_hub(run, "org/name"))
    assert message.startswith("org/name: not uploaded (") and "check the network, HF_ENDPOINT" in message


@pytest.mark.parametrize("part", ["", "vqa"])
def test_a_joint_model_goes_whole_or_as_one_of_its_parts(part: str, hub: Hub) -> None:
    world = load_model("world")
    run = world.parts[part] if part else world
    push_to_hub(run, "org/name")
    back = load_model("org/name")
    assert back.kind == (part or "joint") and back.labels == run.labels
    assert {name: one.labels for name, one in back.parts.items()} == {
        name: one.labels for name, one in run.parts.items()
    }
    weights, expected = back.model.state_dict(), run.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert any("encoder.blocks" in name for name in weights)
