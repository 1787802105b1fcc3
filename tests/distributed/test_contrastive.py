"""The contrastive loss of two ranks beside that of one process with the whole batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode

from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.structures.batches import ImageTextBatch
from imglish.tasks.retrieval import RetrievalTask
from imglish.train.config import OptimizerConfig
from imglish.train.distributed import Ranks
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import ShardedModel, gradient_sync, parallelize, shard, unwrap
from tests.distributed.ranks import NUM_RANKS, on_two_ranks
from tests.tasks.tiny import CONFIG, PAD, no_padding, pictures, with_noise, words

# Sums of float64 in another order; gradients are from 1e-3 to 10, and some are nothing but such sums.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
PER_RANK, CHUNK = 3, 2  # chunks of 2 and of 1
MAX_NORM = 0.1  # so low that gradients are always scaled down
ARCHITECTURES = {
    "released": CONFIG,
    # Both passes of a step go through the same attention, and the third expert is left alone.
    "giant": replace(CONFIG, split_attention=False, sub_norm=False, num_fusion_layers=1, init="paper"),
}


class Case(NamedTuple):
    strategy: Literal["ddp", "fsdp2"]
    architecture: str = "released"
    chunk_size: int = 0
    micro_steps: int = 1


CASES = [
    Case("ddp"),
    Case("ddp", chunk_size=CHUNK),
    Case("ddp", micro_steps=2),
    Case("fsdp2"),
    Case("fsdp2", chunk_size=CHUNK),
    Case("fsdp2", micro_steps=2),
    Case("fsdp2", "giant"),
]


def build(architecture: str) -> Beit3ForRetrieval:
    torch.manual_seed(0)
    model = with_noise(Beit3ForRetrieval(ARCHITECTURES[architecture])).double()
    assert isinstance(model, Beit3ForRetrieval)
    return model


def micro_batches(micro_steps: int, rank: int, world_size: int) -> list[ImageTextBatch]:
    """A rank's share of the batches of an update."""
    count = PER_RANK * NUM_RANKS
    padding = no_padding(micro_steps * count)
    padding[1::3, 4:] = True
    images, token_ids = pictures(len(padding)).double(), words(len(padding)).masked_fill(padding, PAD)
    share = count // world_size
    batches = []
    for step in range(micro_steps):
        mine = slice(step * count + rank * share, step * count + (rank + 1) * share)
        image_ids = torch.arange(len(padding))[mine]
        batches.append(
            ImageTextBatch(
                images=images[mine], token_ids=token_ids[mine], padding=padding[mine], image_ids=image_ids
            )
        )
    return batches


class Update(NamedTuple):
    """What one update computed; tensors of shards are whole."""

    loss: Tensor
    gradients: dict[str, Tensor]
    norm: Tensor
    weights: dict[str, Tensor]
    reductions: int  # sums over ranks
    held: int  # numbers in the parameters that lie on this rank


def update(model: nn.Module, case: Case, rank: int = 0, world_size: int = 1) -> Update:
    """One update as the loop makes it."""
    task = RetrievalTask(model, RetrievalRecall(), chunk_size=case.chunk_size)  # type: ignore[arg-type]
    bare = unwrap(model)
    optimizer = build_optimizer(bare, OptimizerConfig(lr=1e-2, weight_decay=0.1))
    losses = []
    with CommDebugMode() as traffic:
        for step, batch in enumerate(micro_batches(case.micro_steps, rank, world_size), start=1):
            with gradient_sync(model, last=step == case.micro_steps):
                loss = task.training_step(batch).loss
                loss.backward()
            losses.append(loss.detach())
    gradients = {
        bare_name(name): whole(parameter.grad)
        for name, parameter in bare.named_parameters()
        if parameter.grad is not None
    }
    norm = nn.utils.clip_grad_norm_(bare.parameters(), MAX_NORM)
    optimizer.step()
    weights = model.whole_weights() if isinstance(model, ShardedModel) else bare.state_dict()
    reductions = sum(count for name, count in traffic.get_comm_counts().items() if "reduce" in str(name))
    held = sum(local(parameter).numel() for parameter in bare.parameters())
    return Update(torch.stack(losses).mean(), gradients, whole(norm), weights, reductions, held)


def bare_name(name: str) -> str:
    """Name before the model was sharded, of a tensor that then became a vector too."""
    return name.replace("parametrizations.", "").removesuffix(".original")


def whole(tensor: Tensor) -> Tensor:
    """A copy, gathered where it is spread over the ranks; of vectors of one number the number."""
    found = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()
    return found.squeeze() if found.numel() == 1 else found


def local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def train_rank(ranks: Ranks, folder: Path) -> None:
    for number, case in enumerate(CASES):
        model = build(case.architecture)
        if case.strategy == "fsdp2":
            wrapped: nn.Module = shard(model, model.encoder.blocks, ranks)
        else:
            wrapped = parallelize(model, "ddp", ranks)
        found = update(wrapped, case, ranks.rank, ranks.world_size)
        torch.save(found._asdict(), folder / f"{number}_{ranks.rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    on_two_ranks(train_rank, made)
    return made


def of_ranks(folder: Path, case: Case) -> list[Update]:
    paths = [folder / f"{CASES.index(case)}_{rank}.pt" for rank in range(NUM_RANKS)]
    return [Update(**torch.load(path)) for path in paths]


def name_of(case: Case) -> str:
    return "-".join(map(str, case))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    wrong = {
        name: f"differs by up to {(found[name] - tensor).abs().max():.1e}"
        for name, tensor in expected.items()
        if found[name].shape != tensor.shape
        or not torch.allclose(found[name], tensor, rtol=RELATIVE, atol=ABSOLUTE)
    }
    assert not wrong


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_two_ranks_move_the_weights_as_one_process_with_the_whole_batch(folder: Path, case: Case) -> None:
    alone, ranks = update(build(case.architecture), case._replace(chunk_size=0)), of_ranks(folder, case)
    before = build(case.architecture).state_dict()
    torch.testing.assert_close(
        torch.stack([found.loss for found in ranks]).mean(), alone.loss, rtol=RELATIVE, atol=ABSOLUTE
    )
    for found in ranks:
        assert_same(found.gradients, alone.gradients)
        torch.testing.assert_close(found.norm, alone.norm, rtol=RELATIVE, atol=ABSOLUTE)
        assert_same(found.weights, alone.weights)
    # What is compared does move, the logit scale too.
    assert alone.norm > MAX_NORM and alone.gradients["logit_scale"].abs() > 1e-3
    assert all(not torch.equal(alone.weights[name], before[name]) for name in alone.gradients)


@pytest.mark.parametrize("case", [case for case in CASES if case.chunk_size], ids=name_of)
def test_chunks_exchange_gradients_as_often_as_the_whole_batch(folder: Path, case: Case) -> None:
    plain, chunked = of_ranks(folder, case._replace(chunk_size=0)), of_ranks(folder, case)
    assert [found.reductions for found in chunked] == [found.reductions for found in plain]
    assert all(found.reductions > 0 for found in plain)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shards_are_shared_out_and_exchanged_block_by_block(folder: Path, architecture: str) -> None:
    found = of_ranks(folder, Case("fsdp2", architecture))
    number = sum(parameter.numel() for parameter in build(architecture).parameters())
    assert sum(each.held for each in found) == number
    assert all(0.45 * number < each.held < 0.55 * number for each in found)
    # Each block after the texts and after the pictures, the rest, and the features of both.
    expected = 2 * ARCHITECTURES[architecture].depth + 1 + 2
    assert [each.reductions for each in found] == [expected] * NUM_RANKS


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_micro_steps_exchange_gradients_once(folder: Path, strategy: Literal["ddp", "fsdp2"]) -> None:
    once, twice = (of_ranks(folder, Case(strategy, micro_steps=steps)) for steps in (1, 2))
    # The features' own gradients, of pictures and of texts, are summed at each of them.
    assert [found.reductions for found in twice] == [found.reductions + 2 for found in once]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_chunks_move_the_weights_as_the_whole_batch_in_one_process(architecture: str) -> None:
    case = Case("ddp", architecture)
    plain, chunked = (update(build(architecture), case._replace(chunk_size=size)) for size in (0, CHUNK))
    torch.testing.assert_close(chunked.loss, plain.loss, rtol=RELATIVE, atol=ABSOLUTE)
    assert_same(chunked.gradients, plain.gradients)
    assert_same(chunked.weights, plain.weights)
