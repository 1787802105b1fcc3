"""Files that hold no weights, or something besides, are refused in one line."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from imglish.hub.load import load_model
from tests.hub.official_files import (
    RETRIEVAL,
    saved,
    shrunk,
)
from tests.hub.refusals import refusal


class Surprise:
    """Something whose pickle names code."""


def test_a_missing_file_comes_with_advice(tmp_path: Path) -> None:
    message = refusal(lambda: load_model("beit3_base_patch16_224_in1"))
    assert message.endswith("did you mean 'beit3_base_patch16_224_in1k'?")
    assert "neither a model's name nor a file" in refusal(lambda: load_model(tmp_path / "no.pth"))
    assert "a text tokenizer, no model" in refusal(lambda: load_model("beit3.spm"))


@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"\n  <!DOCTYPE html><html>not found</html>", "a web page saved under this name"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of git-lfs"),
        (b"just some words", "get it anew"),
        (bytes(range(256)) * 10, "get it anew"),
    ],
)
def test_a_file_of_something_else_is_one_line(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(lambda: load_model(path))
    assert message.startswith(f"{path}: ") and words in message


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_one_line(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    if suffix == ".pth":
        torch.save(shrunk(RETRIEVAL), path)
    else:
        save_file(shrunk(RETRIEVAL), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    message = refusal(lambda: load_model(path))
    assert message.startswith(f"{path}: ") and message.endswith("get it anew")


def test_tensors_that_share_memory_in_a_file_do_not_in_the_model(tmp_path: Path) -> None:
    state = shrunk(RETRIEVAL)
    state["vision_head.weight"] = state["language_head.weight"]
    model = load_model(saved(state, tmp_path / "file.pth")).model
    with torch.no_grad():
        model.vision_head.weight.zero_()
    assert model.text_head.weight.any()


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    path = saved({"model": shrunk(RETRIEVAL), "hook": Surprise()}, tmp_path / "file.pth")
    message = refusal(lambda: load_model(path))
    assert f"{path}: holds {__name__}.Surprise, which is code and is not run" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(1)], "holds a list, no tensors by name"),
        ({}, "holds an empty dict, no tensors by name"),
        ({"epoch": 1}, "'epoch' is an int, no tensor"),
        ({"model": {"a": torch.zeros(1), "b": "text"}}, "'b' is a str, no tensor"),
        (torch.zeros(3), "holds a Tensor, no tensors by name"),
        ({"weight": torch.zeros(3)}, "weights of no model known here"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_has(content: Any, words: str, tmp_path: Path) -> None:
    path = saved(content, tmp_path / "file.pth")
    message = refusal(lambda: load_model(path))
    assert message.startswith(f"{path}: ") and words in message


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (
            lambda path: path.write_bytes(pickle.dumps({"a": 3})),
            "no file of torch.save, or cut short; expected",
        ),
        (
            lambda path: path.write_bytes(pickle.dumps(Path("x"))),
            "no file of torch.save, or cut short; expected",
        ),
        (
            lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "hi"),
            "a zip archive with 0 files of weights",
        ),
        (
            lambda path: torch.save(nn.Linear(2, 2), path),
            "holds torch.nn.modules.linear.Linear, which is code",
        ),
        (lambda path: path.mkdir(), "holds no finished run"),
    ],
    ids=["pickle", "pickle of code", "zip", "module", "folder"],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_pickle_that_is_no_weights_is_one_line(
    write: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.pth"
    write(path)
    message = refusal(lambda: load_model(path))
    assert message.startswith(str(path)) and words in message and "PyTorch 2.6" not in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_an_archive_of_torchscript_is_one_line(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "file.pth"))
    message = refusal(lambda: load_model(tmp_path / "file.pth"))
    assert "a TorchScript archive, which is code and is not run; expected tensors only" in message


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ('{"width": 3}', "metadata with unknown width"),
        ('{"pictures": "big"}', "metadata with pictures 'big'"),
    ],
)
def test_a_note_of_another_program_in_our_place_is_refused(note: str, words: str, tmp_path: Path) -> None:
    save_file(shrunk(RETRIEVAL), tmp_path / "file.safetensors", metadata={"imglish": note})
    assert words in refusal(lambda: load_model(tmp_path / "file.safetensors"))
