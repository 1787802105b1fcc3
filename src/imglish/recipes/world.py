"""The World model: four stages from nothing to the weights that ship in the package.

The sizes come from measurements (docs/world.md): on two CPU cores a model of 16 patches, width 128 and
depth 4 with a convolutional stem learns shapes soonest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imglish.models.beit3.config import Beit3Config
from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.recipes.config import ContrastiveTask, MaskedDataModelingTask, RunConfig, VisualTokenizerTask
from imglish.recipes.data_config import WorldStreamData
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

WORLD_RUNS = Path("runs/world")  # where the stages look for each other
WORLD_MODEL = Beit3Config(
    image_size=(64, 64),
    patch_size=16,
    stem="convolutional",
    vocab_size=256,
    max_text_tokens=64,
    width=128,
    depth=4,
    num_heads=4,
    feed_forward_width=512,
    split_attention=False,
    sub_norm=False,
    num_fusion_layers=3,
    init="scaled",
)
WORLD_TOKENIZER = VqkdConfig(
    encoder=ViTConfig(
        image_size=(64, 64), patch_size=16, stem="convolutional", width=128, depth=3, num_heads=4
    ),
    decoder_width=128,
    decoder_depth=1,
    decoder_heads=4,
    codebook_size=256,
    codebook_dim=32,
    decay=0.9,
    revive_after=5,
    teacher_dim=128,
)


def world_contrastive(*, num_steps: int = 1000) -> RunConfig:
    """Contrastive teacher: a dual encoder on World scenes, half of the texts terse.

    Run:      imglish train world_contrastive
    Needs:    2 CPU cores, about 10 minutes.
    """
    return RunConfig(
        name="world_contrastive",
        task=ContrastiveTask(model=WORLD_MODEL, batch_size=128),
        data=WorldStreamData(),
        optimizer=OptimizerConfig(lr=1e-3),
        schedule=ScheduleConfig(warmup_steps=min(50, num_steps // 10)),
        train=TrainConfig(
            num_steps=num_steps, save_every=500, evaluate_every=500, log_every=20, num_workers=1
        ),
    )


def world_visual_tokenizer(*, runs: Path = WORLD_RUNS, num_steps: int = 500) -> RunConfig:
    """Visual tokenizer: VQ-KD against the contrastive teacher.

    Run:      imglish train world_visual_tokenizer
    Needs:    2 CPU cores, about 5 minutes.
    """
    return RunConfig(
        name="world_visual_tokenizer",
        task=VisualTokenizerTask(
            tokenizer=WORLD_TOKENIZER, teacher=f"run:{runs / 'contrastive'}", batch_size=64
        ),
        data=WorldStreamData(),
        optimizer=OptimizerConfig(lr=5e-4, betas=(0.9, 0.99), weight_decay=1e-4),
        schedule=ScheduleConfig(warmup_steps=min(50, num_steps // 10)),
        train=TrainConfig(
            num_steps=num_steps, save_every=500, evaluate_every=500, log_every=20, num_workers=1
        ),
    )


def world_masked_data_modeling(*, runs: Path = WORLD_RUNS, num_steps: int = 5000) -> RunConfig:
    """Masked data modelling of pictures, texts and pairs, from the teacher's weights.

    The paper starts from nothing; at this size a start from the contrastive weights saves most of the way.
    Half of the texts of pairs are questions with answers, as Visual Genome's are among the paper's pairs; the
    answers are hidden, half of them to be told at the class token, which nothing else trains in pairs. Most
    pairs keep a whole picture, so that words about hidden things can be learned.

    Run:      imglish train world_masked_data_modeling
    Needs:    2 CPU cores, about 40 minutes.
    """
    return RunConfig(
        name="world_masked_data_modeling",
        task=MaskedDataModelingTask(
            model=WORLD_MODEL,
            visual_tokenizer=str(runs / "visual_tokenizer"),
            num_images=16,
            num_texts=16,
            num_pairs=64,
            min_block=2,
            hide_answers=True,
            clean_share=0.4,
            length_buckets=8,
        ),
        data=WorldStreamData(alt_texts=False, questions=True),
        init=str(runs / "contrastive"),
        optimizer=OptimizerConfig(lr=1e-3),
        schedule=ScheduleConfig(warmup_steps=min(100, num_steps // 10)),
        train=TrainConfig(
            num_steps=num_steps, save_every=500, evaluate_every=1000, log_every=50, num_workers=1
        ),
    )


def world_yes_no(*, runs: Path = WORLD_RUNS, num_steps: int = 3000) -> RunConfig:
    """Masked data modelling once more, with more yes-or-no questions, and judged statements.

    Whether there is a red star is a question of comparing words and picture, and among questions of all kinds
    it is not learned (docs/log.md). Alone it is, so here most texts of questions ask such things, and a third
    of all texts are statements, true or false, about what the picture shows.

    Run:      imglish train world_yes_no
    Needs:    2 CPU cores, about 25 minutes.
    """
    config = world_masked_data_modeling(num_steps=num_steps, runs=runs)
    return replace(
        config,
        name="world_yes_no",
        data=WorldStreamData(
            alt_texts=False,
            questions=True,
            favoured_questions=("exists", "relation"),
            statements=True,
            num_scenes=1_500_000,
        ),
        init=str(runs / "masked_data_modeling"),
        optimizer=OptimizerConfig(lr=5e-4),
        train=replace(config.train, seed=1),
    )
