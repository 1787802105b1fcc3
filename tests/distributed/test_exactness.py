"""However a run is spread over ranks, micro steps and stops, it computes the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from imglish.train.distributed import Ranks
from imglish.train.logging import read_log
from tests.distributed.ranks import on_ranks
from tests.distributed.small_run import NUM_STEPS, Run, batch_of, go

# Float64; only the order of sums differs between the runs.
TOLERANCE = 1e-10
STOP = 3  # no step at which checkpoints are due
WHOLE = {
    "ddp": Run("ddp", evaluated=True),
    "fsdp2": Run("fsdp2", evaluated=True),
    "ddp micro steps": Run("ddp", micro_steps=2),
    "fsdp2 micro steps": Run("fsdp2", micro_steps=2),
    "fsdp2 recomputed": Run("fsdp2", activation_checkpointing=True, in_background=True),
}
STOPPED = {"ddp": Run("ddp", stop=STOP), "fsdp2": Run("fsdp2", stop=STOP, in_background=True)}
# Who goes on with whose checkpoint, on two ranks.
RESUMED = [
    (before, after) for before in ("alone", "ddp", "fsdp2") for after in ("ddp", "fsdp2") if before != after
]


def on_two(ranks: Ranks, folder: Path) -> None:
    for name, run in WHOLE.items():
        go(run, folder / name, ranks)
    for name, run in STOPPED.items():
        go(run, folder / f"{name} stopped", ranks)
    for before, after in RESUMED:
        place = folder / f"{before} to {after}"
        if ranks.is_main:
            shutil.copytree(folder / f"{before} stopped", place)
        torch.distributed.barrier()
        go(Run(after), place, ranks)  # type: ignore[arg-type]


def on_four(ranks: Ranks, folder: Path) -> None:
    go(Run("fsdp2"), folder / "fsdp2 to four", ranks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exactness")
    go(Run(), made / "alone")
    go(Run(micro_steps=2), made / "alone micro steps")
    go(Run(stop=STOP), made / "alone stopped")
    on_ranks(2, on_two, made)
    for before in STOPPED:
        shutil.copytree(made / f"{before} stopped", made / f"{before} to alone")
        go(Run(), made / f"{before} to alone")
    return made


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=TOLERANCE, atol=TOLERANCE, msg=name)


def assert_same_run(found: Path, expected: Path) -> None:
    ours, theirs = torch.load(found / "weights.pt"), torch.load(expected / "weights.pt")
    assert_same(ours["weights"], theirs["weights"])
    assert_same(ours["average"], theirs["average"])
    assert ours["weights"].keys() == ours["average"].keys()
    logs = [
        [line for line in read_log(place / "metrics.jsonl") if "lr" in line] for place in (found, expected)
    ]
    assert [line["step"] for line in logs[0]] == list(range(1, NUM_STEPS + 1))
    for line, other in zip(*logs, strict=True):
        for name in other:
            if name.startswith("loss") or name in ("grad_norm", "lr"):
                assert line[name] == pytest.approx(other[name], rel=TOLERANCE, abs=TOLERANCE), name


def test_parts_of_a_batch_hide_unequal_numbers() -> None:
    """Or means of means would pass too."""
    parts = [batch_of(0, rank, 2, 1) for rank in range(2)]
    for numbers in (
        [part.images.corruption.sum() for part in parts],
        [part.pairs.corruption.sum() for part in parts],
        [(part.texts.targets >= 0).sum() for part in parts],
    ):
        assert numbers[0] != numbers[1]


@pytest.mark.parametrize("name", ["alone micro steps", *WHOLE])
def test_ranks_and_micro_steps_compute_as_one_process_with_the_whole_batch(folder: Path, name: str) -> None:
    assert_same_run(folder / name, folder / "alone")


def test_a_run_moves_its_weights(folder: Path) -> None:
    weights = torch.load(folder / "alone" / "weights.pt")
    assert any(
        not torch.equal(weights["weights"][name], weights["average"][name]) for name in weights["weights"]
    )
    losses = [line["loss_text"] for line in read_log(folder / "alone" / "metrics.jsonl")]
    assert len(set(losses)) == NUM_STEPS


@pytest.mark.parametrize("name", [*(f"{a} to {b}" for a, b in RESUMED), "ddp to alone", "fsdp2 to alone"])
def test_a_stopped_run_goes_on_on_other_ranks_and_another_strategy(folder: Path, name: str) -> None:
    stopped = folder / f"{name.split()[0]} stopped"
    assert not (stopped / "weights.pt").exists()
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir())[-1] == f"step_{STOP:08d}"
    assert_same_run(folder / name, folder / "alone")


@pytest.mark.slow
def test_two_shards_go_on_as_four(folder: Path) -> None:
    shutil.copytree(folder / "fsdp2 stopped", folder / "fsdp2 to four")
    on_ranks(4, on_four, folder)
    assert_same_run(folder / "fsdp2 to four", folder / "alone")


def test_each_rank_writes_its_share_of_a_sharded_model(folder: Path) -> None:
    files = list((folder / "fsdp2 stopped" / "checkpoints" / f"step_{STOP:08d}").glob("*.distcp"))
    sizes = [path.stat().st_size for path in files]
    assert len(sizes) == 2 and min(sizes) > 0.7 * max(sizes)


def test_scores_on_the_way_are_those_of_whole_weights(folder: Path) -> None:
    scores = [
        [
            {key: value for key, value in line.items() if "/" in key}
            for line in read_log(folder / name / "metrics.jsonl")
        ]
        for name in ("ddp", "fsdp2")
    ]
    assert scores[0] == scores[1] and sum(map(bool, scores[0])) == 1
