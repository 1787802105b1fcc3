from __future__ import annotations

from typing import Any, Literal

import pytest

from imglish.train.config import OptimizerConfig, ScheduleConfig
from imglish.train.schedule import learning_rate

PEAK = OptimizerConfig(lr=1.0)


def rates(num_steps: int, schedule: ScheduleConfig) -> list[float]:
    return [learning_rate(step, num_steps, PEAK, schedule) for step in range(num_steps)]


def test_a_line_falls_evenly_and_reaches_its_end() -> None:
    found = rates(7, ScheduleConfig(kind="linear", warmup_steps=2, final_lr=0.2))
    assert found == pytest.approx([0.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_a_cosine_stops_one_step_before_its_end() -> None:
    found = rates(4, ScheduleConfig(final_lr=0.0))
    assert found == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])


def test_a_warmup_starts_where_it_is_told() -> None:
    found = rates(9, ScheduleConfig(warmup_steps=5, warmup_lr=0.2, final_lr=0.0))
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_poly_line_is_warmed_up_by_a_factor_and_would_end_after_the_last_step() -> None:
    # Rates of mmcv's PolyLrUpdaterHook with power 1, min_lr 0, warmup_iters 4, warmup_ratio 0.2: the warmup
    # multiplies what the line has come to.
    schedule = ScheduleConfig(kind="poly", warmup_steps=4, warmup_lr=0.2, final_lr=0.0)
    line = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert rates(10, schedule) == pytest.approx([0.2, 0.4 * 0.9, 0.6 * 0.8, 0.8 * 0.7, *line[4:]])


def test_steps_fall_to_a_tenth_after_their_shares_and_are_warmed_up_by_a_factor() -> None:
    # By hand, as mmcv's StepLrUpdaterHook with step [6, 9] of 12, warmup_iters 4, warmup_ratio 0.2.
    schedule = ScheduleConfig(kind="step", warmup_steps=4, warmup_lr=0.2, drops=(6 / 12, 9 / 12))
    warm = [0.2, 0.4, 0.6, 0.8]
    assert rates(12, schedule) == pytest.approx([*warm, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_a_warmup_beyond_a_drop_warms_up_what_is_left() -> None:
    schedule = ScheduleConfig(kind="step", warmup_steps=4, warmup_lr=0.0, drops=(0.5,))
    assert rates(6, schedule) == pytest.approx([0.0, 0.25, 0.5, 0.075, 0.1, 0.1])


def test_the_drops_of_the_3x_schedule_are_those_of_its_epochs() -> None:
    # 7330 steps an epoch: COCO's 117266 pictures with objects, 16 a step.
    schedule = ScheduleConfig(kind="step", drops=(27 / 36, 33 / 36))
    found = {
        step: learning_rate(step, 36 * 7330, PEAK, schedule)
        for step in (27 * 7330 - 1, 27 * 7330, 33 * 7330 - 1, 33 * 7330, 36 * 7330 - 1)
    }
    assert list(found.values()) == pytest.approx([1.0, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "step"},
        {"kind": "cosine", "drops": (0.5,)},
        {"kind": "step", "drops": (0.9, 0.5)},
        {"kind": "step", "drops": (0.5, 0.5)},
        {"kind": "step", "drops": (0.5, 1.0)},
        {"kind": "step", "drops": (0.0,)},
    ],
)
def test_impossible_drops_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="drops"):
        ScheduleConfig(**settings)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 5, 6, 9])
def test_no_warmup_is_too_long_or_too_short(kind: Literal["cosine", "linear"], warmup: int) -> None:
    found = rates(6, ScheduleConfig(kind=kind, warmup_steps=warmup, warmup_lr=0.1, final_lr=0.0))
    assert all(0.0 <= rate <= 1.0 for rate in found)
    assert found[0] == (0.1 if warmup else 1.0)
    if 0 < warmup < 6:
        assert found[warmup] == pytest.approx(1.0)


def test_defaults_are_those_of_the_released_recipes() -> None:
    schedule = ScheduleConfig()
    assert (schedule.kind, schedule.warmup_steps, schedule.warmup_lr) == ("cosine", 0, 0.0)
    assert schedule.final_lr == 1e-6


@pytest.mark.parametrize("name", ["warmup_steps", "warmup_lr", "final_lr"])
def test_negative_settings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be negative; got -1"):
        ScheduleConfig(**{name: -1})  # type: ignore[arg-type]


def test_decaying_layers_and_a_raised_head_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"layer_decay 0\.9 and head_lr_scale 20 exclude each other"):
        OptimizerConfig(layer_decay=0.9, head_lr_scale=20)
    with pytest.raises(ValueError, match="head_lr_scale must be positive; got 0"):
        OptimizerConfig(head_lr_scale=0)
