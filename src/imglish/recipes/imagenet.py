"""Picture classification on ImageNet in its released form: mean of the patches, linear head."""

from __future__ import annotations

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_large
from imglish.recipes.config import ClassFolderData, ImageClassificationTask, RunConfig
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig


def imagenet_base() -> RunConfig:
    """ImageNet-1k, base size: top-1 85.4 with the official weights.

    Run:      imglish train imagenet_base --data.root data/imagenet
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _imagenet("imagenet_base", beit3_base(drop_path=0.15), lr=7e-4, layer_decay=0.65)


def imagenet_large() -> RunConfig:
    """ImageNet-1k, large size: top-1 87.6 with the official weights.

    Run:      imglish train imagenet_large --data.root data/imagenet
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _imagenet("imagenet_large", beit3_large(drop_path=0.25), lr=2e-4, layer_decay=0.8)


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
