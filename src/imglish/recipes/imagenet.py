"""Picture classification on ImageNet: the released form, and the paper's, which was never released."""

from __future__ import annotations

from pathlib import Path

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_giant, beit3_large
from imglish.recipes.config import Augment, ClassNamesTask, ImageClassificationTask, RunConfig
from imglish.recipes.data_config import ClassFolderData
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

# The paper does not tell how the giant's pictures were augmented here.
_CROPPED = Augment(crop_scale=0.08, flip=0.5, rand_augment=True)


def imagenet_base() -> RunConfig:
    """ImageNet-1k, base size: top-1 85.40, top-5 97.63 with the official weights.

    Run:      imglish train imagenet_base --data.root data/imagenet
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _imagenet("imagenet_base", beit3_base(drop_path=0.15), lr=7e-4, layer_decay=0.65)


def imagenet_large() -> RunConfig:
    """ImageNet-1k, large size: top-1 87.58, top-5 98.33 with the official weights.

    Run:      imglish train imagenet_large --data.root data/imagenet
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _imagenet("imagenet_large", beit3_large(drop_path=0.25), lr=2e-4, layer_decay=0.8)


def imagenet21k_giant() -> RunConfig:
    """ImageNet-21k, the paper's giant: a dual encoder on class names, the stage before ImageNet-1k.

    ImageNet-21k has no validation split: one picture of each class is left out of training and scored.

    Run:      imglish train imagenet21k_giant --data.root data/imagenet21k --init RUN
    Source:   paper, section 3.2 and appendix B. How many names compete in a step (4096) is ours.
    """
    return RunConfig(
        name="imagenet21k_giant",
        task=ClassNamesTask(
            model=beit3_giant(drop_path=0.4), augment=_CROPPED, max_names=4096, batch_size=16_384
        ),
        data=ClassFolderData(root=Path("data/imagenet21k"), held_out=1),
        optimizer=OptimizerConfig(lr=5e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05, layer_decay=0.85),
        schedule=ScheduleConfig(warmup_epochs=5),
        train=TrainConfig(num_epochs=50, max_grad_norm=0.0, num_workers=8, save_every=1000),
    )


def imagenet_giant() -> RunConfig:
    """ImageNet-1k, the paper's giant at 336 pixels: top-1 89.6 in the paper, by the names of the classes.

    Run:      imglish train imagenet_giant --data.root data/imagenet --init RUN
    Source:   paper, section 3.2 and appendix B, after ImageNet-21k; its weights were never released.
    """
    return RunConfig(
        name="imagenet_giant",
        task=ClassNamesTask(
            model=beit3_giant(image_size=(336, 336), drop_path=0.4), augment=_CROPPED, batch_size=2048
        ),
        data=ClassFolderData(),
        optimizer=OptimizerConfig(lr=3e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, layer_decay=0.95),
        schedule=ScheduleConfig(warmup_epochs=3),
        train=TrainConfig(num_epochs=15, max_grad_norm=0.0, num_workers=8, save_every=1000),
    )


def _imagenet(name: str, model: Beit3Config, *, lr: float, layer_decay: float) -> RunConfig:
    return RunConfig(
        name=name,
        task=ImageClassificationTask(model=model, batch_size=1024),
        data=ClassFolderData(),
        init=f"beit3_{name.removeprefix('imagenet_')}_patch16_224",
        optimizer=OptimizerConfig(
            lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, layer_decay=layer_decay
        ),
        schedule=ScheduleConfig(warmup_epochs=5),
        train=TrainConfig(num_epochs=50, max_grad_norm=0.0, num_workers=8, save_every=5000, seed=42),
    )
