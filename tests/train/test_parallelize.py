from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from imglish.errors import ConfigError
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder, Block
from imglish.models.beit3.heads import Beit3ForVqa
from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.model import Vqkd
from imglish.nn.patch_embedding import PatchEmbedding
from imglish.train.distributed import Ranks
from imglish.train.parallelize import blocks_of, parallelize, shard, synchronise_norms, unwrap
from tests.tasks.test_masked_data_modeling import TOKENIZER

ONE = Ranks(0, 1, torch.device("cpu"))
CONFIG = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=30, max_text_tokens=12, width=32, depth=1, num_heads=2,
    feed_forward_width=64,
)  # fmt: skip


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Ranks]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield Ranks(0, 1, torch.device("cpu"))
    dist.destroy_process_group()


def test_a_model_that_uses_a_part_of_the_encoder_trains_in_parallel(group: Ranks) -> None:
    model = Beit3ForVqa(CONFIG, num_answers=3)  # nothing is masked, so the mask token is left alone
    wrapped = parallelize(model, "ddp", group)
    for _ in range(3):  # the wrapper complains in the step after the one that left something out
        wrapped(torch.rand(2, 3, 32, 32), torch.randint(4, 29, (2, 5))).sum().backward()
    assert unwrap(wrapped) is model and model.head.output.weight.grad is not None


def stem_for(ranks: Ranks) -> torch.nn.Module:
    torch.manual_seed(0)
    return synchronise_norms(PatchEmbedding(patch_size=16, width=32, stem="convolutional"), ranks)


def test_batch_norm_counts_the_pictures_of_all_gpus_wherever_it_lies() -> None:
    cuda = torch.device("cuda")
    found = []
    for ranks in (ONE, Ranks(0, 1, cuda), Ranks(0, 2, ONE.device), Ranks(0, 2, cuda)):
        kinds = {type(part) for part in stem_for(ranks).modules()}
        found.append((torch.nn.BatchNorm2d in kinds, torch.nn.SyncBatchNorm in kinds))
    assert found == [(True, False)] * 3 + [(False, True)]
    plain, synchronised = stem_for(ONE).state_dict(), stem_for(Ranks(0, 2, cuda)).state_dict()
    assert synchronised.keys() == plain.keys()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in synchronised.items())


def test_one_device_for_several_ranks_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are 2 ranks; use 'ddp' or 'fsdp2'"):
        parallelize(torch.nn.Linear(1, 1), "single", Ranks(0, 2, torch.device("cpu")))


def test_a_model_for_one_device_is_not_sharded() -> None:
    with pytest.raises(ConfigError, match="over several ranks, but there is one; start it with torchrun"):
        shard(torch.nn.Linear(1, 1), [], Ranks(0, 1, torch.device("cpu")))


def test_blocks_are_found_wherever_they_lie() -> None:
    model = Beit3ForVqa(CONFIG, num_answers=3)
    assert blocks_of(model) == list(model.encoder.blocks)
    tokenizer = Vqkd(TOKENIZER)
    assert len(blocks_of(tokenizer)) == len(tokenizer.encoder.blocks) + len(tokenizer.decoder.blocks) == 2
    second_way = PatchAggregationConfig(early_layers=1, num_blocks=2)
    beit = ViTForMaskedImageModeling(
        ViTConfig(width=8, depth=2, num_heads=2), codebook_size=5, aggregation=second_way
    )
    assert blocks_of(beit) == [*beit.vit.blocks, *beit.class_blocks] and len(beit.class_blocks) == 2
    assert blocks_of(torch.nn.Linear(1, 1)) == []


def test_blocks_that_are_computed_twice_give_the_same_gradients_with_the_same_draws() -> None:
    found = []
    for twice in (False, True):
        torch.manual_seed(0)
        model = Beit3ForVqa(replace(CONFIG, depth=3, drop_path=0.5), num_answers=3)
        calls: list[int] = []
        for block in model.encoder.blocks:
            assert isinstance(block, Block)
            block.attention.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        parallelize(model, "single", ONE, activation_checkpointing=twice)
        torch.manual_seed(1)
        model.train()(torch.rand(4, 3, 32, 32), torch.randint(4, 29, (4, 5))).square().sum().backward()
        assert len(calls) == (6 if twice else 3)
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[1][name], gradient) for name, gradient in found[0].items())


@pytest.mark.slow
def test_compiled_blocks_compute_the_same() -> None:
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = Beit3ForVqa(CONFIG, num_answers=3)
        parallelize(model, "single", ONE, compiled=compiled)
        torch.manual_seed(1)
        logits = model(torch.rand(2, 3, 32, 32), torch.randint(4, 29, (2, 5)))
        logits.square().sum().backward()
        gradient = dict(model.named_parameters())["encoder.blocks.0.attention.query.vision.weight"].grad
        assert gradient is not None
        found.append((logits.detach(), gradient))
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)  # float32, fused in another way


def test_all_kinds_of_sequences_of_pretraining_are_compiled() -> None:
    """Torch would give up after 8 graphs of a block, and run what is left as it is, only a line saying so."""
    config = replace(CONFIG, depth=2, drop_path=0.1, num_fusion_layers=1, split_attention=False)
    model = Beit3Encoder(config)
    limits = {"recompile_limit": 8, "fail_on_recompile_limit_hit": True}
    with torch._dynamo.config.patch(limits):
        parallelize(model, "single", ONE, compiled=True)
        for block in model.blocks:
            block.compile(backend="eager")  # the graphs count, and not what is made of them
        images = torch.rand(6, 3, 32, 32)
        for rows, length in ((6, 4), (3, 7), (2, 5)):
            ids, padding = torch.randint(4, 29, (rows, length)), torch.zeros(rows, length, dtype=torch.bool)
            for learns in (True, False):
                model.train(learns)
                with torch.set_grad_enabled(learns):
                    model(images)
                    for mask in (None, padding):
                        model(token_ids=ids, padding=mask)
                        model(images[:rows], ids, padding=mask)
    torch.compiler.reset()
