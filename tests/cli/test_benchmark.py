"""``imglish benchmark``: the table, its JSON, and mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from imglish.cli.benchmark import table
from imglish.cli.main import main
from imglish.recipes.segmentation_benchmark import Costs, Published


@pytest.mark.slow
def test_all_rows_are_counted_and_those_asked_for_measured(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["benchmark", "segmentation", "--size", "32", "32", "--device", "cpu", "--json"]
    assert main([*command, "--rounds", "1", "--rows", "vit_adapter_tiny_semantic_fpn"]) == 0
    told = json.loads(capsys.readouterr().out)
    measured = [row["row"] for row in told["rows"] if row["seconds"] is not None]
    assert measured == ["vit_adapter_tiny_semantic_fpn"] and len(told["rows"]) == 15
    assert told["device"] == "cpu" and told["threads"] >= 1
    assert all(row["parameters"] > 0 and row["flops"] > 0 for row in told["rows"])


def test_the_table_has_the_papers_numbers_beside_ours() -> None:
    paper = Published(parameters=332, flops=473, seconds=0.25, memory=16.0, fps=12.9)
    counted = Costs(row="large", parameters=332_027_000, flops=472_300_000_000, published=paper)
    timed = replace(counted, row="timed", seconds=0.5, memory=20.04, fps=30.0, published=Published())
    head, *lines = [line.split("  ") for line in table([counted, timed]).splitlines()]
    told = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert told[0] == ["large", "332.0 (332)", "472.3 (473)", "- (0.25)", "- (16)", "- (12.9)"]
    assert told[1] == ["timed", "332.0", "472.3", "0.50", "20.0", "30.0"]
    assert len([cell for cell in head if cell.strip()]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detection"], "there is no benchmark 'detection'"),
        (["segmentation", "--rows", "vit_tiny_semantic_fpm"], "did you mean 'vit_tiny_semantic_fpn'?"),
        (["segmentation", "--device", "abacus"], "there is no device 'abacus'; expected cpu"),
        (["segmentation", "--no-measure", "--size", "30", "32"], "size is 30 x 32; expected multiples of 16"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *arguments]) in (1, 2)
    told = capsys.readouterr().err
    assert message in told and len(told.splitlines()) == 1
