from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from imglish.errors import ConfigError
from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import MaskedImages
from imglish.tasks.masked_image_modeling import STREAMS, MaskedImageModelingTask
from tests.tasks.tiny import (
    check_evaluation_leaves_the_model_alone,
    fit,
    pictures,
    scores,
    with_noise,
)

ROUNDING: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order
CODES = 16
CONFIG = ViTConfig(
    image_size=(32, 32), patch_size=16, width=32, depth=2, num_heads=4, mlp_ratio=2.0,
    relative_positions="shared",
)  # fmt: skip
TOKENIZER = VqkdConfig(
    encoder=ViTConfig(image_size=(32, 32), patch_size=16, width=16, depth=1, num_heads=2),
    decoder_width=16, decoder_depth=1, decoder_heads=2, codebook_size=CODES, codebook_dim=8, teacher_dim=4,
)  # fmt: skip
AGGREGATION = PatchAggregationConfig(early_layers=1, num_blocks=1)
AGGREGATIONS = pytest.mark.parametrize(
    "aggregation", [None, AGGREGATION, replace(AGGREGATION, shared_head=False)], ids=["beit", "shared", "own"]
)
HIDDEN = [(0, 0), (0, 2), (1, 3), (2, 0), (2, 1)]


def build(aggregation: PatchAggregationConfig | None = None) -> MaskedImageModelingTask:
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER)
    with_noise(tokenizer)
    model = ViTForMaskedImageModeling(CONFIG, codebook_size=CODES, aggregation=aggregation)
    return MaskedImageModelingTask(model, tokenizer)


def masked(places: list[tuple[int, int]] = HIDDEN) -> MaskedImages:
    corruption = torch.zeros(3, 4, dtype=torch.bool)
    for place in places:
        corruption[place] = True
    return MaskedImages(images=pictures(3), corruption=corruption)


def streams(aggregation: PatchAggregationConfig | None) -> tuple[str, ...]:
    return STREAMS[:1] if aggregation is None else STREAMS


@AGGREGATIONS
def test_the_loss_is_the_sum_of_the_cross_entropies_at_hidden_patches(
    aggregation: PatchAggregationConfig | None,
) -> None:
    task, batch = build(aggregation).eval(), masked()
    model = task.model
    assert isinstance(model, ViTForMaskedImageModeling)
    with_noise(model)
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER).eval()
    with_noise(tokenizer)
    tokens = tokenizer.encode(batch.images)
    assert len({int(tokens[place]) for place in HIDDEN}) > 2
    out = task.training_step(batch)
    names = streams(aggregation)
    assert out.logs.keys() == {f"{kind}_{name}" for kind in ("loss", "accuracy") for name in names}
    everywhere = model.predict(*model.features(batch.images, batch.corruption))
    for name, logits in zip(STREAMS, everywhere, strict=True):
        if logits is None:
            continue
        each = [-logits[place].log_softmax(0)[tokens[place]] for place in HIDDEN]
        torch.testing.assert_close(out.logs[f"loss_{name}"], torch.stack(each).mean().detach(), **ROUNDING)
        found = sum(int(logits[place].argmax() == tokens[place]) for place in HIDDEN)
        assert out.logs[f"accuracy_{name}"].item() == pytest.approx(found / len(HIDDEN))
    terms = torch.stack([out.logs[f"loss_{name}"] for name in names])
    torch.testing.assert_close(out.loss.detach(), terms.sum())
    assert out.loss.requires_grad and not any(value.requires_grad for value in out.logs.values())
    if aggregation is not None:
        assert (terms[0] - terms[1]).abs() > 1e-3


def test_targets_are_the_tokens_of_the_whole_pictures() -> None:
    task = build()
    assert torch.equal(task.targets(masked()), task.targets(masked([(y, x) for y, x in HIDDEN])))
    every = task.targets(masked([(y, x) for y in range(3) for x in range(4)])).view(3, 4)
    assert task.targets(masked()).tolist() == [int(every[place]) for place in HIDDEN]


@AGGREGATIONS
def test_a_few_steps_find_what_is_hidden(aggregation: PatchAggregationConfig | None) -> None:
    task, batch = build(aggregation), masked()
    losses = fit(task, batch, 60)
    assert losses[-1] < 0.3 * losses[0]
    found = scores(task, batch)
    assert found.keys() == {
        f"{name}/{kind}" for name in streams(aggregation) for kind in ("accuracy", "unigram", "count")
    }
    for name in streams(aggregation):
        assert found[f"{name}/accuracy"] == 1.0 and found[f"{name}/count"] == len(HIDDEN)
        assert found[f"{name}/unigram"] < 1.0


def test_scores_count_each_way_by_its_own_predictions() -> None:
    task, batch = build(replace(AGGREGATION, shared_head=False)), masked()
    model = task.model
    assert isinstance(model, ViTForMaskedImageModeling) and model.class_token_head is not None
    targets = task.targets(batch)
    with torch.no_grad():  # the last block answers the first target to all, the second way the last
        model.token_head.bias[targets[0]] = 100.0
        model.class_token_head.bias[targets[-1]] = 100.0
    assert targets[0] != targets[-1]
    found = scores(task, batch)
    for name, answer in zip(STREAMS, (targets[0], targets[-1]), strict=True):
        assert found[f"{name}/accuracy"] == pytest.approx((targets == answer).float().mean().item())


@AGGREGATIONS
def test_a_batch_that_hides_nothing_teaches_nothing(aggregation: PatchAggregationConfig | None) -> None:
    task = build(aggregation)
    out = task.training_step(masked([]))
    out.loss.backward()
    assert out.loss == 0
    # All of the model has a gradient, as data parallelism demands.
    gradients = {name: p.grad for name, p in task.model.named_parameters()}
    assert not {name for name, grad in gradients.items() if grad is None} - {"mask_token"}
    assert not any(grad.any() for grad in gradients.values() if grad is not None)
    assert scores(task, masked([])) == {}


def test_the_tokenizer_is_no_part_of_what_is_trained_and_saved() -> None:
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER)
    model = ViTForMaskedImageModeling(CONFIG, codebook_size=CODES, aggregation=AGGREGATION)
    task = MaskedImageModelingTask(model, tokenizer).train()
    assert {id(p) for p in task.parameters()} == {id(p) for p in model.parameters()}
    assert task.state_dict().keys() == {f"model.{name}" for name in model.state_dict()}
    assert not tokenizer.training and not any(p.requires_grad for p in tokenizer.parameters())
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    fit(task, masked(), 2)
    assert all(torch.equal(value, before[name]) for name, value in tokenizer.state_dict().items())


def test_the_model_sees_imagenets_range_where_asked_and_the_tokenizer_never() -> None:
    plain, batch = build(AGGREGATION), masked()
    model = plain.model
    assert isinstance(model, ViTForMaskedImageModeling)
    torch.manual_seed(0)
    tokenizer = Vqkd(TOKENIZER)
    with_noise(tokenizer)
    ranged = MaskedImageModelingTask(model, tokenizer, pictures="imagenet")
    assert torch.equal(ranged.targets(batch), plain.targets(batch))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = ((batch.images * 0.5 + 0.5) - mean[:, None, None]) / std[:, None, None]
    logits = model(seen, batch.corruption)
    losses = [cross_entropy(each, plain.targets(batch)) for each in logits]
    torch.testing.assert_close(ranged.training_step(batch).loss, losses[0] + losses[1], **ROUNDING)


def test_terms_are_summed_and_counted_for_a_mean_over_all_ranks() -> None:
    task, batch = build(AGGREGATION), masked()
    out = task.training_step(batch)
    assert out.sums is not None
    assert task.counts(batch) == dict.fromkeys(STREAMS, len(HIDDEN))
    means = [out.sums[name] / len(HIDDEN) for name in STREAMS]
    torch.testing.assert_close(torch.stack(means).sum(), out.loss)


@AGGREGATIONS
def test_evaluation_leaves_the_model_alone(aggregation: PatchAggregationConfig | None) -> None:
    check_evaluation_leaves_the_model_alone(build(aggregation), masked())


@pytest.mark.parametrize(
    ("config", "codes", "message"),
    [
        (CONFIG, CODES + 1, "has 16 visual tokens, the model predicts 17; build it with codebook_size=16"),
        (
            replace(CONFIG, image_size=(32, 64)), CODES,
            r"cuts pictures of \(32, 32\) into patches of 16 pixels, the model those of \(32, 64\) into 16",
        ),
        (replace(CONFIG, patch_size=8), CODES, r"patches of 16 pixels, the model those of \(32, 32\) into 8"),
    ],
)  # fmt: skip
def test_a_tokenizer_of_other_tokens_is_refused(config: ViTConfig, codes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskedImageModelingTask(ViTForMaskedImageModeling(config, codebook_size=codes), Vqkd(TOKENIZER))
