from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

from imglish.train.distributed import Ranks
from imglish.train.logging import LogError, RunLog, SkippedLog, read_log
from tests.train.test_checkpoint import ROOM, full_disk

CPU = torch.device("cpu")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_each_rank_lists_its_own_damaged_samples(tmp_path: Path) -> None:
    first, second = (SkippedLog(tmp_path, Ranks(rank, 2, CPU)) for rank in range(2))
    first.add(1, ["a.png is damaged", "b.png is damaged"])
    second.add(1, [])
    second.add(2, ["c.png is damaged"])
    first.add(3, ["d.png is damaged"])
    assert lines(tmp_path / "skipped.log") == [
        "step 1: a.png is damaged",
        "step 1: b.png is damaged",
        "step 3: d.png is damaged",
    ]
    assert lines(tmp_path / "skipped.rank1.log") == ["step 2: c.png is damaged"]
    assert (first.count, second.count) == (3, 1)


def test_nothing_damaged_leaves_no_file(tmp_path: Path) -> None:
    assert SkippedLog(tmp_path, Ranks(0, 1, CPU)).count == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("start", "kept"), [(0, 0), (9, 1), (10, 3), (99, 4)])
def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path, start: int, kept: int) -> None:
    before = ["step 9: a", "step 10: b", "step 10: step 12: c", "step 11: a"]
    (tmp_path / "skipped.log").write_text(
        "\n".join(before) + "\nstep 12: cu", encoding="utf-8"
    )  # killed as it wrote
    found = SkippedLog(tmp_path, Ranks(0, 1, CPU), start=start)
    assert found.count == kept and lines(tmp_path / "skipped.log") == before[:kept]
    found.add(100, ["e"])
    assert lines(tmp_path / "skipped.log") == [*before[:kept], "step 100: e"]
    assert [path.name for path in tmp_path.iterdir()] == ["skipped.log"]


def test_lists_of_ranks_that_are_no_more_are_kept_by_the_main_one(tmp_path: Path) -> None:
    for name in ("skipped.log", "skipped.rank1.log", "skipped.rank2.log", "skipped.rank11.log"):
        (tmp_path / name).write_text("step 1: a\nstep 5: b\n")
    (tmp_path / "skipped.rank1.log.old").write_text("step 1: a\n")
    counts = [SkippedLog(tmp_path, Ranks(rank, 2, CPU), start=4).count for rank in (1, 0)]
    assert counts == [1, 3]  # its own, and those of ranks 2 and 11
    assert all(lines(path) == ["step 1: a"] for path in tmp_path.iterdir())


def test_lines_of_steps_and_of_scores_carry_what_they_are_given(tmp_path: Path) -> None:
    with RunLog(tmp_path, title="tiny", num_steps=2, tensorboard=False) as log:
        log.scalars(1, {"loss": 2.0, "num_skipped": 3}, samples_per_step=4)
        log.scalars(1, {"accuracy": 0.5})
    first, second = read_log(tmp_path / "metrics.jsonl")
    assert first.keys() == {"step", "time", "loss", "num_skipped", "samples_per_second"}
    assert second.keys() == {"step", "time", "accuracy"} and second["accuracy"] == 0.5


def test_a_log_is_cut_back_to_where_the_run_goes_on(tmp_path: Path) -> None:
    records = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(records) + '\n{"step": 4, "lo')
    RunLog(tmp_path, title="tiny", num_steps=9, start=2, tensorboard=False).__exit__(None, None, None)
    assert [record["step"] for record in read_log(tmp_path / "metrics.jsonl")] == [1, 2, 2]


FULL = (
    r"can not be written \(File too large\); the last checkpoint is kept\. Make room and go on with --resume"
)


def test_a_full_disk_stops_a_run_in_one_line_and_costs_no_line_of_its_log(tmp_path: Path) -> None:
    with RunLog(tmp_path, title="tiny", num_steps=99, tensorboard=False) as log:
        step = 1
        while (tmp_path / "metrics.jsonl").stat().st_size < ROOM - 20:  # the next line is longer
            log.scalars(step, {"loss": 1.0})
            step += 1
        with full_disk(), pytest.raises(LogError, match=FULL) as caught:
            log.scalars(step, {"loss": 2.0})
    assert str(caught.value).startswith(f"{tmp_path}/metrics.jsonl ") and "\n" not in str(caught.value)
    assert [record["step"] for record in read_log(tmp_path / "metrics.jsonl")] == list(range(1, step))
    with RunLog(tmp_path, title="tiny", num_steps=99, start=step - 1, tensorboard=False) as log:
        log.scalars(step, {"loss": 2.0})  # there is room again
    assert [record["step"] for record in read_log(tmp_path / "metrics.jsonl")] == list(range(1, step + 1))


def test_a_list_of_damaged_samples_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    skipped = SkippedLog(tmp_path, Ranks(1, 2, CPU))
    skipped.add(1, ["a.png is damaged"])
    with full_disk(), pytest.raises(LogError, match=rf"skipped\.rank1\.log {FULL}"):
        skipped.add(2, ["b.png is damaged " * ROOM])


def test_tensorboard_on_a_full_disk_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # its writing thread dies loudly
    with full_disk(), pytest.raises(LogError, match=rf"tensorboard {FULL}"):
        with RunLog(tmp_path, title="tiny", num_steps=99) as log:
            for step in range(10):
                log.scalars(step, {f"a_long_name_{number}": 1.0 for number in range(20)})


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(LogError, match=r"metrics\.jsonl can not be written \(File exists\)"):
        RunLog(tmp_path / "run", title="tiny", num_steps=9)
