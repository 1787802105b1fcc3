"""What the report concludes follows from the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imglish.evaluation.findings import SHARE_MARGIN, find
from imglish.evaluation.results import MaskedAccuracy, QuestionKind, Score, TaskResult
from tests.evaluation.example_results import example_results


def verdict_of(score: Score) -> str:
    task = TaskResult(name="task", half="weights", how="", scores=(score,))
    return find(replace(example_results(), tasks=(task,))).comparisons[0].verdict


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(0.3, "helped"), (1.01 * SHARE_MARGIN, "helped"), (0.99 * SHARE_MARGIN, "level"), (0.0, "level"),
     (-0.99 * SHARE_MARGIN, "level"), (-1.01 * SHARE_MARGIN, "hurt")],
)  # fmt: skip
def test_a_difference_of_shares_counts_beyond_the_margin(gain: float, verdict: str) -> None:
    assert verdict_of(Score(name="accuracy", pretrained=0.5 + gain, scratch=0.5)) == verdict


def test_other_scores_count_beyond_a_share_of_their_size() -> None:
    assert verdict_of(Score(name="CIDEr", pretrained=102.0, scratch=100.0, unit="number")) == "level"
    assert verdict_of(Score(name="CIDEr", pretrained=106.0, scratch=100.0, unit="number")) == "helped"


def test_only_scores_with_both_models_are_compared() -> None:
    findings = find(example_results())
    assert [comparison.score for comparison in findings.comparisons] == [
        "accuracy",
        "text to picture, R@1",
        "swapped captions rejected",
        "things named",
        "CIDEr",
        "mean IoU",
    ]
    assert (findings.num_helped, findings.num_level, findings.num_hurt) == (4, 1, 1)
    assert findings.num_comparisons == 6


def test_the_kinds_that_gained_most_and_least_are_named() -> None:
    findings = find(example_results())
    assert findings.best_kind is not None and findings.least_kind is not None
    assert findings.kinds[findings.best_kind].score == "colour"
    assert findings.kinds[findings.least_kind].score == "count"


def test_targets_are_met_at_their_value_and_baselines_only_above_it() -> None:
    task = TaskResult(
        name="task",
        half="weights",
        how="",
        scores=(
            Score(name="exact", pretrained=0.5, target=0.5),
            Score(name="short", pretrained=0.49, target=0.5),
        ),
        question_kinds=(QuestionKind(name="count", count=9, prior=0.5, pretrained=0.5),),
    )
    masked = (
        MaskedAccuracy(name="equal", accuracy=0.3, unigram=0.3, count=9),
        MaskedAccuracy(name="above", accuracy=0.31, unigram=0.3, count=9),
    )
    findings = find(replace(example_results(), tasks=(task,), masked=masked))
    met = {target.score: target.met for target in findings.targets}
    assert met == {"equal": False, "above": True, "exact": True, "short": False, "count": False}
    assert (findings.num_met, findings.num_targets) == (2, 5)


def test_the_time_of_each_half_is_that_of_its_stages() -> None:
    stages = example_results().stages
    assert find(example_results()).seconds_of_half == {
        "nothing": sum(stage.seconds for stage in stages[:3]),
        "weights": sum(stage.seconds for stage in stages[3:]),
    }
