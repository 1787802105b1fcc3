"""Visual reasoning on NLVR2."""

from __future__ import annotations

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_giant, beit3_large
from imglish.recipes.config import Augment, Nlvr2Task, RunConfig
from imglish.recipes.data_config import Nlvr2Data
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig


def nlvr2_base() -> RunConfig:
    """NLVR2, base size: 84.4 test-P with the official weights.

    Run:      imglish train nlvr2_base --data.root data/nlvr2
              From beit3_base_indomain_patch16_224 (--init) the released rate is 5e-4 (--optimizer.lr).
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _nlvr2("nlvr2_base", beit3_base(drop_path=0.2), lr=7e-4, layer_decay=0.65)


def nlvr2_large() -> RunConfig:
    """NLVR2, large size: 89.4 test-P with the official weights.

    Run:      imglish train nlvr2_large --data.root data/nlvr2
              From beit3_large_indomain_patch16_224 (--init) the released rate is 1e-4 (--optimizer.lr).
    Needs:    8 GPUs of 32 GB in the released code.
    Source:   released recipe (parity FACTS, section 8); the score from its documents.
    """
    return _nlvr2("nlvr2_large", beit3_large(drop_path=0.2), lr=3e-4, layer_decay=0.85)


def nlvr2_giant() -> RunConfig:
    """NLVR2, the paper's giant: 92.58 test-P in the paper; its weights were never released.

    Run:      imglish train nlvr2_giant --data.root data/nlvr2 --init RUN
    Source:   paper, appendix B.
    """
    model = beit3_giant(drop_path=0.4)
    return _nlvr2("nlvr2_giant", model, lr=1e-3, layer_decay=0.8, weight_decay=0.05, init="")


def _nlvr2(
    name: str,
    model: Beit3Config,
    *,
    lr: float,
    layer_decay: float,
    weight_decay: float = 0.2,
    init: str | None = None,
) -> RunConfig:
    size = name.removeprefix("nlvr2_")
    return RunConfig(
        name=name,
        task=Nlvr2Task(
            model=model, augment=Augment(crop_scale=0.5, flip=0.5), max_text_tokens=64, batch_size=256
        ),
        data=Nlvr2Data(),
        init=f"beit3_{size}_patch16_224" if init is None else init,
        optimizer=OptimizerConfig(
            lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, layer_decay=layer_decay
        ),
        schedule=ScheduleConfig(warmup_epochs=5),
        train=TrainConfig(num_epochs=20, max_grad_norm=0.0, num_workers=8, save_every=1000, seed=42),
    )
