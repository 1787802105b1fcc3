"""Image-text retrieval on COCO and Flickr30k, and the contrastive fine-tuning that goes before it."""

from __future__ import annotations

from pathlib import Path

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_giant, beit3_large
from imglish.recipes.config import Augment, ContrastiveTask, RetrievalTask, RunConfig
from imglish.recipes.data_config import FolderData, KarpathyData
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

_COCO = KarpathyData()
_FLICKR30K = KarpathyData(
    root=Path("data/flickr30k"), annotations="dataset_flickr30k.json", images="flickr30k-images"
)


def coco_retrieval_base() -> RunConfig:
    """COCO retrieval, base size at 384 pixels: R@1 61.4 to pictures, 79.1 to texts by official weights.

    Run:      imglish train coco_retrieval_base --data.root data/coco
    Needs:    16 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _retrieval("coco_retrieval_base", _base(), lr=2e-4, layer_decay=0.65, epochs=15, warmup=3)


def coco_retrieval_large() -> RunConfig:
    """COCO retrieval, large size at 384 pixels: R@1 63.4 to pictures, 82.1 to texts by official weights.

    Run:      imglish train coco_retrieval_large --data.root data/coco
    Needs:    32 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _retrieval("coco_retrieval_large", _large(), lr=5e-5, layer_decay=0.85, epochs=15, warmup=3)


def flickr30k_retrieval_base() -> RunConfig:
    """Flickr30k retrieval, base size at 384 pixels: R@1 86.2 to pictures, 96.3 to texts by official weights.

    Run:      imglish train flickr30k_retrieval_base --data.root data/flickr30k
    Needs:    16 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _retrieval("flickr30k_retrieval_base", _base(), lr=1e-4, layer_decay=0.65, epochs=20, warmup=5)


def flickr30k_retrieval_large() -> RunConfig:
    """Flickr30k retrieval, large size at 384 pixels: R@1 88.1 to pictures, 97.2 to texts by official weights.

    Run:      imglish train flickr30k_retrieval_large --data.root data/flickr30k
    Needs:    32 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _retrieval("flickr30k_retrieval_large", _large(), lr=5e-5, layer_decay=0.85, epochs=20, warmup=5)


def coco_retrieval_giant() -> RunConfig:
    """COCO retrieval, the paper's giant at 420 pixels: R@1 67.2 text to picture, 84.8 picture to text.

    Run:      imglish train coco_retrieval_giant --data.root data/coco --init RUN
    Source:   paper, appendix B, after intermediate contrastive fine-tuning; its weights were never released.
    """
    return _retrieval("coco_retrieval_giant", _giant(), lr=1e-5, layer_decay=0.95, epochs=15, warmup=3)


def flickr30k_retrieval_giant() -> RunConfig:
    """Flickr30k retrieval, the paper's giant at 420 pixels: R@1 90.3 text to picture, 98.0 picture to text.

    Run:      imglish train flickr30k_retrieval_giant --data.root data/flickr30k --init RUN
    Source:   paper, appendix B, after intermediate contrastive fine-tuning; its weights were never released.
    """
    return _retrieval("flickr30k_retrieval_giant", _giant(), lr=1e-5, layer_decay=0.95, epochs=20, warmup=5)


def contrastive_base() -> RunConfig:
    """Intermediate contrastive fine-tuning of the base size; so was beit3_base_itc_patch16_224 made.

    Run:      imglish train contrastive_base --data.root PAIRS
    Source:   the paper's numbers for the giant (appendix A): those of the released weights are not published.
    """
    return _contrastive("contrastive_base", beit3_base(drop_path=0.3), init="beit3_base_patch16_224")


def contrastive_large() -> RunConfig:
    """Intermediate contrastive fine-tuning of the large size; so was beit3_large_itc_patch16_224 made.

    Run:      imglish train contrastive_large --data.root PAIRS
    Source:   the paper's numbers for the giant (appendix A): those of the released weights are not published.
    """
    return _contrastive("contrastive_large", beit3_large(drop_path=0.3), init="beit3_large_patch16_224")


def contrastive_giant() -> RunConfig:
    """Intermediate contrastive fine-tuning of the paper's giant on its pretraining pairs.

    Run:      imglish train contrastive_giant --data.root PAIRS --init RUN
    Source:   paper, appendix A: 5 epochs of 21M pairs, batch 16k.
    """
    return _contrastive("contrastive_giant", beit3_giant(drop_path=0.3), init="")


def _base() -> Beit3Config:
    return beit3_base(image_size=(384, 384), drop_path=0.2)


def _large() -> Beit3Config:
    return beit3_large(image_size=(384, 384), drop_path=0.2)


def _giant() -> Beit3Config:
    return beit3_giant(image_size=(420, 420), drop_path=0.3)


def _retrieval(
    name: str, model: Beit3Config, *, lr: float, layer_decay: float, epochs: int, warmup: int
) -> RunConfig:
    size = name.rpartition("_")[2]
    return RunConfig(
        name=name,
        task=RetrievalTask(
            model=model,
            augment=Augment(crop_scale=0.5, flip=0.5),  # unlike for questions and captions, no RandAugment
            max_text_tokens=64,
            batch_size=3072,
        ),
        data=_COCO if name.startswith("coco") else _FLICKR30K,
        init="" if size == "giant" else f"beit3_{size}_itc_patch16_224",
        optimizer=OptimizerConfig(
            lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, layer_decay=layer_decay
        ),
        schedule=ScheduleConfig(warmup_epochs=warmup),
        train=TrainConfig(num_epochs=epochs, max_grad_norm=0.0, num_workers=8, save_every=500, seed=42),
    )


def _contrastive(name: str, model: Beit3Config, *, init: str) -> RunConfig:
    return RunConfig(
        name=name,
        task=ContrastiveTask(model=model, max_text_tokens=64, batch_size=16_384),
        data=FolderData(root=Path("data/pairs")),
        init=init,
        optimizer=OptimizerConfig(lr=3e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, layer_decay=0.95),
        schedule=ScheduleConfig(warmup_epochs=1),
        train=TrainConfig(num_epochs=5, max_grad_norm=0.0, num_workers=8, save_every=500),
    )
