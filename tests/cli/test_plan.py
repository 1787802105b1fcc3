"""``imglish plan`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imglish.cli.main import main


def test_the_table_has_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    command = "plan beit3_demo_pretraining --gpus 2 --task.num-texts 0 --strategy fsdp2".split()
    assert main([*command, "--activation-checkpointing", "--mfu", "0.25"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("beit3_demo_pretraining: masked_data_modeling on 2 GPUs, fsdp2, bf16, activation")
    for part in ("length: 400 steps, 32 samples on each GPU", "images", "pairs", "vision experts", "+0.00%"):
        assert part in shown
    for part in ("moments of AdamW", "gathered by FSDP2", "MFU, given", "GPU hours", "a checkpoint"):
        assert part in shown
    assert "texts " not in shown
    assert max(map(len, shown.splitlines())) <= 110


def test_json_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "beit3_demo_pretraining", "--json", "--train.num-steps", "7"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["steps"], plan["gpus"], plan["strategy"]) == (7, 1, "single")
    flops = plan["flops"]
    assert flops["model"] == flops["forward"] + flops["backward"]
    assert abs(flops["difference"]) < 0.01
    assert plan["memory"]["peak"] > plan["memory"]["state"]["resident"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ("beit3_bas_pretraining", 2, "there is no recipe 'beit3_bas_pretraining'; did you mean 'beit3_base_"),
        ("vqav2_base", 1, "a run of vqa has no plan; imglish plan knows masked_data_modeling"),
        ("world_masked_data_modeling", 1, "task.visual_tokenizer is 'runs/world/visual_tokenizer', whose"),
        ("beit3_demo_pretraining --gpus 3", 1, "a batch of 32 does not divide by 3 ranks"),
        ("beit3_demo_pretraining --gpus 0", 2, "gpus must be at least 1; got 0"),
    ],
)
def test_mistakes_are_one_line(
    arguments: str,
    code: int,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where no run is
    assert main(["plan", *arguments.split()]) == code
    shown = capsys.readouterr().err
    assert shown.startswith(f"imglish: error: {error}") and shown.count("\n") == 1


def test_help_lists_what_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "beit3_giant_pretraining" in shown and "vqav2_base" not in shown
    assert main(["plan", "beit3_demo_pretraining", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--gpus" in shown and "--pair-tokens" in shown and "--train.ema-decay" in shown
