"""Captioning on COCO, and on COCO for NoCaps."""

from __future__ import annotations

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_giant, beit3_large
from imglish.recipes.config import Augment, CaptioningTask, RunConfig
from imglish.recipes.data_config import KarpathyData, NocapsData
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

_AUGMENT = Augment(crop_scale=0.5, flip=0.5, rand_augment=True)


def coco_captioning_base() -> RunConfig:
    """COCO captions, base size at 480 pixels: CIDEr 133.6 on the test split with the official weights.

    Run:      imglish train coco_captioning_base --data.root data/coco
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _captioning("coco_captioning_base", _base(), KarpathyData(), lr=4e-5)


def coco_captioning_large() -> RunConfig:
    """COCO captions, large size at 480 pixels: CIDEr 143.2 on the test split with the official weights.

    Run:      imglish train coco_captioning_large --data.root data/coco
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _captioning("coco_captioning_large", _large(), KarpathyData(), lr=8e-6)


def nocaps_captioning_base() -> RunConfig:
    """NoCaps by COCO's captions, base size: CIDEr 104.4 on the validation split with the official weights.

    Run:      imglish train nocaps_captioning_base --data.root data/nocaps --data.coco data/coco
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _captioning("nocaps_captioning_base", _base(), NocapsData(), lr=1e-5)


def nocaps_captioning_large() -> RunConfig:
    """NoCaps by COCO's captions, large size: CIDEr 120.2 on the validation split with the official weights.

    Run:      imglish train nocaps_captioning_large --data.root data/nocaps --data.coco data/coco
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _captioning("nocaps_captioning_large", _large(), NocapsData(), lr=8e-6)


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


def _base() -> Beit3Config:
    return beit3_base(image_size=(480, 480), drop_path=0.1)


def _large() -> Beit3Config:
    return beit3_large(image_size=(480, 480), drop_path=0.1)


def _captioning(name: str, model: Beit3Config, data: KarpathyData | NocapsData, *, lr: float) -> RunConfig:
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
        data=data,
        init=f"beit3_{size}_patch16_224",
        optimizer=OptimizerConfig(lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=1),
        train=TrainConfig(num_epochs=10, max_grad_norm=0.0, num_workers=8, save_every=2000, seed=42),
    )
