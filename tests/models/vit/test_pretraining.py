from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imglish.models.vit.block import Block
from imglish.models.vit.config import PatchAggregationConfig, RelativePositions, ViTConfig
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vit.weights import (
    PRETRAINING_MAP,
    classification_map,
    pretraining_to_official,
    share_out_table,
    to_official,
)
from tests.hub.official_files import shapes
from tests.tasks.tiny import with_noise

ROUNDING: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order
CONFIG = ViTConfig(
    image_size=(16, 24), patch_size=8, width=16, depth=3, num_heads=2, mlp_ratio=2.0,
    absolute_positions=False, relative_positions="shared", layer_scale=0.1,
)  # fmt: skip
SHARED = PatchAggregationConfig(early_layers=2, num_blocks=2)
OWN = replace(SHARED, shared_head=False)
CODES = 11
IMAGES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
# The first picture hides patches 1 and 4, the second 0, 2 and 5.
CORRUPTION = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 0, 1, 0, 0, 1]], dtype=torch.bool)
AGGREGATIONS = pytest.mark.parametrize("aggregation", [None, SHARED, OWN], ids=["none", "shared", "own"])


def build(aggregation: PatchAggregationConfig | None = None, **changes: Any) -> ViTForMaskedImageModeling:
    """A model in which nothing is zero or one."""
    torch.manual_seed(0)
    model = ViTForMaskedImageModeling(
        replace(CONFIG, **changes), codebook_size=CODES, aggregation=aggregation
    )
    with_noise(model)
    return model.eval()


def blocks(modules: nn.ModuleList) -> list[Block]:
    return [block for block in modules if isinstance(block, Block)]


def both(model: ViTForMaskedImageModeling, images: Tensor, corruption: Tensor) -> list[Tensor]:
    return [logits for logits in model(images, corruption) if logits is not None]


@AGGREGATIONS
def test_logits_are_those_of_the_hidden_patches_alone_in_their_order(
    aggregation: PatchAggregationConfig | None,
) -> None:
    model = build(aggregation)
    everywhere = model.predict(*model.features(IMAGES, CORRUPTION))
    for logits, all_logits in zip(model(IMAGES, CORRUPTION), everywhere, strict=True):
        if logits is None:
            assert aggregation is None and all_logits is None
            continue
        assert all_logits is not None
        assert logits.shape == (5, CODES) and all_logits.shape == (2, 6, CODES)
        places = [(0, 1), (0, 4), (1, 0), (1, 2), (1, 5)]
        expected = torch.stack([all_logits[place] for place in places])
        torch.testing.assert_close(logits, expected, **ROUNDING)


@AGGREGATIONS
def test_what_is_hidden_reaches_no_prediction(aggregation: PatchAggregationConfig | None) -> None:
    model = build(aggregation)
    hidden, shown = IMAGES.clone(), IMAGES.clone()
    hidden[0, :, :8, 8:16] = 0.5  # patch 1 of the first picture
    shown[0, :, :8, :8] = 0.5  # patch 0 of it
    for before, after in zip(both(model, IMAGES, CORRUPTION), both(model, hidden, CORRUPTION), strict=True):
        assert torch.equal(before, after)
    for before, after in zip(both(model, IMAGES, CORRUPTION), both(model, shown, CORRUPTION), strict=True):
        changed = (before - after).abs().amax(dim=1)
        assert (changed[:2] > 1e-5).all() and not changed[2:].any()


def test_without_hidden_patches_features_are_those_of_the_vit() -> None:
    model = build()
    features = model.features(IMAGES, torch.zeros_like(CORRUPTION))
    torch.testing.assert_close(features.patches, model.vit(IMAGES), **ROUNDING)


@pytest.mark.parametrize("relative", ["shared", "per_block"])
def test_the_second_way_reads_early_patches_and_the_late_class_token(relative: RelativePositions) -> None:
    model = build(OWN, relative_positions=relative, absolute_positions=True)
    vit, seen = model.vit, []
    vit.blocks[1].register_forward_hook(lambda _, __, out: seen.append(out[:, 1:]))
    vit.blocks[2].register_forward_hook(lambda _, __, out: seen.append(out[:, :1]))
    features = model.features(IMAGES, CORRUPTION)
    x = torch.cat([seen[1], seen[0]], dim=1)
    bias = None if vit.relative_positions is None else vit.relative_positions()
    for block in model.class_blocks:
        x = block(x, vit.config.grid_size, bias)
    assert model.class_norm is not None and features.class_patches is not None
    torch.testing.assert_close(features.class_patches, model.class_norm(x)[:, 1:], **ROUNDING)
    torch.testing.assert_close(
        features.patches, vit.norm(vit.run_blocks(_embedded(model), 0, 3, vit.config.grid_size))[:, 1:]
    )


def _embedded(model: ViTForMaskedImageModeling) -> Tensor:
    patches = model.vit.patches(IMAGES)
    patches[CORRUPTION] = model.mask_token.flatten()
    return model.vit.place(patches, model.vit.config.grid_size)


def test_late_patches_do_not_reach_the_second_way() -> None:
    """Only the class token carries what late blocks find, so it must gather the picture."""
    model = build(SHARED)
    before = model(IMAGES, CORRUPTION)
    model.vit.blocks[2].register_forward_hook(lambda _, __, out: torch.cat([out[:, :1], -out[:, 1:]], dim=1))
    after = model(IMAGES, CORRUPTION)
    assert torch.equal(after.class_patches, before.class_patches)
    assert (after.patches - before.patches).abs().max() > 1e-3
    model.vit.blocks[2].register_forward_hook(lambda _, __, out: torch.cat([-out[:, :1], out[:, 1:]], dim=1))
    assert (model(IMAGES, CORRUPTION).class_patches - before.class_patches).abs().max() > 1e-3


def test_a_shared_head_reads_both_ways_and_an_own_head_one() -> None:
    shared, own = build(SHARED), build(OWN)
    assert shared.class_norm is None and shared.class_token_head is None
    for model in (shared, own):
        before = model(IMAGES, CORRUPTION)
        with torch.no_grad():
            model.token_head.bias.add_(1.0)
            model.vit.norm.bias.add_(1.0)
        after = model(IMAGES, CORRUPTION)
        assert (after.patches - before.patches).abs().max() > 0.5
        assert torch.equal(after.class_patches, before.class_patches) == (model is own)


@AGGREGATIONS
@pytest.mark.parametrize("relative", ["shared", "per_block"])
def test_every_parameter_gets_a_gradient(
    aggregation: PatchAggregationConfig | None, relative: RelativePositions
) -> None:
    model = build(aggregation, relative_positions=relative, absolute_positions=True)
    torch.stack([logits.square().sum() for logits in both(model, IMAGES, CORRUPTION)]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_depth_of_the_second_way_counts_on_from_the_early_blocks() -> None:
    config = replace(CONFIG, drop_path=0.3, depth=4)
    model = ViTForMaskedImageModeling(config, codebook_size=CODES, aggregation=SHARED)
    rates = [block.drop_path.rate for block in blocks(model.class_blocks)]
    assert rates == pytest.approx([0.2, 0.3])  # as of the third and fourth of four blocks
    deeper = replace(SHARED, early_layers=4)
    model = ViTForMaskedImageModeling(config, codebook_size=CODES, aggregation=deeper)
    rates = [block.drop_path.rate for block in blocks(model.class_blocks)]
    assert rates == pytest.approx([0.24, 0.3])  # of six


# New weights

WIDE = replace(CONFIG, width=128, absolute_positions=True)


def test_new_weights_are_cut_at_one_deviation() -> None:
    torch.manual_seed(0)
    model = ViTForMaskedImageModeling(WIDE, codebook_size=200, aggregation=OWN)
    assert model.class_token_head is not None
    first = blocks(model.vit.blocks)[0]
    assert isinstance(model.vit.patches.proj, nn.Conv2d) and model.vit.positions is not None
    cut: dict[str, Tensor] = {
        "patches": model.vit.patches.proj.weight,
        "class token": model.vit.class_token,
        "mask token": model.mask_token,
        "positions": model.vit.positions,
        "qkv": first.attention.qkv.weight,
        "fc1": first.feed_forward.fc1.weight,
        "head": model.token_head.weight,
        "own head": model.class_token_head.weight,
    }
    for name, weight in cut.items():
        assert 0.0185 < weight.abs().max() <= 0.02, name
        assert weight.std().item() == pytest.approx(0.0108, rel=0.15), name  # of a normal cut at +-1
    biases = [
        p for name, p in model.named_parameters() if name.endswith("bias") and "class_blocks" not in name
    ]
    assert len(biases) > 10 and not any(bias.any() for bias in biases)


def test_outputs_of_blocks_are_divided_by_their_depth() -> None:
    torch.manual_seed(0)
    model = ViTForMaskedImageModeling(WIDE, codebook_size=5, aggregation=SHARED)
    for layer, block in enumerate(blocks(model.vit.blocks), start=1):
        for linear in (block.attention.output, block.feed_forward.fc2):
            largest = 0.02 / (2 * layer) ** 0.5
            assert 0.95 * largest < linear.weight.abs().max().item() <= largest
    # The second way's linears start as PyTorch's do, uniform to fan_in^-0.5, and count from the early blocks.
    for layer, block in enumerate(blocks(model.class_blocks), start=3):
        qkv, fc2 = block.attention.qkv.weight, block.feed_forward.fc2.weight
        assert qkv.abs().max().item() == pytest.approx(128**-0.5, rel=0.01)
        largest = 256**-0.5 / (2 * layer) ** 0.5
        assert fc2.abs().max().item() == pytest.approx(largest, rel=0.01)


# Names

PLAIN, CLS = "8k_vocab", "8k_vocab_cls_pt"
SIZES: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {"width": 1024, "depth": 24, "num_heads": 16},
}
TOTALS = {
    ("base", PLAIN): 91_965_776, ("large", PLAIN): 311_534_016,
    ("base", CLS): 106_143_056, ("large", CLS): 336_728_512,
}  # fmt: skip


@pytest.mark.parametrize("variant", [PLAIN, CLS])
@pytest.mark.parametrize("size", SIZES)
def test_official_names_and_ours_map_one_to_one(size: str, variant: str) -> None:
    expected = shapes(f"beit2_pretrain_beit_{size}_patch16_224_{CLS}")
    if variant == PLAIN:  # also BEiT's own: the same names without the second way
        expected = {name: shape for name, shape in expected.items() if not name.startswith("cls_pt_")}
    config = ViTConfig(**SIZES[size], absolute_positions=False, relative_positions="shared", layer_scale=0.1)
    aggregation = PatchAggregationConfig(early_layers=config.depth - 3) if variant == CLS else None
    with torch.device("meta"):
        model = ViTForMaskedImageModeling(config, codebook_size=8192, aggregation=aggregation)
        official = pretraining_to_official(model.state_dict(), config)
    assert {name: tuple(tensor.shape) for name, tensor in official.items()} == expected
    ours = PRETRAINING_MAP.to_ours(official)
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    assert sum(parameter.numel() for parameter in model.parameters()) == TOTALS[size, variant]


@AGGREGATIONS
def test_there_and_back_is_the_same(aggregation: PatchAggregationConfig | None) -> None:
    model = build(aggregation, relative_positions="per_block", absolute_positions=True)
    state = model.state_dict()
    official = pretraining_to_official(state, model.vit.config)
    back = PRETRAINING_MAP.to_ours(official)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)
    assert ("cls_pt_lm_head.weight" in official) == (aggregation is OWN)


def test_a_shared_table_given_to_each_block_changes_no_feature() -> None:
    shared = build().vit
    config = replace(CONFIG, relative_positions="per_block")
    single = type(shared)(config).eval()
    state = share_out_table(shared.state_dict(), CONFIG.depth)
    single.load_state_dict(state)
    torch.testing.assert_close(single(IMAGES), shared(IMAGES), **ROUNDING)
    tables = [w for name, w in state.items() if name.endswith("relative_positions.table")]
    assert len({w.data_ptr() for w in tables}) == len(tables) == 3  # each block learns its own
    assert share_out_table(state, CONFIG.depth).keys() == state.keys()


def test_a_pretrained_vit_has_the_names_that_fine_tuning_reads() -> None:
    pretrained = pretraining_to_official(build().state_dict(), CONFIG)
    names = classification_map("class_token")
    ours = names.to_ours({name: w for name, w in pretrained.items() if names.our_name(name)})
    kept = to_official(ours, CONFIG, "class_token")
    assert pretrained.keys() - kept.keys() == {"mask_token", "lm_head.weight", "lm_head.bias"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchAggregationConfig(early_layers=0), "early_layers counts blocks from 1; got 0"),
        (lambda: PatchAggregationConfig(num_blocks=0), "num_blocks must be at least 1; got 0"),
        (
            lambda: build(PatchAggregationConfig(early_layers=4)),
            "early_layers 4 is more than the 3 blocks of the ViT",
        ),
        (
            lambda: build()(IMAGES, CORRUPTION[:, :5]),
            r"corruption of shape \(2, 5\) does not fit 6 patches of 2 pictures",
        ),
        (
            lambda: build()(torch.zeros(2, 3, 16, 16), CORRUPTION),
            r"a grid of \(2, 2\) patches does not fit relative positions made for \(2, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_module_tree_without_aggregation_has_no_second_way() -> None:
    assert not [name for name, module in build().named_modules() if "class_" in name and _holds(module)]


def _holds(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
