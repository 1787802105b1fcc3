"""What follows from the numbers of a demo run: where pretraining helped, and which targets are met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imglish.evaluation.results import DemoResults, Half, MaskedAccuracy, QuestionKind, Score

# One seed, some hundred evaluated samples: smaller differences are not told apart from luck.
SHARE_MARGIN = 0.02
RELATIVE_MARGIN = 0.05  # for scores that are no shares

Verdict = Literal["helped", "level", "hurt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One score of half (b), pretrained against from scratch; ``gain`` is the first minus the second."""

    task: str
    score: str
    pretrained: float
    scratch: float
    gain: float
    unit: Literal["share", "number"]
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A score with a target, and whether it is met."""

    half: Half
    task: str
    score: str
    value: float
    target: float
    note: str
    unit: Literal["share", "number"]
    met: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """All that is derived from a run's numbers.

    Args:
        margin_points: Differences of shares below this many percentage points are called level.
        comparisons: Scores that have both models, tasks in order, helped or not.
        kinds: The same for each kind of question.
        best_kind: Index of the kind that gained most; None without kinds.
        least_kind: Index of the kind that gained least.
        num_comparisons: How many ``comparisons`` there are.
        num_helped: Of ``comparisons``, those where pretraining helped.
        num_level: Those within the margin.
        num_hurt: Those where it hurt.
        targets: Every score that has a target, every masked accuracy against its unigram baseline and every
            kind of question against its prior.
        num_targets: How many targets there are.
        num_met: Those that are met.
        seconds_of_half: Time of the stages of each half in sum; they may run beside each other.
    """

    margin_points: float
    comparisons: tuple[Comparison, ...]
    kinds: tuple[Comparison, ...]
    best_kind: int | None
    least_kind: int | None
    num_comparisons: int
    num_helped: int
    num_level: int
    num_hurt: int
    targets: tuple[Target, ...]
    num_targets: int
    num_met: int
    seconds_of_half: dict[Half, float]


def find(results: DemoResults) -> Findings:
    """Derive the findings of a run; a pure function of its numbers."""
    comparisons = tuple(
        comparison
        for task in results.tasks
        if task.half == "weights"
        for score in task.scores
        if (comparison := _compare(task.name, score)) is not None
    )
    kinds = tuple(
        comparison
        for task in results.tasks
        for kind in task.question_kinds
        if (comparison := _compare("Questions", _score_of(kind))) is not None
    )
    targets = _targets(results)
    by_gain = sorted(range(len(kinds)), key=lambda i: kinds[i].gain)
    verdicts = [comparison.verdict for comparison in comparisons]
    return Findings(
        margin_points=100 * SHARE_MARGIN,
        comparisons=comparisons,
        kinds=kinds,
        best_kind=by_gain[-1] if kinds else None,
        least_kind=by_gain[0] if kinds else None,
        num_comparisons=len(comparisons),
        num_helped=verdicts.count("helped"),
        num_level=verdicts.count("level"),
        num_hurt=verdicts.count("hurt"),
        targets=targets,
        num_targets=len(targets),
        num_met=sum(target.met for target in targets),
        seconds_of_half={
            "nothing": sum(stage.seconds for stage in results.stages if stage.half == "nothing"),
            "weights": sum(stage.seconds for stage in results.stages if stage.half == "weights"),
        },
    )


def _compare(task: str, score: Score) -> Comparison | None:
    """Pretrained against scratch, or None where there is no scratch value."""
    if score.scratch is None:
        return None
    gain = score.pretrained - score.scratch
    margin = SHARE_MARGIN if score.unit == "share" else RELATIVE_MARGIN * abs(score.scratch)
    verdict: Verdict = "helped" if gain > margin else "hurt" if gain < -margin else "level"
    return Comparison(
        task=task,
        score=score.name,
        pretrained=score.pretrained,
        scratch=score.scratch,
        gain=gain,
        unit=score.unit,
        verdict=verdict,
    )


def _score_of(kind: QuestionKind) -> Score:
    return Score(name=kind.name, pretrained=kind.pretrained, scratch=kind.scratch)


def _targets(results: DemoResults) -> tuple[Target, ...]:
    """Targets of the scores; masked accuracies and kinds of question must beat their baselines."""
    masked = [_beats_unigram(accuracy) for accuracy in results.masked]
    scores = [
        Target(
            half=task.half,
            task=task.name,
            score=score.name,
            value=score.pretrained,
            target=score.target,
            note=score.target_note,
            unit=score.unit,
            met=score.pretrained >= score.target,
        )
        for task in results.tasks
        for score in task.scores
        if score.target is not None
    ]
    kinds = [
        Target(
            half="weights",
            task="Questions",
            score=kind.name,
            value=kind.pretrained,
            target=kind.prior,
            note="above its commonest answer",
            unit="share",
            met=kind.pretrained > kind.prior,
        )
        for task in results.tasks
        for kind in task.question_kinds
    ]
    return (*masked, *scores, *kinds)


def _beats_unigram(accuracy: MaskedAccuracy) -> Target:
    return Target(
        half="nothing",
        task="Hidden tokens",
        score=accuracy.name,
        value=accuracy.accuracy,
        target=accuracy.unigram,
        note="above the commonest token",
        unit="share",
        met=accuracy.accuracy > accuracy.unigram,
    )
