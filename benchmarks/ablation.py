"""What each part of masked data modelling is worth on the World: one part left out or changed at a time.

    python benchmarks/ablation.py [--out runs/ablation] [--seeds 0 1 2]

Every variant is pretrained for the same number of steps from the same weights, those of the contrastive
teacher (``imglish train world_contrastive``), and fine-tuned on each task with the same recipe; "none" is
fine-tuned from the teacher's weights as they are. A run that is finished is not made again, so the command
goes on where it was stopped. The table goes to docs/results.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tables import spread

from imglish.data.world.files import read_world
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import MaskedDataModelingTask, RunConfig, VisualTokenizerTask
from imglish.recipes.demo_tasks import captioning_demo, retrieval_demo, semantic_segmentation_demo, vqa_demo
from imglish.recipes.pretraining import beit3_demo_pretraining
from imglish.recipes.run_folder import find_run
from imglish.recipes.world import WORLD_RUNS, world_visual_tokenizer

NUM_TRAIN, NUM_VALIDATION = 6000, 500
NUM_STEPS = 250  # of pretraining
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "as in the paper": {},
    "without pairs": {"num_pairs": 0},
    "without texts": {"num_texts": 0},
    "without pictures": {"num_images": 0},
    "random patches": {"masking": "random"},
    "pixel teacher": {"visual_tokenizer": "PIXELS"},
}
TASKS: dict[str, tuple[Callable[..., RunConfig], int]] = {
    "vqa": (vqa_demo, 150),
    "retrieval": (retrieval_demo, 60),
    "captioning": (captioning_demo, 100),
    "segmentation": (semantic_segmentation_demo, 80),
}
SCORES = (
    ("vqa", "vqa/accuracy", "questions"),
    ("retrieval", "retrieval/image_recall_at_1", "text to picture, R@1"),
    ("retrieval", "retrieval/text_recall_at_1", "picture to text, R@1"),
    ("captioning", "caption/things_named", "captions: things named"),
    ("segmentation", "semantic/mean_iou", "mIoU"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--teacher", type=Path, default=WORLD_RUNS, help="folder of the World's stages")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    world = options.out / "world"
    if not world.is_dir():
        write_world(WorldConfig(), world, num_train=NUM_TRAIN, num_validation=NUM_VALIDATION)
    assert read_world(world).counts["train"] == NUM_TRAIN, f"{world} holds another World; delete it"
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in options.variants}
    for seed in options.seeds:
        for variant in options.variants:
            found[variant].append(run_variant(variant, seed, options.teacher, options.out))
    (options.out / "results.json").write_text(json.dumps({"seeds": options.seeds, "scores": found}, indent=1))
    print(table(found))


def run_variant(variant: str, seed: int, teacher: Path, out: Path) -> dict[str, float]:
    """Pretrain and fine-tune; the scores of all tasks, and those of pretraining."""
    folder = out / f"{variant.replace(' ', '_')}_{seed}"
    start, scores = teacher / "contrastive", {}
    if variant != "none":
        config = pretraining(variant, seed, teacher, out)
        scores = train_recipe(config, folder / "pretraining", resume=True)
        start = folder / "pretraining"
    for task, (recipe, num_steps) in TASKS.items():
        config = replace(recipe(world=out / "world", num_steps=num_steps), init=str(start))
        config = replace(config, train=replace(config.train, seed=seed))
        scores |= train_recipe(config, folder / task, resume=True)
    return scores


def pretraining(variant: str, seed: int, teacher: Path, out: Path) -> RunConfig:
    """The demo's pretraining with the change of a variant, from the teacher's weights."""
    config = beit3_demo_pretraining(num_steps=NUM_STEPS)
    assert isinstance(config.task, MaskedDataModelingTask)
    changes = {"visual_tokenizer": str(teacher / "visual_tokenizer"), **VARIANTS[variant]}
    if changes["visual_tokenizer"] == "PIXELS":
        changes["visual_tokenizer"] = str(pixel_tokenizer(out))
    start = teacher / "contrastive"
    return replace(
        config,
        task=replace(config.task, **changes),
        init=str(start),
        text_tokenizer=str(find_run(str(start), "encoder").text_path),
        train=replace(config.train, seed=seed),
    )


def pixel_tokenizer(out: Path) -> Path:
    """The World's visual tokenizer, for the same number of steps, with pixels in place of the teacher."""
    folder = out / "pixel_tokenizer"
    config = world_visual_tokenizer()
    assert isinstance(config.task, VisualTokenizerTask)
    sizes = config.task.tokenizer
    sizes = replace(sizes, teacher_dim=3 * sizes.encoder.patch_size**2)
    train_recipe(
        replace(config, task=replace(config.task, tokenizer=sizes, teacher="pixels")), folder, resume=True
    )
    return folder


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over the seeds, in percent, as a Markdown table."""
    lines = [
        "| percent | " + " | ".join(title for _, _, title in SCORES) + " |",
        "|---|" + "---|" * len(SCORES),
    ]
    for variant, runs in found.items():
        cells = [spread([100 * scores[key] for scores in runs]) for _, key, _ in SCORES]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
