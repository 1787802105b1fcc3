"""Parity families of what surrounds BEiT-3 in fine-tuning: rates, masks, position tables."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np

from imglish.data.collate import pad_ids, padding_of
from imglish.data.transforms.answers import normalise_answer
from imglish.data.transforms.text import mask_caption
from imglish.data.vocabulary import AnswerVocabulary
from imglish.models.beit3.weights import resize_positions
from imglish.nn.drop_path import drop_path_rates
from imglish.structures.batches import IGNORE
from imglish.text.tokenizer import with_ends
from imglish.train.config import OptimizerConfig, ScheduleConfig
from imglish.train.schedule import learning_rate
from tests.parity.case import Case, Check, Family, NotCoveredError

# Both sides are draws: about five standard deviations of the difference of two frequencies.
DEVIATIONS = 5.0

_MASK, _VOCAB_SIZE = 999, 1000

_SCHEDULES: dict[str, Literal["cosine", "linear"]] = {"cos": "cosine", "linear": "linear"}


def run_drop_path_rates(case: Case) -> list[Check]:
    """Rates by layer, of settings named ``L<depth>_r<rate>``."""
    checks = []
    for setting, reference in case.json["rates"].items():
        depth, rate = setting.removeprefix("L").split("_r")
        checks.append(Check(setting, drop_path_rates(float(rate), int(depth)), reference, "loss"))
    return checks


def run_schedule(case: Case) -> list[Check]:
    """Learning rates by step, of named settings."""
    checks = []
    for setting, recorded in case.json.items():
        arguments = dict(recorded["args"])
        per_epoch, epochs = arguments.pop("niter_per_ep"), arguments.pop("epochs")
        warmup_epochs = arguments.pop("warmup_epochs", 0)
        warmup = arguments.pop("warmup_steps", -1)
        optimizer = OptimizerConfig(lr=arguments.pop("base_value"))
        kind = arguments.pop("sched_type", "cos")
        if kind not in _SCHEDULES:
            raise NotCoveredError(f"sched_type={kind!r} belongs to no released recipe")
        schedule = ScheduleConfig(
            kind=_SCHEDULES[kind],
            warmup_steps=warmup if warmup > 0 else warmup_epochs * per_epoch,
            warmup_lr=arguments.pop("start_warmup_value", 0.0),
            final_lr=arguments.pop("final_value"),
        )
        if arguments:
            raise NotCoveredError(f"the schedule's {', '.join(arguments)} have no counterpart")
        steps = epochs * per_epoch
        ours = [learning_rate(step, steps, optimizer, schedule) for step in range(steps)]
        checks.append(Check(setting, ours, recorded["values"], "loss"))
    return checks


def run_position_table(case: Case) -> list[Check]:
    """The vision position table at another picture size."""
    patch = case.config["patch"]
    old, new = (case.config[name] // patch for name in ("src", "dst"))
    return [
        Check(
            call.name,
            resize_positions(call.inputs["table"], (old, old), (new, new)),
            call.outputs["table"],
            "forward",
        )
        for call in case.calls()
    ]


def run_caption_masking(case: Case) -> list[Check]:
    """How many words are hidden, where, and by what; padded text segments."""
    rng = np.random.default_rng(0)
    expected = case.json
    checks = []
    for share, counts in expected["masked_count"].items():
        hidden = {n: sum(_draw(int(n), float(share), rng)[0]) for n in counts}
        checks.append(Check(f"masked_count {share}", hidden, counts, "integer"))
    draws, n = expected["stat_draws"], expected["stat_num_tokens"]
    drawn = [_draw(n, expected["stat_mask_prob"], rng) for _ in range(draws)]
    frequency = np.mean([hidden for hidden, _ in drawn], axis=0)
    fates = Counter(fate for _, replaced in drawn for fate in replaced)
    reference = np.array(expected["position_frequency"])
    fractions = expected["replacement_fractions"]
    total = sum(fates.values())
    noise = DEVIATIONS * (0.5 / draws) ** 0.5  # sqrt(2 p (1 - p) / draws), p = 1/2 at worst
    checks.append(Check("position_frequency", frequency, reference, "statistic", tolerance=noise))
    checks.append(Check("first position", float(frequency[0]), float(reference[0]), "integer"))
    noise = DEVIATIONS * (0.5 / total) ** 0.5
    ours = [fates[fate] / total for fate in fractions]
    checks.append(
        Check("replacement_fractions", ours, list(fractions.values()), "statistic", tolerance=noise)
    )
    for example in expected["text_segment_examples"]:
        checks += _segment_checks(example)
    return checks


def _draw(num_tokens: int, share: float, rng: np.random.Generator) -> tuple[list[bool], list[str]]:
    """Where a caption hides words, and what became of each hidden word."""
    caption = [0, *range(10, 8 + num_tokens), 2]
    masked = mask_caption(caption, share=share, mask_id=_MASK, vocab_size=_VOCAB_SIZE, rng=rng)
    fates = [
        "mask" if new == _MASK else "same" if new == target else "random"
        for new, target in zip(masked.token_ids, masked.targets, strict=True)
        if target != IGNORE
    ]
    return [target != IGNORE for target in masked.targets], fates


def _segment_checks(example: dict[str, Any]) -> list[Check]:
    count, length = example["n_tokens_in"], example["max_len"]
    ids = with_ends(range(10, 10 + count), length)
    longest = [0] * length  # a second row, so that the batch is padded to the full length
    name = f"segment of {count}"
    return [
        Check(name, pad_ids([ids, longest])[0], example["tokens"], "integer"),
        Check(f"{name}: padding", padding_of([ids, longest])[0], example["padding_mask"], "integer"),
        Check(f"{name}: length", len(ids), example["num_tokens"], "integer"),
    ]


def run_answers(case: Case) -> list[Check]:
    """Normal forms of answers, and the score of an answer by how many people gave it."""
    checks = [
        Check(f"normal form of {answer!r}", normalise_answer(answer), reference, "integer")
        for answer, reference in case.json["pairs"]
    ]
    vocabulary = AnswerVocabulary(("yes", "no"))
    for count, reference in case.json["score_by_occurrences"].items():
        scores = vocabulary.scores(["yes"] * int(count))
        checks.append(Check(f"score of {count} people", scores, [reference, 0.0], "loss"))
    return checks


def _is_schedule(case: Case) -> bool:
    settings = list(case.json.values())
    return all(isinstance(x, dict) and x.keys() == {"args", "values"} for x in settings) and bool(settings)


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: "rates" in case.json, run_drop_path_rates),
    Family(_is_schedule, run_schedule),
    Family(lambda case: {"pairs", "score_by_occurrences"} <= case.json.keys(), run_answers),
    Family(lambda case: "masked_count" in case.json, run_caption_masking),
    Family(
        lambda case: "load_model_and_may_interpolate" in case.cls and {"src", "dst"} <= case.config.keys(),
        run_position_table,
    ),
)
