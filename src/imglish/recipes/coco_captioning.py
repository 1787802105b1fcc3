"""Captioning on COCO, and on COCO for NoCaps."""

from __future__ import annotations

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_giant, beit3_large
from imglish.recipes.config import Augment, CaptioningTask, RunConfig
from imglish.recipes.data_config import KarpathyData
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

_AUGMENT = Augment(crop_scale=0.5, flip=0.5, rand_augment=True)


def coco_captioning_base() -> RunConfig:
    """COCO captions, base size at 480 pixels: CIDEr 133.6 with the official weights.

    Run:      imglish train coco_captioning_base --data.root data/coco
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _captioning("coco_captioning_base", beit3_base(image_size=(480, 480), drop_path=0.1), lr=4e-5)


def coco_captioning_large() -> RunConfig:
    """COCO captions, large size at 480 pixels: CIDEr 143.2 with the official weights.

    Run:      imglish train coco_captioning_large --data.root data/coco
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _captioning("coco_captioning_large", beit3_large(image_size=(480, 480), drop_path=0.1), lr=8e-6)


def nocaps_captioning_base() -> RunConfig:
    """COCO captions for NoCaps, base size: the same with a smaller learning rate.

    Run:      imglish train nocaps_captioning_base --data.root data/coco
    Source:   released recipe (parity FACTS, section 8).
    """
    return _captioning("nocaps_captioning_base", beit3_base(image_size=(480, 480), drop_path=0.1), lr=1e-5)


def coco_captioning_giant() -> RunConfig:
    """COCO captions, the paper's giant at 392 pixels: CIDEr 147.6 in the paper, without CIDEr optimisation.

    Run:      imglish train coco_captioning_giant --data.root data/coco --init RUN
    Source:   paper, appendix B; its weights were never released.
    """
    return RunConfig(
        name="coco_captioning_giant",
        task=CaptioningTask(
            model=beit3_giant(image_size=(392, 392), drop_path=0.3),
            augment=_AUGMENT,
            mask_share=0.6,
            max_text_tokens=32,
            batch_size=256,
        ),
        data=KarpathyData(),
        optimizer=OptimizerConfig(lr=8e-6, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
        schedule=ScheduleConfig(warmup_steps=1600),
        train=TrainConfig(num_steps=16_000, max_grad_norm=0.0, num_workers=8, save_every=2000),
    )


def _captioning(name: str, model: Beit3Config, *, lr: float) -> RunConfig:
    size = name.rpartition("_")[2]
    return RunConfig(
        name=name,
        task=CaptioningTask(
            model=model,
            augment=_AUGMENT,
            mask_share=0.7,
            drop_worst=0.2,
            drop_after=12_000,
            max_text_tokens=32,
            batch_size=256,
        ),
        data=KarpathyData(),
        init=f"beit3_{size}_patch16_224",
        optimizer=OptimizerConfig(lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=1),
        train=TrainConfig(num_epochs=10, max_grad_norm=0.0, num_workers=8, save_every=2000, seed=42),
    )
