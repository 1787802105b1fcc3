"""``imglish convert`` renames weights and says what it did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imglish.cli.main import main
from imglish.hub.load import load_model
from tests.hub.official_files import BEIT_PRETRAINED, NLVR2, RETRIEVAL, same, shrunk


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.save({"model": shrunk(RETRIEVAL)}, tmp_path / "source.pth")
    return tmp_path / "source.pth"


def test_there_and_back_again_is_the_same(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, back = tmp_path / "ours.safetensors", tmp_path / "new" / "back.safetensors"
    assert main(["convert", str(source), str(ours), "--to", "imglish"]) == 0
    num_tensors = len(load_file(ours))
    assert capsys.readouterr().out.startswith(f"{ours}: retrieval, {num_tensors} tensors, ")
    assert main(["convert", str(ours), str(back), "--to", "official"]) == 0
    assert same(load_file(back), shrunk(RETRIEVAL))


def test_timms_layout_has_the_vision_side_at_the_size_asked(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "timm.safetensors"
    command = ["convert", str(source), str(target), "--to", "timm-vision", "--image-size", "24", "32"]
    assert main(command) == 0
    written = load_file(target)
    assert written["pos_embed"].shape[1] == 1 + 3 * 4
    assert "blocks.1.attn.qkv.weight" in written and not any(".B." in name for name in written)


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(shrunk(BEIT_PRETRAINED), tmp_path / "source.pth")
    target = tmp_path / "target.safetensors"
    assert main(["convert", str(tmp_path / "source.pth"), str(target), "--to", "official"]) == 0
    assert "left out on purpose: rel_pos_bias.relative_position_index" in capsys.readouterr().out


def test_heads_can_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(shrunk(NLVR2, width=96), tmp_path / "source.pth")
    target = tmp_path / "target.safetensors"
    command = ["convert", str(tmp_path / "source.pth"), str(target), "--to", "imglish"]
    assert main(command) == 1
    assert "pass num_heads" in capsys.readouterr().err and not target.exists()
    assert main([*command, "--num-heads", "3"]) == 0


def test_a_file_is_replaced_only_when_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target.safetensors"
    target.write_bytes(b"mine")
    command = ["convert", str(source), str(target), "--to", "imglish"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error == f"imglish: error: {target}: is there already; add --overwrite to replace it\n"
    assert target.read_bytes() == b"mine"
    assert main([*command, "--overwrite"]) == 0
    assert len(load_file(target)) > 10


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html></html>", "a web page saved under this name"),
        (b"", "empty file"),
        (None, "neither a model's"),
    ],
)
def test_a_wrong_source_is_one_line_and_leaves_nothing(
    content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "source.pth", tmp_path / "target.safetensors"
    if content is not None:
        source.write_bytes(content)
    assert main(["convert", str(source), str(target), "--to", "imglish"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"imglish: error: {source}: ") and words in error and error.count("\n") == 1
    assert not target.exists()


def test_a_target_that_cannot_be_written_is_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = source / "target.safetensors"
    assert main(["convert", str(source), str(target), "--to", "imglish"]) == 1
    error = capsys.readouterr().err
    assert f"{target}: could not be written" in error
    assert error.strip().splitlines()[-1].startswith("imglish: error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pth", "b.pth", "--to", "imglish"], "target must end in .safetensors; got b.pth"),
        (["a.pth", "b.safetensors", "--to", "timm"], "invalid choice 'timm'"),
        (["a.pth", "b.safetensors"], "--to"),
        (["a.pth"], "TARGET"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_folder_with_all_that_belongs_to_a_model(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    command = ["convert", str(source), str(folder), "--to", "pretrained", "--licence", "MIT"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert told == f"{folder}: retrieval, README.md, config.json, config.yaml, model.safetensors\n"
    assert "license: mit" in (folder / "README.md").read_text()
    assert load_model(folder).kind == "retrieval"
    assert main(command) == 1
    assert "is not empty; choose another folder" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--image-size", "24", "32"]) == 0
    assert load_model(folder).config.image_size == (24, 32)
