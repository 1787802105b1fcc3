"""BEiTs as they are pretrained: whole, or their ViT alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.errors import CheckpointError
from imglish.hub.convert import to_imglish, to_official
from imglish.hub.sizes import Hints
from imglish.hub.weights import Weights, backbone_of, fill
from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit.positions import (
    relative_position_index,
)
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vit.weights import PRETRAINING_MAP
from tests.hub.official_files import (
    BEIT3,
    BEIT_FINE_TUNED,
    BEIT_PRETRAINED,
    GRID,
    NUM_CODES,
    PATCH,
    PRETRAINING,
    TOKENIZER,
    VQA,
    WIDTH,
    same,
    shrunk,
)

SIZE = (GRID * PATCH, GRID * PATCH)


def read(key_list: str) -> Weights:
    return to_imglish(shrunk(key_list), where=key_list)


def pretrained(*left_out: str) -> dict[str, Tensor]:
    """An official pretrained BEiT v2 with the index that its grid has, without names of some beginnings."""
    index = {"rel_pos_bias.relative_position_index": relative_position_index((GRID, GRID))}
    state = shrunk(BEIT_PRETRAINED) | index
    return {name: w for name, w in state.items() if not left_out or not name.startswith(left_out)}


def own_head() -> dict[str, Tensor]:
    """What BEiT v2's pretraining has besides where the second way shares no head with the first."""
    draw = torch.Generator().manual_seed(1)
    norm, head = torch.randn(2, WIDTH, generator=draw), torch.randn(NUM_CODES, WIDTH + 1, generator=draw)
    parts = {"norm.weight": norm[0], "norm.bias": norm[1]}
    parts |= {"lm_head.weight": head[:, 1:].clone(), "lm_head.bias": head[:, 0].clone()}
    return {f"cls_pt_{name}": tensor for name, tensor in parts.items()}


@pytest.mark.parametrize("form", ["BEiT v2", "BEiT v2 with an own head", "BEiT", "absolute positions"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_pretrained_beit_is_kept_whole_and_comes_back_as_it_was(form: str, dtype: torch.dtype) -> None:
    official = pretrained()
    match form:
        case "BEiT v2 with an own head":
            official |= own_head()
        case "BEiT":
            official = pretrained("cls_pt_")
        case "absolute positions":  # of those released, the one pretrained on ImageNet-1k
            official = pretrained("cls_pt_", "rel_pos_bias") | {"pos_embed": torch.randn(1, 5, WIDTH)}
            official = {name: w for name, w in official.items() if ".gamma_" not in name}
    official = {name: w.to(dtype) if w.is_floating_point() else w for name, w in official.items()}
    weights = to_imglish(official, where="file")
    assert weights.kind == "masked_image_modeling" and weights.num_labels == NUM_CODES
    assert all(name.endswith("relative_position_index") for name in weights.dropped)
    assert same(to_official(weights), official)
    again = to_imglish(weights.state, where="file", hints=weights.hints())
    assert (again.kind, again.config, again.aggregation) == (
        weights.kind,
        weights.config,
        weights.aggregation,
    )
    assert same(to_official(again), official)
    model = fill(again)
    assert isinstance(model, ViTForMaskedImageModeling)
    assert (model.aggregation is None) == (form in ("BEiT", "absolute positions"))
    assert (model.class_token_head is not None) == (form == "BEiT v2 with an own head")


def test_every_tensor_of_an_own_head_is_needed() -> None:
    whole = pretrained() | own_head()
    for name in own_head():
        with pytest.raises(CheckpointError, match="missing class_"):
            to_imglish({key: w for key, w in whole.items() if key != name}, where="file")


@torch.no_grad()
def test_a_pretrained_beit_sees_what_its_official_names_say() -> None:
    official = pretrained()
    weights = to_imglish(official, where="file", hints=Hints(early_layers=2))
    assert isinstance(weights.config, ViTConfig)
    model = ViTForMaskedImageModeling(
        weights.config, codebook_size=NUM_CODES, aggregation=PatchAggregationConfig(early_layers=2)
    )
    model.load_state_dict(PRETRAINING_MAP.to_ours(official))
    images, corruption = torch.rand(2, 3, *SIZE) * 2 - 1, torch.tensor([[True, False, True, True]] * 2)
    loaded = fill(weights)
    torch.testing.assert_close(loaded(images, corruption), model(images, corruption))
    other = fill(to_imglish(official, where="file", hints=Hints(early_layers=1)))
    assert not torch.allclose(other(images, corruption)[1], model(images, corruption)[1])


@pytest.mark.parametrize(("depth", "early"), [(12, 9), (24, 21)])
def test_released_depths_say_after_which_block_patches_are_taken(
    depth: int, early: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = ViTConfig(
        image_size=SIZE, patch_size=PATCH, width=16, depth=depth, num_heads=2, absolute_positions=False,
        relative_positions="shared",
    )  # fmt: skip
    own = PatchAggregationConfig(early_layers=3)
    state = ViTForMaskedImageModeling(config, codebook_size=5, aggregation=own).state_dict()
    assert to_imglish(state, where="file").aggregation == replace(own, early_layers=early)
    assert not caplog.text
    noted = to_imglish(state, where="file", hints=Hints(early_layers=3))
    assert noted.aggregation == own and noted.hints().early_layers == 3
    with pytest.raises(CheckpointError, match=f"taken after block {depth + 1} of {depth}; expected one"):
        to_imglish(state, where="file", hints=Hints(early_layers=depth + 1))


def test_other_depths_are_assumed_aloud(caplog: pytest.LogCaptureFixture) -> None:
    aggregation = to_imglish(pretrained(), where="file").aggregation
    assert aggregation is not None and aggregation.early_layers == 1
    assert "file: patches taken after block 1 of 2" in caplog.text


def test_a_pretrained_beit_without_its_head_is_its_vit() -> None:
    official = pretrained("lm_head.")
    weights = to_imglish(official, where="file")
    left = {name for name in official if name.startswith(("mask_token", "cls_pt_layers."))}
    assert left and set(weights.dropped) == left | {"rel_pos_bias.relative_position_index"}
    assert weights.kind == "backbone" and isinstance(fill(weights), ViT)
    assert to_official(weights).keys() == official.keys() - left


@torch.no_grad()
@pytest.mark.parametrize("key_list", [BEIT_PRETRAINED, BEIT_FINE_TUNED, PRETRAINING, VQA])
def test_a_backbone_is_what_the_whole_model_holds(key_list: str) -> None:
    weights = read(key_list)
    alone, whole = backbone_of(weights), fill(weights)
    assert alone.kind == "backbone" and backbone_of(alone) is alone
    encoder, model = whole.encoder if key_list in BEIT3 else whole.vit, fill(alone)
    assert same(dict(model.state_dict()), dict(encoder.state_dict()))  # type: ignore[union-attr]
    images = torch.rand(1, 3, *SIZE)
    expected = encoder(images)  # type: ignore[operator]
    torch.testing.assert_close(
        model(images).tokens if key_list in BEIT3 else model(images),
        expected.tokens if key_list in BEIT3 else expected,
    )
    again = to_imglish(alone.state, where="file", hints=alone.hints())
    assert (again.kind, again.config) == ("backbone", alone.config)


def test_a_tokenizer_is_no_backbone() -> None:
    with pytest.raises(CheckpointError, match=f"^{TOKENIZER}: a visual tokenizer, which is no backbone"):
        backbone_of(read(TOKENIZER))


def test_our_own_pretraining_with_a_table_for_each_block_is_resized_in_its_second_way_too() -> None:
    config = ViTConfig(
        image_size=SIZE, patch_size=PATCH, width=16, depth=2, num_heads=2, absolute_positions=False,
        relative_positions="per_block",
    )  # fmt: skip
    aggregation = PatchAggregationConfig(early_layers=1, num_blocks=1)
    model = ViTForMaskedImageModeling(config, codebook_size=5, aggregation=aggregation).eval()
    hints = Hints(early_layers=1)
    images, corruption = torch.rand(1, 3, *SIZE), torch.ones(1, GRID * GRID, dtype=torch.bool)
    loaded = fill(to_imglish(model.state_dict(), where="file", hints=hints))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images, corruption), model(images, corruption))
    wide = fill(to_imglish(model.state_dict(), where="file", hints=hints, image_size=(24, 40)))
    assert wide(torch.rand(1, 3, 24, 40), torch.ones(1, 15, dtype=torch.bool)).class_patches.shape == (15, 5)
