"""BEiT (arXiv 2106.08254) and BEiT v2 (arXiv 2208.06366): pretraining on pictures alone.

Where the numbers come from, in the official repository: BEiT's are those of the commands in beit/README.md
and of the defaults in run_beit_pretraining.py, BEiT v2's those of the commands in beit2/PRETRAINING.md and of
the defaults in run_beitv2_pretraining.py, each with its datasets.py.

In the commands the learning rate starts from 0 (utils.cosine_scheduler ignores --warmup_lr) and ends at 1e-5.
"""

from __future__ import annotations

from pathlib import Path

from imglish.models.vit.config import RelativePositions, ViTConfig
from imglish.recipes.beit_config import MaskedImageModelingTask
from imglish.recipes.config import RunConfig, ViTClassificationTask
from imglish.recipes.data_config import ClassFolderData, FolderData, WorldStreamData
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

BEIT_RUNS = Path("runs")  # where the fine-tuning looks for the pretraining
TOKENIZER = "vqkd_encoder_base_decoder_3x768x12_clip"  # --tokenizer_model of BEiT v2
_FINAL_LR = 1e-5  # default of --min_lr


def beit_base(*, num_epochs: float = 150) -> RunConfig:
    """BEiT on ImageNet-22k, base size: 83.7 top-1 on ImageNet-1k after fine-tuning.

    BEiT's tokens were DALL-E's, which this package does not have. Here they are VQ-KD's, of which there are
    as many (8192), so the score is no promise.

    Run:      torchrun --nproc-per-node 16 -m imglish train beit_base --data.root data/imagenet22k
    Needs:    16 GPUs of 32 GB in the released code.
    Source:   beit/README.md, "Pre-training BEiT-base on ImageNet-22k".
    """
    return _beit("beit_base", _base(), num_epochs)


def beit_large(*, num_epochs: float = 150) -> RunConfig:
    """BEiT on ImageNet-22k, large size: 86.0 top-1 on ImageNet-1k after fine-tuning.

    Its tokens are those of `beit_base`.

    Run:      torchrun --nnodes 4 --nproc-per-node 16 -m imglish train beit_large --data.root data/imagenet22k
    Source:   no command was published; that of base with the layer scale that the README gives for large.
    """
    return _beit("beit_large", _large(), num_epochs)


def beit2_base(*, num_epochs: float = 1600) -> RunConfig:
    """BEiT v2 on ImageNet-1k, base size: 85.5 top-1 after fine-tuning.

    For 300 epochs the official document has --optimizer.betas 0.9 0.98 and --task.model.drop-path 0.

    Run:      torchrun --nproc-per-node 16 -m imglish train beit2_base --data.root data/imagenet
    Needs:    16 GPUs of 32 GB in the released code.
    Source:   beit2/PRETRAINING.md, base size.
    """
    return _beit2("beit2_base", _base(), early_layers=9, num_epochs=num_epochs)


def beit2_large(*, num_epochs: float = 1600) -> RunConfig:
    """BEiT v2 on ImageNet-1k, large size: 87.3 top-1 after fine-tuning.

    Run:      torchrun --nnodes 4 --nproc-per-node 16 -m imglish train beit2_large --data.root data/imagenet
    Needs:    64 GPUs of 32 GB in the released code.
    Source:   beit2/PRETRAINING.md, large size.
    """
    return _beit2("beit2_large", _large(), early_layers=21, num_epochs=num_epochs)


def beit2_demo(*, num_steps: int = 400) -> RunConfig:
    """BEiT v2 on pictures of the World, with the World's visual tokenizer.

    The sizes are those of the World model; its small pictures are neither cropped nor changed in colour,
    which on the World is what tells things apart.

    Run:      imglish train beit2_demo
    Needs:    2 CPU cores, two to three minutes. Scores: docs/beit.md.
    """
    return RunConfig(
        name="beit2_demo",
        task=MaskedImageModelingTask(
            model=_world("shared"),
            visual_tokenizer="world",
            early_layers=3,
            class_layers=1,
            num_masked=6,
            min_block=2,
            crop_scale=1.0,
            color_jitter=0.0,
            batch_size=64,
        ),
        data=WorldStreamData(),
        optimizer=OptimizerConfig(lr=2e-3),
        schedule=ScheduleConfig(warmup_steps=min(50, num_steps // 10)),
        train=TrainConfig(
            num_steps=num_steps,
            save_every=max(20, num_steps // 2),
            log_every=max(1, num_steps // 40),
            num_workers=1,
            tensorboard=False,
        ),
    )


def beit2_classification_demo(
    *, world: Path = Path("world"), runs: Path = BEIT_RUNS, num_steps: int = 150
) -> RunConfig:
    """The shape of a single thing of the World, told by the ViT of `beit2_demo`.

    Run:      imglish train beit2_classification_demo --data.root world
    Needs:    2 CPU cores, half a minute, and the run of beit2_demo. Scores: docs/beit.md.
    """
    return RunConfig(
        name="beit2_classification_demo",
        task=ViTClassificationTask(model=_world("per_block"), pictures="model", mix=False, batch_size=64),
        data=FolderData(root=world),
        init=str(runs / "beit2_demo"),
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.01),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 5)),
        train=TrainConfig(
            num_steps=num_steps,
            save_every=max(20, num_steps // 4),
            log_every=max(1, num_steps // 40),
            tensorboard=False,
        ),
    )


def _base() -> ViTConfig:
    """Base size; its layer scale and drop path are in every command."""
    return ViTConfig(absolute_positions=False, relative_positions="shared", layer_scale=0.1, drop_path=0.1)


def _large() -> ViTConfig:
    """Large size: 24 blocks, width 1024, 16 heads; layer scale from 1e-5."""
    return ViTConfig(
        width=1024,
        depth=24,
        num_heads=16,
        absolute_positions=False,
        relative_positions="shared",
        layer_scale=1e-5,
        drop_path=0.1,
    )


def _beit(name: str, model: ViTConfig, num_epochs: float) -> RunConfig:
    return RunConfig(
        name=name,
        task=MaskedImageModelingTask(
            model=model,
            visual_tokenizer=TOKENIZER,
            exact=False,
            crop_scale=0.08,  # default of the crop in beit2/transforms.py, which beit's call leaves alone
            color_jitter=0.4,  # beit2/datasets.py calls it the original BEiT's
            pictures="model",  # mean and deviation 0.5, the README's for all but ImageNet-1k
        ),
        data=ClassFolderData(root=Path("data/imagenet22k"), held_out=1),
        optimizer=OptimizerConfig(lr=1.5e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_steps=10_000, final_lr=_FINAL_LR),
        train=TrainConfig(num_epochs=num_epochs, max_grad_norm=3.0, num_workers=10, save_every=5000),
    )


def _beit2(name: str, model: ViTConfig, *, early_layers: int, num_epochs: float) -> RunConfig:
    return RunConfig(
        name=name,
        task=MaskedImageModelingTask(
            model=model,
            visual_tokenizer=TOKENIZER,
            early_layers=early_layers,
            class_layers=2,
            pictures="imagenet",  # --imagenet_default_mean_and_std
        ),
        data=ClassFolderData(),
        optimizer=OptimizerConfig(lr=1.5e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=10, final_lr=_FINAL_LR),
        train=TrainConfig(num_epochs=num_epochs, max_grad_norm=3.0, num_workers=10, save_every=5000),
    )


def _world(relative_positions: RelativePositions) -> ViTConfig:
    """A ViT of the World model's sizes: base's start of layer scale would slow so short a run."""
    return ViTConfig(
        image_size=(64, 64),
        patch_size=16,
        stem="convolutional",
        width=128,
        depth=4,
        num_heads=4,
        absolute_positions=False,
        relative_positions=relative_positions,
    )
