"""Costs of the paper's segmenters, counted and measured."""

from __future__ import annotations

import pytest
import torch

from imglish.errors import ConfigError
from imglish.recipes.segmentation_benchmark import ROWS, count, measure, to_json


# Rows whose parameters and FLOPs the paper tells; it rounds parameters to a million.
@pytest.mark.parametrize("name", ["vit_base_semantic_fpn", "vit_adapter_base_semantic_fpn"])
def test_counted_costs_are_the_papers(name: str) -> None:
    costs = count(name)
    assert costs.parameters / 1e6 == pytest.approx(costs.published.parameters, rel=0.01)
    assert costs.flops / 1e9 == pytest.approx(costs.published.flops, rel=0.01)


@pytest.mark.parametrize("name", ["vit_base_setr_pup", "vit_large_setr_pup"])
def test_setr_computes_no_map_that_its_head_does_not_read(name: str) -> None:
    """The paper's rows have auxiliary heads besides, which have parameters and are left out in inference."""
    costs = count(name)
    assert costs.flops / 1e9 == pytest.approx(costs.published.flops, rel=0.01)
    assert costs.parameters / 1e6 < costs.published.parameters


@pytest.mark.parametrize(
    ("name", "millions"), [("vit_adapter_tiny_upernet", 36.062), ("vit_adapter_tiny_semantic_fpn", 12.168)]
)
def test_parameters_of_tiny_are_exact(name: str, millions: float) -> None:
    assert count(name, size=(32, 32)).parameters / 1e6 == pytest.approx(millions, abs=6e-4)


def test_time_is_measured_where_it_runs() -> None:
    counted = count("vit_tiny_semantic_fpn", size=(32, 48))
    found = measure(counted, torch.device("cpu"), size=(32, 48), batch_size=2, rounds=1)
    assert found.seconds is not None and found.fps is not None
    assert 0 < 1 / found.fps < found.seconds  # one picture forward, and two both ways
    assert found.memory is None  # of a GPU only
    assert (found.row, found.flops, found.published) == (counted.row, counted.flops, counted.published)
    (plain,) = to_json([found])
    assert plain["published"]["flops"] == 0 and plain["seconds"] == found.seconds


def test_mistakes_are_said_in_a_line() -> None:
    with pytest.raises(ConfigError, match="no row 'vit_huge'; there are vit_tiny_semantic_fpn, "):
        count("vit_huge")
    with pytest.raises(ConfigError, match="size is 100 x 512; expected multiples of 16"):
        count("vit_tiny_semantic_fpn", size=(100, 512))
    with pytest.raises(ConfigError, match="rounds must be at least 1; got 0"):
        measure(count("vit_tiny_semantic_fpn", size=(32, 32)), torch.device("cpu"), rounds=0)


def test_all_rows_of_the_papers_table_are_there() -> None:
    told = [row.published for row in ROWS.values() if row.published.fps]
    assert len(told) == 7 and len(ROWS) == 15
