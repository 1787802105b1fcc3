"""Weights in bf16 with an fp32 copy that is updated, on one rank; two are in tests/distributed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from imglish.errors import ConfigError
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.models.detectors.on_backbone import detector_on
from imglish.tasks.base import Task
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, TrainConfig
from imglish.train.distributed import Ranks, join_ranks
from imglish.train.ema import Ema
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import gathered, parallelize, unwrap, whole_weights
from imglish.train.precision import autocast
from imglish.train.state import TrainState
from tests.tasks import (
    test_captioning,
    test_detection,
    test_image_classification,
    test_masked_data_modeling,
    test_masked_image_modeling,
    test_nlvr2,
    test_retrieval,
    test_vqa,
)
from tests.tasks.tiny import CONFIG, with_noise

TASKS: dict[str, tuple[Callable[[], Task], Callable[[], Any]]] = {
    "captioning": (test_captioning.build, test_captioning.caption_batch),
    "questions": (test_vqa.build, test_vqa.vqa_batch),
    "statements": (test_nlvr2.build, test_nlvr2.statements),
    "classification": (test_image_classification.build, test_image_classification.labelled),
    "retrieval": (test_retrieval.build, test_retrieval.pair_batch),
    "pretraining": (test_masked_data_modeling.build, test_masked_data_modeling.masked_batch),
    "masked images": (test_masked_image_modeling.build, test_masked_image_modeling.masked),
}
# bf16 keeps 8 bits of each number; a loss is a mean over some ten logits that went through two blocks.
BF16 = 0.03


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    with join_ranks("cpu") as found:
        yield found
    assert not torch.distributed.is_initialized()


def in_bf16(task: Task, ranks: Ranks, **options: Any) -> nn.Module:
    """Wrap a task's model; its bare model."""
    model = task.model
    task.model = parallelize(model, "auto", ranks, precision="bf16_params", **options)
    return model


@pytest.mark.parametrize("name", TASKS)
def test_every_task_computes_in_bf16_and_collects_gradients_in_fp32(name: str, ranks: Ranks) -> None:
    build, batch_of = TASKS[name]
    task, exact, batch = build().eval(), build().eval(), batch_of()
    for each in (task, exact):
        with_noise(each.model)
    model = in_bf16(task, ranks)
    seen: set[torch.dtype] = set()
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.LayerNorm):
            part.register_forward_hook(lambda _, given, out: seen.update((given[0].dtype, out.dtype)))
    with autocast("bf16_params", ranks.device):
        loss = task.training_step(batch).loss
    loss.backward()
    expected = exact.training_step(batch).loss
    expected.backward()
    assert seen == {torch.bfloat16} and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=BF16)
    gradients = {key: p.grad for key, p in exact.model.named_parameters() if p.grad is not None}
    found = {
        key.replace("parametrizations.", "").removesuffix(".original"): p.grad
        for key, p in model.named_parameters()
        if p.grad is not None
    }
    assert found.keys() >= gradients.keys()
    assert all(g.dtype == torch.float32 for g in found.values())
    pairs = [(whole(found[key]).flatten(), g.flatten()) for key, g in gradients.items()]
    ours, theirs = (torch.cat(side) for side in zip(*pairs, strict=True))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99


def test_boxes_to_find_stay_exact(ranks: Ranks) -> None:
    """In bf16, which keeps 8 bits, a side at 1001 pixels would lie at 1000."""
    torch.manual_seed(0)
    vit, adapter, heads = replace(CONFIG, width=32, depth=4), test_detection.ADAPTER, test_detection.TWO_STAGE
    model = detector_on(vit, "plain_vit", adapter, heads, num_classes=2)
    given = test_detection.batch()
    exact = torch.tensor([[4.3, 8.7, 28.1, 40.9], [30.2, 30.6, 1001.0, 62.3]])
    assert not torch.equal(exact.bfloat16().float(), exact)
    wrapped = parallelize(model, "auto", ranks, precision="bf16_params")
    found = wrapped(given.images, given.sizes, tuple(replace(one, boxes=exact) for one in given.targets))
    sample = found.boxes[0].sample
    assert sample.is_truth.sum() == 4
    torch.testing.assert_close(sample.matched[sample.is_truth], torch.cat([exact, exact]), rtol=0, atol=0)
    assert sample.matched[sample.objects >= 0].unique(dim=0).tolist() == exact.tolist()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def start(ranks: Ranks, *, bf16: bool = True, lr: float = 1e-2) -> tuple[Task, TrainState]:
    task = test_captioning.build()
    model = in_bf16(task, ranks) if bf16 else task.model
    return task, TrainState(model, build_optimizer(model, OptimizerConfig(lr=lr)), Ema(model, 0.5))


def update(task: Task, state: TrainState, ranks: Ranks) -> float:
    with autocast("bf16_params", ranks.device):
        loss = task.training_step(test_captioning.caption_batch()).loss
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    assert state.ema is not None
    state.ema.update(state.model)
    state.step += 1
    return loss.item()


def test_training_goes_down(ranks: Ranks) -> None:
    task, state = start(ranks)
    losses = [update(task, state, ranks) for _ in range(20)]
    assert losses[-1] < 0.3 * losses[0]


def test_updates_smaller_than_bf16_can_tell_add_up(ranks: Ranks) -> None:
    """Norms start at 1, where the next number in bf16 is 1.0078; ten steps of 1e-5 end before it."""
    task, state = start(ranks, lr=1e-5)
    for _ in range(10):
        update(task, state, ranks)
    assert state.ema is not None
    for weights in (whole_weights(task.model), state.ema.weights):
        moved = torch.cat(
            [(whole(w) - 1).abs() for name, w in weights.items() if name.endswith("norm.vision.weight")]
        )
        moved = moved[moved > 0]  # the text's queries of the last block, say, teach nothing
        assert len(moved) >= 32 and moved.dtype == torch.float32
        assert 5e-5 < moved.median() and moved.max() < 2e-4


@pytest.mark.parametrize("background", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit(ranks: Ranks, tmp_path: Path, background: bool) -> None:
    task, state = start(ranks)
    for _ in range(2):
        update(task, state, ranks)
    with Checkpoints(tmp_path, 1, background=background) as checkpoints:
        checkpoints.save(state, ranks)
    losses = [update(task, state, ranks) for _ in range(3)]
    again, resumed = start(ranks)
    assert Checkpoints(tmp_path, 1).load_latest(resumed, ranks) and resumed.step == 2
    assert [update(again, resumed, ranks) for _ in range(3)] == losses
    expected = whole_weights(task.model)
    assert all(torch.equal(w, expected[name]) for name, w in whole_weights(again.model).items())


def test_a_run_goes_on_in_another_precision(ranks: Ranks, tmp_path: Path) -> None:
    task, state = start(ranks)
    update(task, state, ranks)
    Checkpoints(tmp_path / "bf16", 1).save(state, ranks)
    plain, other = start(ranks, bf16=False)
    assert Checkpoints(tmp_path / "bf16", 1).load_latest(other, ranks)
    expected = whole_weights(task.model)
    assert all(torch.equal(w, expected[name]) for name, w in plain.model.state_dict().items())
    Checkpoints(tmp_path / "fp32", 1).save(other, ranks)
    back, state = start(ranks)
    assert Checkpoints(tmp_path / "fp32", 1).load_latest(state, ranks)
    assert all(torch.equal(w, expected[name]) for name, w in whole_weights(back.model).items())


def test_scores_are_those_of_the_fp32_weights(ranks: Ranks) -> None:
    task, batch = test_retrieval.build().eval(), test_retrieval.pair_batch()
    before = test_retrieval.build().eval()
    for each in (task, before):
        with_noise(each.model)
    model, names = in_bf16(task, ranks), ("images", "token_ids", "padding")
    given = [getattr(batch, name) for name in names]
    with torch.no_grad():
        expected = before.model(*given)
        for _ in range(2):
            with gathered(task.model):
                found, inside = task.model(*given), model.encode_images(batch.images)  # type: ignore[operator]
            assert torch.equal(found.vision, expected.vision) and torch.equal(inside, expected.vision)
            assert torch.equal(found.scale, expected.scale)
            with autocast("bf16_params", ranks.device):
                short = task.model(*given)  # as in training again
            assert not torch.equal(short.vision, expected.vision)
            torch.testing.assert_close(short.vision, expected.vision, rtol=0.1, atol=0.05)  # bf16
    assert unwrap(task.model) is model
    assert all(weight.dtype == torch.float32 for weight in whole_weights(task.model).values())


def test_blocks_are_recomputed_in_bf16_too(ranks: Ranks) -> None:
    gradients = []
    for twice in (False, True):
        task = test_nlvr2.build().eval()
        assert isinstance(task.model, Beit3ForNlvr2)
        model = in_bf16(task, ranks, activation_checkpointing=twice)
        with autocast("bf16_params", ranks.device):
            task.training_step(test_nlvr2.statements()).loss.backward()
        gradients.append([whole(p.grad) for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_what_bf16_weights_do_not_go_with_is_refused(ranks: Ranks) -> None:
    line = "bf16_params goes with strategy fsdp2, also on one GPU; got ddp"
    with pytest.raises(ValueError, match=line):
        TrainConfig(precision="bf16_params", strategy="ddp")
    with pytest.raises(ConfigError, match=line):
        parallelize(nn.Linear(1, 1), "ddp", ranks, precision="bf16_params")
    with pytest.raises(ConfigError, match=r"running statistics \(batch norm, or a codebook\)"):
        parallelize(nn.BatchNorm2d(3), "fsdp2", ranks, precision="bf16_params")
