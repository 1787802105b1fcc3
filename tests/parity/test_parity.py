"""The recorded cases of the official code, and that the comparison can fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.case import Case
from tests.parity.run import find_cases, main, run_case

DATA = Path(__file__).parent / "data"
CASES = find_cases(DATA)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_numbers_equal_the_official_ones(case: Case) -> None:
    assert run_case(case).verdict == "ok"


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Case]:
    """Copies a case to another name, to be spoilt."""

    def make(name: str) -> Case:
        shutil.copytree(DATA / name, tmp_path / "renamed")
        return Case(tmp_path / "renamed")

    return make


def edit_json(case: Case, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((case.folder / "case.json").read_text())
    edit(content)
    (case.folder / "case.json").write_text(json.dumps(content))


def edit_tensor(case: Case, file: str, key: str, edit: Callable[[torch.Tensor], Any]) -> None:
    tensors = load_file(case.folder / file)
    edit(tensors[key])
    save_file(tensors, case.folder / file)


def test_the_name_of_a_case_decides_nothing(copy: Callable[[str], Case]) -> None:
    assert run_case(copy("beit3_backbone")).ok


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("beit3_backbone", "encoder.layers.3.self_attn.q_proj.B.weight"),
        ("beit3_vqav2", "beit3.encoder.layers.0.ffn.A.fc1.weight"),
        ("beit3_retrieval", "language_head.weight"),
        ("beit3_captioning", "beit3.encoder.embed_positions.B.weight"),
        ("beit2_vqkd", "encoder.blocks.1.mlp.fc2.weight"),
        ("beit2_vqkd", "decode_task_layer.2.weight"),
        ("beit2_pretrain_cls_shared", "cls_pt_layers.1.mlp.fc1.weight"),
        ("beit2_pretrain_cls_shared", "rel_pos_bias.relative_position_bias_table"),
    ],
)
def test_a_changed_weight_fails(copy: Callable[[str], Case], name: str, key: str) -> None:
    case = copy(name)
    edit_tensor(case, "weights.safetensors", key, lambda weight: weight.mul_(1.01))
    assert run_case(case).failed


def test_a_missing_weight_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_backbone_no_output_norm")
    weights = load_file(case.folder / "weights.safetensors")
    del weights["encoder.layers.1.ffn.A.fc2.bias"]
    save_file(weights, case.folder / "weights.safetensors")
    assert run_case(case).verdict.startswith("FAIL: CheckpointError")


def test_a_changed_gradient_norm_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_vqav2")

    def edit(content: dict[str, Any]) -> None:
        content["calls"][1]["outputs"]["grad_norms"]["value"]["pooler.dense.weight"] *= 1.001

    edit_json(case, edit)
    assert run_case(case).verdict == "FAIL: loss.grad_norms"


def test_another_beam_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_captioning")
    edit_tensor(case, "outputs.safetensors", "beam3.decoded", lambda ids: ids[0, 1].add_(1))
    assert run_case(case).verdict == "FAIL: beam3.decoded"


def test_other_ids_fail(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_tokenizer")
    edit_json(case, lambda content: content["rows"][0]["ids"].reverse())
    assert run_case(case).failed


@pytest.mark.parametrize(("setting", "value"), [("min_aspect", 0.8), ("min_num_patches", 4)])
def test_other_block_masks_fail(copy: Callable[[str], Case], setting: str, value: float) -> None:
    case = copy("beit2_masking_stats")
    edit_json(case, lambda content: content["75"]["settings"].update({setting: value}))
    assert "75.profile" in run_case(case).verdict


def test_another_codebook_update_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit2_vqkd")
    edit_json(case, lambda content: content["config"].update(decay=0.98))
    assert "train_step.quantize.embedding.weight" in run_case(case).verdict


@pytest.mark.parametrize(("setting", "value"), [("early_layers", 3), ("early_layers", 1)])
def test_another_way_through_the_class_token_fails(
    copy: Callable[[str], Case], setting: str, value: int
) -> None:
    case = copy("beit2_pretrain_cls_shared")
    edit_json(case, lambda content: content["config"].update({setting: value}))
    verdict = run_case(case).verdict
    assert verdict.startswith("FAIL: forward.masked_logits_1") and "masked_logits_0" not in verdict


def test_other_resized_tables_fail(copy: Callable[[str], Case]) -> None:
    case = copy("beit2_relpos_interp_64_to_96")
    edit_tensor(case, "outputs.safetensors", "interp.table_block1", lambda table: table[60].add_(1e-3))
    assert run_case(case).verdict == "FAIL: interp.table_block1"


def test_an_option_that_no_released_model_has_is_not_covered(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_backbone")
    edit_json(case, lambda content: content["config"].update(deepnorm=True))
    assert run_case(case).verdict == "not covered: deepnorm=True belongs to no released BEiT-3"


@pytest.mark.parametrize(
    ("setting", "argument", "value"),
    [("a", "final_value", 1e-5), ("d_linear", "sched_type", "cos"), ("e_startwarm", "start_warmup_value", 0)],
)
def test_another_learning_rate_fails(
    copy: Callable[[str], Case], setting: str, argument: str, value: object
) -> None:
    case = copy("beit3_lr_schedule")
    edit_json(case, lambda content: content[setting]["args"].update({argument: value}))
    assert run_case(case).verdict == f"FAIL: {setting}"


@pytest.mark.parametrize(
    ("place", "name"),
    [(0, "beit3.encoder.layers.1.ffn.A.fc1.weight"), (1, "beit3.vision_embed.cls_token"), (0, "head.0.bias")],
)
def test_another_rate_or_decay_of_one_parameter_fails(
    copy: Callable[[str], Case], place: int, name: str
) -> None:
    case = copy("beit3_optim_groups")

    def edit(content: dict[str, Any]) -> None:
        for setting in content.values():
            if isinstance(setting, dict) and name in setting["groups"]:
                setting["groups"][name][place] += 0.01

    edit_json(case, edit)
    assert run_case(case).failed


def test_a_parameter_left_out_of_the_groups_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_optim_groups")

    def edit(content: dict[str, Any]) -> None:
        groups = next(setting["groups"] for setting in content.values() if isinstance(setting, dict))
        groups["beit3.encoder.layers.9.ffn.A.fc1.weight"] = [1.0, 0.05]

    edit_json(case, edit)
    assert run_case(case).failed


@pytest.mark.parametrize(
    ("name", "key", "failing"),
    [
        ("beit3_randaug_ops", "ops.Rotate_plus", "ops.Rotate_plus"),
        ("beit3_randaug_ops", "ops.Sharpness", "ops.Sharpness"),
        ("beit3_image_eval_preprocess", "eval.vl", "eval.vl"),
        ("beit3_image_eval_preprocess", "eval.imagenet", "eval.imagenet"),
    ],
)
def test_one_pixel_off_by_a_grey_level_fails(
    copy: Callable[[str], Case], name: str, key: str, failing: str
) -> None:
    case = copy(name)

    def edit(pixels: torch.Tensor) -> None:
        level = 1 if pixels.dtype == torch.uint8 else 1 / 127.5
        pixels.view(-1)[100] += level

    edit_tensor(case, "outputs.safetensors", key, edit)
    assert run_case(case).verdict == f"FAIL: {failing}"


def test_another_magnitude_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_randaug_ops")
    edit_json(case, lambda content: content["config"].update(M=6))
    assert "ops.Brightness" in run_case(case).verdict


@pytest.mark.parametrize(
    ("part", "name", "statistic", "change"),
    [
        ("wrapper_vqav2", "beit3.text_embed.weight", "std", 0.9),
        ("wrapper_vqav2", "beit3.encoder.layers.2.ffn.A.fc1.weight", "absmax", 2.0),
        ("wrapper_imageclassification_heads", "head.weight", "absmax", 1000.0),
        ("torchscale_backbone", "vision_embed.proj.weight", "absmax", 1.02),
    ],
)
def test_another_initial_weight_fails(
    copy: Callable[[str], Case], part: str, name: str, statistic: str, change: float
) -> None:
    case = copy("beit3_init_stats")

    def edit(content: dict[str, Any]) -> None:
        content[part][name][statistic] *= change

    def only_that(content: dict[str, Any]) -> None:
        for other in [key for key, value in content.items() if isinstance(value, dict) and key != part]:
            del content[other]

    edit_json(case, only_that)
    edit_json(case, edit)
    assert run_case(case).verdict == f"FAIL: {part}: {name} {statistic}"


def test_another_normal_form_or_score_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_vqa_normalize_word")

    def edit(content: dict[str, Any]) -> None:
        content["pairs"].append(["a cat", "a cat"])
        content["score_by_occurrences"]["3"] = 1.0

    edit_json(case, edit)
    assert run_case(case).verdict == "FAIL: normal form of 'a cat', score of 3 people"


def test_a_field_that_the_reader_does_not_know_fails(copy: Callable[[str], Case]) -> None:
    case = copy("beit3_dataset_index")

    def edit(content: dict[str, Any]) -> None:
        content["files"]["vqa.val.jsonl"]["first_lines"][0]["confidence"] = 0.5

    edit_json(case, edit)
    assert run_case(case).verdict == "FAIL: vqa.val.jsonl"


def test_command_reports_every_case_and_exits_with_one_on_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DATA / "beit3_drop_path_rates", tmp_path / "a_good")
    (tmp_path / "b_damaged").mkdir()
    (tmp_path / "b_damaged" / "case.json").write_text('{"class": ')
    (tmp_path / "c_unknown").mkdir()
    (tmp_path / "c_unknown" / "case.json").write_text('{"class": "beit3 BEiT3ForPainting"}')
    assert main([str(tmp_path)]) == 1
    good, damaged, unknown, total = capsys.readouterr().out.splitlines()
    assert good.split() == ["a_good", "0.00e+00", "0.00e+00", "ok"]
    assert damaged.startswith("b_damaged") and "FAIL: JSONDecodeError" in damaged
    assert unknown.endswith("not covered: beit3 BEiT3ForPainting comes with issue 3")
    assert total == "parity: 1 ok, 1 failed, 1 not covered"
    assert main([str(tmp_path), "--only", "a_*"]) == 0
