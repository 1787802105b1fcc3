"""A joint model goes to the Hub whole or as one of its parts, and comes back."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from imglish.hub.load import load_model
from imglish.hub.push import push_to_hub
from tests.hub.huggingface_server import Hub, serve_hub
from tests.hub.test_huggingface import point_to


@pytest.mark.parametrize("part", ["", "vqa"])
def test_what_is_pushed_loads_again(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = load_model("world")
    run = world.parts[part] if part else world
    with serve_hub(Hub()) as hub:
        point_to(hub.address, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.chdir(tmp_path)
        push_to_hub(run, "org/name")
        back = load_model("org/name")
    assert back.kind == (part or "joint") and back.labels == run.labels
    assert {name: one.labels for name, one in back.parts.items()} == {
        name: one.labels for name, one in run.parts.items()
    }
    weights, expected = back.model.state_dict(), run.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert any("encoder.blocks" in name for name in weights)
