"""Visual tokenizers of BEiT v2: VQ-KD at full size on ImageNet, and one for the World.

The numbers are those of the released training (microsoft/unilm, ``beit2/TOKENIZER.md``, and the defaults of
``beit2/run_vqkd_training.py`` and ``beit2/datasets.py``), the sizes those of parity FACTS, section 10.
The rate there is 5e-5 for each 128 pictures of a batch; 8 GPUs with 64 pictures each make it 2e-4. Scored
pictures are squashed here; there the middle was cut out, so scores differ a little from theirs.
"""

from __future__ import annotations

from pathlib import Path

from imglish.models.vqkd.config import VqkdConfig
from imglish.recipes.config import RunConfig, VisualTokenizerTask
from imglish.recipes.data_config import ClassFolderData, WorldStreamData
from imglish.recipes.world import WORLD_TOKENIZER
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

CLIP = "timm:vit_base_patch16_clip_quickgelu_224.openai"
DINO = "timm:vit_base_patch16_224.dino"


def vqkd_base_clip() -> RunConfig:
    """Visual tokenizer of BEiT v2, taught by CLIP, 3-layer decoder: 97 % of the codes in use.

    Run:      imglish train vqkd_base_clip --data.root data/imagenet
    Needs:    8 GPUs of 32 GB in the released code; the teacher's weights come from timm.
    Source:   vqkd_encoder_base_decoder_3x768x12_clip of beit2/TOKENIZER.md.
    """
    return _vqkd("vqkd_base_clip", CLIP, teacher_dim=512, decoder_depth=3)


def vqkd_base_clip_decoder1() -> RunConfig:
    """Visual tokenizer of BEiT v2, taught by CLIP, 1-layer decoder: all codes in use.

    Run:      imglish train vqkd_base_clip_decoder1 --data.root data/imagenet
    Needs:    8 GPUs of 32 GB in the released code; the teacher's weights come from timm.
    Source:   vqkd_encoder_base_decoder_1x768x12_clip of beit2/TOKENIZER.md.
    """
    return _vqkd("vqkd_base_clip_decoder1", CLIP, teacher_dim=512, decoder_depth=1)


def vqkd_base_dino() -> RunConfig:
    """Visual tokenizer of BEiT v2, taught by DINO, 3-layer decoder; none was released.

    Run:      imglish train vqkd_base_dino --data.root data/imagenet
    Needs:    8 GPUs of 32 GB in the released code; the teacher's weights come from timm.
    Source:   as vqkd_base_dino_decoder1, with the decoder of vqkd_base_clip.
    """
    return _vqkd("vqkd_base_dino", DINO, teacher_dim=768, decoder_depth=3)


def vqkd_base_dino_decoder1() -> RunConfig:
    """Visual tokenizer of BEiT v2, taught by DINO, 1-layer decoder: all codes in use.

    Run:      imglish train vqkd_base_dino_decoder1 --data.root data/imagenet
    Needs:    8 GPUs of 32 GB in the released code; the teacher's weights come from timm.
    Source:   vqkd_encoder_base_decoder_1x768x12_dino of beit2/TOKENIZER.md.
    """
    return _vqkd("vqkd_base_dino_decoder1", DINO, teacher_dim=768, decoder_depth=1)


def vqkd_demo(*, num_steps: int = 200) -> RunConfig:
    """A small visual tokenizer on the World, taught by the weights in the package.

    Run:      imglish train vqkd_demo
    Needs:    2 CPU cores, about 2 minutes.
    """
    return RunConfig(
        name="vqkd_demo",
        task=VisualTokenizerTask(tokenizer=WORLD_TOKENIZER, teacher="world", batch_size=64),
        data=WorldStreamData(),
        optimizer=OptimizerConfig(lr=5e-4, betas=(0.9, 0.99), weight_decay=1e-4),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 10)),
        train=TrainConfig(num_steps=num_steps, log_every=20, num_workers=1),
    )


def _vqkd(name: str, teacher: str, *, teacher_dim: int, decoder_depth: int) -> RunConfig:
    return RunConfig(
        name=name,
        task=VisualTokenizerTask(
            tokenizer=VqkdConfig(decoder_depth=decoder_depth, teacher_dim=teacher_dim),
            teacher=teacher,
            crop_scale=0.08,
            flip=0.5,
            batch_size=512,
        ),
        data=ClassFolderData(root=Path("data/imagenet")),
        optimizer=OptimizerConfig(lr=2e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=1e-4),
        schedule=ScheduleConfig(warmup_epochs=10, final_lr=1e-5),
        train=TrainConfig(num_epochs=100, max_grad_norm=0.0, num_workers=10, save_every=2500),
    )
