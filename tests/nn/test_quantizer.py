"""The codebook: lookup, moving averages, start, revival, and that ranks agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, distributed as dist
from torch.nn import functional as F

from imglish.nn import quantizer as quantizer_module
from imglish.nn.quantizer import EmaQuantizer
from imglish.train.distributed import Ranks
from tests.distributed.ranks import on_two_ranks


def bundles(num_bundles: int, size: int, *, dim: int = 8, seed: int = 0) -> Tensor:
    """Unit vectors (bundles x size, dim) in narrow bundles around random directions."""
    g = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(num_bundles, dim, generator=g), dim=1)
    noise = 0.05 * torch.randn(num_bundles * size, dim, generator=g)
    return F.normalize(centres.repeat_interleave(size, 0) + noise, dim=1)


def with_codes(codes: list[list[float]], **options: float) -> EmaQuantizer:
    quantizer = EmaQuantizer(len(codes), len(codes[0]), **options)  # type: ignore[arg-type]
    quantizer.codebook.copy_(torch.tensor(codes))
    return quantizer


def test_features_get_the_code_of_the_same_direction_whatever_their_length() -> None:
    quantizer = with_codes([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    out = quantizer(torch.tensor([[[9.0, 1.0], [0.1, 0.2]], [[-3.0, 1.0], [0.0, -1.0]]]))
    assert out.token_ids.tolist()[0] == [0, 1] and out.token_ids[1, 0] == 2
    torch.testing.assert_close(out.codes[0], torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(out.features.norm(dim=-1), torch.ones(2, 2))


def test_gradients_pass_straight_through_to_the_features() -> None:
    quantizer = EmaQuantizer(16, 4)
    features = torch.randn(2, 3, 4, requires_grad=True)
    out = quantizer(features)
    weight = torch.randn(2, 3, 4)
    (through,) = torch.autograd.grad((out.codes * weight).sum(), features, retain_graph=True)
    (direct,) = torch.autograd.grad((out.features * weight).sum(), features)
    assert torch.equal(through, direct) and through.abs().sum() > 0


@pytest.mark.parametrize("training", [True, False])
def test_looking_up_changes_nothing(training: bool) -> None:
    quantizer = EmaQuantizer(16, 4, revive_after=1).train(training)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(torch.randn(2, 3, 4))
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def test_lookup_keeps_float32_under_autocast() -> None:
    torch.manual_seed(0)
    quantizer, features = EmaQuantizer(512, 8), torch.randn(4, 64, 8)
    expected = quantizer(features).token_ids
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantizer(features).token_ids
    assert torch.equal(found, expected)


def test_codes_move_towards_the_mean_of_their_features_and_back_onto_the_sphere() -> None:
    quantizer = with_codes([[1.0, 0.0], [0.0, 1.0]], decay=0.75)
    unit = torch.tensor([[[0.8, 0.6], [0.8, -0.6], [1.0, 0.0], [0.6, 0.8]]])
    quantizer.update(unit, torch.tensor([[0, 0, 0, 1]]))
    # Code 0: the mean of its three features points along (1, 0), where it is. Code 1: 3/4 old, 1/4 new.
    expected = F.normalize(torch.tensor([[1.0, 0.0], [0.25 * 0.6, 0.75 + 0.25 * 0.8]]), dim=1)
    torch.testing.assert_close(quantizer.codebook, expected)
    torch.testing.assert_close(quantizer.usage, torch.tensor([0.25 * 3, 0.25 * 1]))


def test_codes_that_nobody_chose_stay() -> None:
    quantizer = with_codes([[1.0, 0.0], [0.0, 1.0]])
    quantizer.update(torch.tensor([[[0.8, 0.6]]]), torch.tensor([[0]]))
    torch.testing.assert_close(quantizer.codebook[1], torch.tensor([0.0, 1.0]))
    assert quantizer.idle_updates.tolist() == [0, 1]


def test_codes_start_at_the_means_of_the_first_batch_and_only_once() -> None:
    torch.manual_seed(0)
    quantizer, features = EmaQuantizer(4, 8), 3.0 * bundles(4, 25)
    quantizer.start(features.view(2, 50, 8))
    # Every feature has a code near it. Codes that start in one bundle share it, so not all are found.
    cosine = (F.normalize(features, dim=1) @ quantizer.codebook.T).amax(1)
    assert cosine.mean() > 0.8
    assert quantizer.usage.sum() == 100 and bool(quantizer.started)
    placed = quantizer.codebook.clone()
    quantizer.start(torch.randn(2, 50, 8))
    assert torch.equal(quantizer.codebook, placed)


def test_a_first_batch_smaller_than_the_codebook_is_enough() -> None:
    quantizer = EmaQuantizer(64, 8)
    quantizer.start(torch.randn(1, 5, 8))
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(64))


def collapse_and_train(revive_after: int) -> int:
    """How many of eight bundles have a code of their own, after codes that all began at one place."""
    torch.manual_seed(0)
    quantizer = EmaQuantizer(16, 8, decay=0.9, revive_after=revive_after)
    features = bundles(8, 20).view(1, -1, 8)
    quantizer.codebook.copy_(features[0, :1].expand(16, -1))
    for _ in range(60):
        out = quantizer(features)
        quantizer.update(out.features, out.token_ids)
    first_of_bundle = quantizer(features).token_ids.view(8, 20).mode(dim=1).values
    return len(first_of_bundle.unique())


def test_a_collapsed_codebook_recovers_by_revival_and_not_without() -> None:
    assert collapse_and_train(revive_after=3) == 8
    assert collapse_and_train(revive_after=0) < 8


def test_codes_in_use_are_not_revived() -> None:
    quantizer = with_codes([[1.0, 0.0], [0.0, 1.0]], decay=0.99, revive_after=2)
    for _ in range(5):
        quantizer.update(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[0, 1]]))
    torch.testing.assert_close(quantizer.codebook, torch.eye(2))


def trained(features: Tensor) -> EmaQuantizer:
    torch.manual_seed(0)
    quantizer = EmaQuantizer(6, 8, decay=0.5)
    out = quantizer(features)
    quantizer.update(out.features, out.token_ids)
    return quantizer


def started_and_revived(features: Tensor, *, world: bool) -> EmaQuantizer:
    """Codes placed by k-means, then an update after which all codes but one are dead, and put elsewhere.

    Args:
        features: Of this process.
        world: False leaves the other ranks alone, as if this process were the only one.
    """
    quantizer = EmaQuantizer(6, 8, revive_after=1)
    with pytest.MonkeyPatch.context() as patch:
        if not world:
            patch.setattr(quantizer_module, "_num_ranks", lambda: 1)
        quantizer.start(features)
        assert quantizer.usage.sum() == (60 if world else len(features))
        quantizer.update(features, torch.zeros(len(features), 1, dtype=torch.int64))
        assert quantizer.idle_updates.sum() == 0
    return quantizer


def check_rank(ranks: Ranks, whole: dict[str, Tensor]) -> None:
    features = bundles(6, 10).view(60, 1, 8)
    mine = features[:20] if ranks.is_main else features[20:]
    part = trained(mine)
    for name, value in whole.items():
        torch.testing.assert_close(part.state_dict()[name], value, msg=name)

    # The whole batch in one process, whose random numbers are those of rank 0.
    torch.manual_seed(0)
    alone = started_and_revived(features, world=False)
    torch.manual_seed(1000 * ranks.rank)  # what is drawn must not depend on the rank's own numbers
    together = started_and_revived(mine, world=True)
    for name, value in together.state_dict().items():
        theirs = value.clone()
        dist.broadcast(theirs, src=0)
        assert torch.equal(theirs, value), name
        # Sums over ranks add float32 in another order.
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name)


def test_two_ranks_update_start_and_revive_as_one_process_with_the_whole_batch() -> None:
    on_two_ranks(check_rank, dict(trained(bundles(6, 10).view(60, 1, 8)).state_dict()))
