"""What masked pretraining is worth: each World task from the World model's weights and from scratch.

    python benchmarks/pretraining_gain.py [--out runs/gain] [--seeds 0 1 2]

Both take the same number of steps of the same recipe, on the same World, once for each seed. A run that is
finished is not made again, so the command goes on where it was stopped. The table goes to docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from tables import spread

from imglish.data.world.files import read_world
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import RunConfig
from imglish.recipes.demo_tasks import (
    captioning_demo,
    from_scratch,
    nlvr2_demo,
    retrieval_demo,
    vqa_demo,
)
from imglish.recipes.run_folder import find_run

NUM_TRAIN, NUM_VALIDATION = 6000, 500


class Measured(NamedTuple):
    """A score of a task: its title, its key among the run's scores, and what a guess gets."""

    task: str
    title: str
    key: str
    chance: str


RECIPES: dict[str, Callable[..., RunConfig]] = {
    "vqa": vqa_demo,
    "nlvr2": nlvr2_demo,
    "captioning": captioning_demo,
    "retrieval": retrieval_demo,
}
SCORES = (
    Measured("vqa", "questions: accuracy", "vqa/accuracy", ""),
    Measured("vqa", "questions of existence", "vqa/accuracy/exists", ""),
    Measured("nlvr2", "statements about two pictures: accuracy", "nlvr2/accuracy", "50.0"),
    Measured("captioning", "captions: things named", "caption/things_named", ""),
    Measured("captioning", "captions: CIDEr", "caption/cider", ""),
    Measured("retrieval", "text to picture, R@1 of 500", "retrieval/image_recall_at_1", "0.2"),
    Measured("retrieval", "picture to text, R@1 of 500", "retrieval/text_recall_at_1", "0.2"),
    Measured("retrieval", "shape swaps rejected", "retrieval/rejected_shape_swaps", "50.0"),
    Measured("retrieval", "colour swaps rejected", "retrieval/rejected_colour_swaps", "50.0"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gain"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=sorted(RECIPES), default=list(RECIPES))
    options = parser.parse_args()
    world = options.out / "world"
    if not world.is_dir():
        write_world(WorldConfig(), world, num_train=NUM_TRAIN, num_validation=NUM_VALIDATION)
    assert read_world(world).counts["train"] == NUM_TRAIN, f"{world} holds another World; delete it"
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for task in options.tasks:
        found[task] = {"pretrained": [], "scratch": []}
        for seed in options.seeds:
            for start in found[task]:
                config = run_config(task, start, seed, world)
                folder = options.out / f"{task}_{start}_{seed}"
                found[task][start].append(train_recipe(config, folder, resume=True))
    record = {"seeds": options.seeds, "world": asdict(WorldConfig()), "scores": found}
    (options.out / "results.json").write_text(json.dumps(record, indent=1))
    print(table(found))


def run_config(task: str, start: str, seed: int, world: Path) -> RunConfig:
    """The recipe of ``task`` from pretrained weights, or from scratch."""
    config = RECIPES[task](world=world)
    if start == "scratch":
        config = from_scratch(config, find_run("world", "encoder").text_path)
    return replace(config, train=replace(config.train, seed=seed))


def table(found: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Mean and standard deviation over the seeds, in percent, as a Markdown table."""
    lines = [
        "| percent | from the World model | from scratch | difference | chance |",
        "|---|---|---|---|---|",
    ]
    for score in SCORES:
        if score.task not in found:
            continue
        ours, scratch = (
            [100 * scores[score.key] for scores in found[score.task][start]]
            for start in ("pretrained", "scratch")
        )
        gain = statistics.mean(ours) - statistics.mean(scratch)
        lines.append(
            f"| {score.title} | {spread(ours)} | {spread(scratch)} | {gain:+.1f} | {score.chance or '-'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
