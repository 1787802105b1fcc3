"""Pretraining of BEiT-3 by masked data modelling of pictures, texts and pairs (section 2.2).

The numbers are those of the paper's giant (table 11 and section 2). The pretraining of the released base and
large was never published: here they are trained as the giant is, in the released architecture.
"""

from __future__ import annotations

from dataclasses import replace

from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_giant, beit3_large
from imglish.recipes.config import MaskedDataModelingTask, RunConfig
from imglish.recipes.data_config import ShardsData, WorldStreamData
from imglish.recipes.world import WORLD_MODEL
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

TOKENIZER = "vqkd_encoder_base_decoder_3x768x12_clip"  # of BEiT v2, with 8192 codes, as in the paper
CONTEXT = 512  # tokens that documents are packed to; the paper does not say
DATA = ShardsData(images=("data/images",), texts=("data/texts",), pairs=("data/pairs",))


def beit3_base_pretraining() -> RunConfig:
    """Base size, pretrained as the paper's giant.

    Run:      torchrun --nproc-per-node 8 -m imglish train beit3_base_pretraining --train.grad-accumulation 2
    Needs:    imglish plan beit3_base_pretraining --gpus 8 --train.grad-accumulation 2
    Source:   paper, table 11; sizes of the released model.
    """
    return _pretraining("beit3_base_pretraining", replace(beit3_base(drop_path=0.1), init="paper"))


def beit3_large_pretraining() -> RunConfig:
    """Large size, pretrained as the paper's giant.

    Run:      torchrun --nnodes 4 --nproc-per-node 8 -m imglish train beit3_large_pretraining
    Needs:    imglish plan beit3_large_pretraining --gpus 32
    Source:   paper, table 11; sizes of the released model.
    """
    return _pretraining("beit3_large_pretraining", replace(beit3_large(drop_path=0.1), init="paper"))


def beit3_giant_pretraining() -> RunConfig:
    """The paper's giant: 1.9B parameters, a million steps of 2048 pictures, 2048 texts and 2048 pairs.

    Run:      torchrun --nnodes 32 --nproc-per-node 8 -m imglish train beit3_giant_pretraining
    Needs:    imglish plan beit3_giant_pretraining --gpus 256
    Source:   paper, tables 2 and 11, sections 2.2 and 2.3. Its weights were never released.
    """
    config = _pretraining("beit3_giant_pretraining", beit3_giant(drop_path=0.1))
    return replace(config, train=replace(config.train, strategy="fsdp2", activation_checkpointing=True))


def beit3_small_pretraining(*, num_steps: int = 100_000) -> RunConfig:
    """A small model on one GPU: 12 layers, width 384, the paper's architecture, batches of 256 + 256 + 256.

    A rate of 1e-3 belongs to batches of 6144; here it falls with the root of the batch, and the warmup is as
    large a share of the run as in the paper.

    Run:      imglish train beit3_small_pretraining
    Needs:    one GPU of 80 GB: imglish plan beit3_small_pretraining
    Source:   the paper's recipe, with our sizes; not tried at full length.
    """
    model = Beit3Config(
        width=384,
        depth=12,
        num_heads=6,
        feed_forward_width=1536,
        max_text_tokens=CONTEXT,
        split_attention=False,
        sub_norm=False,
        num_fusion_layers=3,
        drop_path=0.1,
        init="paper",
    )
    config = _pretraining("beit3_small_pretraining", model)
    assert isinstance(config.task, MaskedDataModelingTask)
    return replace(
        config,
        task=replace(config.task, num_images=256, num_texts=256, num_pairs=256),
        optimizer=replace(config.optimizer, lr=3.5e-4),
        schedule=ScheduleConfig(warmup_steps=num_steps // 100),
        train=replace(config.train, num_steps=num_steps, compile=True),
    )


def beit3_demo_pretraining(*, num_steps: int = 400) -> RunConfig:
    """Three streams of the World on two CPU cores, from nothing, with the World's visual tokenizer.

    The sizes are those of the World model; unlike `world_masked_data_modeling`, which starts from contrastive
    weights and hides answers, this is the paper's objective and nothing else.

    Run:      imglish train beit3_demo_pretraining
    Needs:    2 CPU cores, about two minutes.
    """
    return RunConfig(
        name="beit3_demo_pretraining",
        task=MaskedDataModelingTask(
            model=WORLD_MODEL,
            visual_tokenizer="world",
            num_images=32,
            num_texts=32,
            num_pairs=32,
            min_block=2,
            pack_texts=True,
            flip=0.0,
        ),
        data=WorldStreamData(alt_texts=False),
        optimizer=OptimizerConfig(lr=1e-3),
        schedule=ScheduleConfig(warmup_steps=min(50, num_steps // 10)),
        train=TrainConfig(
            num_steps=num_steps,
            save_every=max(20, num_steps // 2),
            log_every=max(1, num_steps // 40),
            num_workers=1,
            tensorboard=False,
        ),
    )


def _pretraining(name: str, model: Beit3Config) -> RunConfig:
    """The paper's pretraining of any size."""
    return RunConfig(
        name=name,
        task=MaskedDataModelingTask(
            model=model,
            visual_tokenizer=TOKENIZER,
            num_images=2048,
            num_texts=2048,
            num_pairs=2048,
            image_share=0.4,
            text_share=0.15,
            pair_text_share=0.5,
            max_text_tokens=CONTEXT,
            pack_texts=True,
            crop_scale=0.2,  # BEiT v2's; the paper says "random resized cropping" and no more
            flip=0.5,
            color_jitter=0.4,
            augment_pairs=True,  # the paper makes no difference between the pictures of the two streams
        ),
        data=DATA,
        text_tokenizer="data/text.spm",
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_steps=10_000),
        train=TrainConfig(
            num_steps=1_000_000,
            max_grad_norm=3.0,
            save_every=5000,
            save_in_background=True,
            log_every=50,
            num_workers=12,
        ),
    )
