"""What is drawn of a look is what was computed; pictures that are not square among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from imglish.hub.load import load_model
from imglish.hub.run import LoadedRun
from imglish.inference.visualize_attention import WordAttention, attention_maps, word_attention
from imglish.inference.visualize_codebook import CodebookGallery, codebook_gallery
from imglish.inference.visualize_drawing import Tile, lines_of, sheet, spotlight
from imglish.inference.visualize_features import feature_maps, principal_colors
from imglish.inference.visualize_seen import see
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from tests.inference.test_visualize import PICTURE, TOLERANCE, classifier
from tests.inference.tiny_weights import segmenter

BLACK = np.zeros((10, 10, 3), np.uint8)


@pytest.fixture(scope="module")
def world() -> LoadedRun:
    return load_model("world_encoder")


def brightness(image: NDArray[np.uint8], top: int, left: int, side: int) -> float:
    return float(image[top : top + side, left : left + side].mean())


# Pictures that are not square


def test_patches_of_a_wide_picture_are_counted_row_by_row() -> None:
    run = classifier(image_size=(16, 48))
    every = [attention_maps(run, PICTURE, query=(row, column)) for row in range(2) for column in range(6)]
    mean = attention_maps(run, PICTURE, query="mean")
    assert mean.weights.shape == (2, 2, 2, 6)
    np.testing.assert_allclose(np.mean([one.weights for one in every], axis=0), mean.weights, atol=TOLERANCE)


def test_what_pads_a_picture_for_an_adapter_is_not_shown() -> None:
    run = segmenter()
    run = replace(run, config=replace(run.config, image_size=(24, 40)))  # padded to 32 x 64
    found = attention_maps(run, PICTURE)
    assert found.weights.shape == (1, 2, 3, 5) and found.rollout.shape == (3, 5)
    assert {name: one.shape[1:] for name, one in feature_maps(run, PICTURE).maps.items()} == {
        "ViT, stride 8": (3, 5),
        "adapter, stride 4": (6, 10),
        "adapter, stride 8": (3, 5),
        "adapter, stride 16": (2, 3),
        "adapter, stride 32": (1, 2),
    }


@torch.no_grad()
def test_a_wide_map_has_its_tokens_row_by_row() -> None:
    run = classifier(image_size=(16, 48))
    (found,) = feature_maps(run, PICTURE).maps.values()
    vit = next(module for module in run.model.modules() if isinstance(module, ViT))
    expected = vit(see(run, PICTURE).images)[0].T.view(16, 2, 6).numpy()
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@torch.no_grad()
def test_patches_of_wide_pictures_have_their_token_and_share_it_with_another() -> None:
    torch.manual_seed(0)
    encoder = ViTConfig(image_size=(16, 48), patch_size=8, width=16, depth=1, num_heads=2)
    config = VqkdConfig(
        encoder=encoder, decoder_width=16, decoder_depth=1, decoder_heads=2, codebook_size=64, codebook_dim=4,
        teacher_dim=8,
    )  # fmt: skip
    tokenizer = Vqkd(config).eval()
    nn.init.normal_(tokenizer.encoder.patches.proj.weight, std=0.2)
    pictures = [np.random.default_rng(seed).integers(0, 256, (16, 48, 3), np.uint8) for seed in range(4)]
    images = torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in pictures]) / 127.5 - 1
    ids = tokenizer.encode(images).view(4, 2, 6).numpy()
    counts = np.bincount(ids.flatten(), minlength=64)
    assert (counts == 1).any() and (counts > 1).any()
    found = codebook_gallery(tokenizer, pictures, num_tokens=64, num_patches=2, surroundings=0)
    assert set(found.tokens) == set(np.flatnonzero(counts > 1))
    for row, token in enumerate(found.tokens):
        for patch in found.patches[row][found.found[row]]:
            places = [
                (number, r, c)
                for number, one in enumerate(pictures)
                for r in range(2)
                for c in range(6)
                if np.abs(one[8 * r : 8 * r + 8, 8 * c : 8 * c + 8] / 255 - patch).max() < 1e-5
            ]
            assert len(places) == 1 and ids[places[0]] == token


# Sheets


def test_heads_have_rows_of_their_own_and_blocks_show_the_mean_of_theirs(world: LoadedRun) -> None:
    found = attention_maps(world, PICTURE)
    assert found.draw(heads=True).height > 2 * found.draw().height
    mean = np.broadcast_to(found.weights.mean(axis=1, keepdims=True), found.weights.shape)
    np.testing.assert_array_equal(replace(found, weights=mean).draw(), found.draw())


def test_one_scale_holds_for_all_words(world: LoadedRun) -> None:
    weights = np.zeros((1, 2, 2, 2, 2), np.float32)
    weights[:, 0, 0], weights[:, 0, 1] = 0.2, 0.05  # of the first head; the second looks nowhere
    seen = see(world, np.full((20, 20, 3), 200, np.uint8))
    found = WordAttention(words=("a", "b"), weights=weights, rollout=weights[0, 0], seen=seen)
    np.testing.assert_allclose(found.shares(), [0.4, 0.1])  # four patches, mean of two heads
    drawn = np.asarray(found.draw(tile=40))
    picture, first, second = (brightness(drawn, 18, 8 + 48 * place + 10, 20) for place in range(3))
    assert abs(picture - 200) < 3 and abs(first - 200) < 3 and second < 140


def test_the_shares_of_words_are_means_over_blocks_and_heads(world: LoadedRun) -> None:
    found = word_attention(world, PICTURE, "what is the star?")
    expected = found.weights.reshape(-1, *found.weights.shape[2:]).sum(axis=(2, 3)).mean(axis=0)
    np.testing.assert_allclose(found.shares(), expected, atol=TOLERANCE)


def test_lines_are_as_even_as_can_be() -> None:
    tiles = [Tile(BLACK, "")] * 8
    assert [len(line) for line in lines_of(tiles, 7)] == [4, 4]
    assert [len(line) for line in lines_of(tiles, 8)] == [8]
    assert [len(line) for line in lines_of(tiles[:7], 3)] == [3, 3, 1]


def test_a_sheet_has_tiles_of_one_shape_and_words_that_stay_below_theirs() -> None:
    for aspect, width in ((2.0, 80), (0.5, 20), (8.0, 160), (0.1, 10)):
        assert sheet([[Tile(BLACK, "")]], height=40, aspect=aspect).size == (width + 16, 56)
    drawn = np.asarray(
        sheet([[Tile(BLACK, "a very long name that does not fit"), Tile(BLACK, "")]], height=40)
    )
    below = drawn[8 + 40 :]
    assert below[:, 8:48].min() < 100 and (below[:, 50:] == 255).all()


def test_small_weights_are_seen() -> None:
    white = np.full((20, 40, 3), 255, np.uint8)
    lit = spotlight(white, np.array([[1, 0.1]], np.float32), side=40)
    assert lit[20, 60, 0] > 70  # in proportion it would be at 48


def test_a_gallery_shows_use_as_bars_and_pales_what_surrounds_a_patch() -> None:
    gallery = CodebookGallery(
        tokens=np.array([1]),
        patches=np.zeros((1, 1, 12, 12, 3), np.float32),
        found=np.ones((1, 1), np.bool_),
        cosines=np.ones((1, 1), np.float32),
        usage=np.array([0.25, 0.75]),
        patch_pixels=4,
    )
    drawn = np.asarray(gallery.draw(tile=64)).astype(int)
    # Below 76 rows of bars a label, and the patch beside it.
    assert brightness(drawn, 84 + 28, 80 + 28, 8) < 10 and abs(brightness(drawn, 84 + 4, 80 + 4, 8) - 140) < 5
    blue = (drawn[40] == (70, 110, 170)).all(axis=-1)  # where bars are higher than 30 of 40 pixels
    assert blue[10:70].all() and not blue[80:].any()  # the token of three quarters comes first
    assert gallery.perplexity == pytest.approx(0.25**-0.25 * 0.75**-0.75)


# Colours


@pytest.mark.parametrize("seed", range(6))
def test_the_same_features_have_the_same_colours_whatever_the_order_of_their_channels(seed: int) -> None:
    draw = np.random.default_rng(seed)
    features = (draw.standard_normal((5, 8, 8)) * np.array([5, 4, 3, 2, 1])[:, None, None]).astype(np.float32)
    for other in (features[::-1], np.roll(features, 2, axis=0)):
        np.testing.assert_allclose(principal_colors(other), principal_colors(features), atol=1e-3)


def test_a_single_strange_place_does_not_take_the_colours_of_all_others() -> None:
    features = np.zeros((1, 20, 20), np.float32)
    features[0] = np.linspace(0, 1, 400).reshape(20, 20)
    features[0, 0, 0] = 1000
    colors = principal_colors(features)[..., 0]
    assert colors[0, 0] == 1 and colors.std() > 0.25
