"""Pictures of what a model sees are of the numbers that it computes, and leave it as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imglish.data.world.annotate import annotate
from imglish.data.world.render import render
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.errors import CheckpointError, ConfigError, DataFormatError
from imglish.hub.load import load_model
from imglish.hub.run import LoadedRun
from imglish.inference.visualize_attention import attention_maps, word_attention
from imglish.inference.visualize_codebook import codebook_gallery
from imglish.inference.visualize_drawing import spotlight
from imglish.inference.visualize_features import feature_maps, principal_colors
from imglish.inference.visualize_seen import see
from imglish.models.beit3.attention_weights import attention_weights
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import Beit3ForCaptioning
from imglish.models.joint import JointModel
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViTForClassification
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.ops.attention import prefix_causal_mask
from imglish.structures.tokens import TokenLayout
from tests.inference.tiny_weights import pixels, segmenter

TOLERANCE = 1e-5
PICTURE = pixels(40, 60)


@pytest.fixture(scope="module")
def world() -> LoadedRun:
    return load_model("world_encoder")


def encoder_of(run: LoadedRun) -> Beit3Encoder:
    return next(module for module in run.model.modules() if isinstance(module, Beit3Encoder))


def num_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


# The picture


@pytest.mark.parametrize("imagenet", [False, True])
def test_pixels_are_what_the_model_is_shown(imagenet: bool) -> None:
    settings = {"pictures": "imagenet", "crop_share": 1.0} if imagenet else {}
    found = see(replace(classifier(), settings=settings), PICTURE)
    shown = Image.fromarray(PICTURE[:, 10:50] if imagenet else PICTURE)  # the middle square, or squashed
    expected = np.asarray(shown.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(found.pixels - expected).max() <= 2 and found.size == (32, 32)
    assert found.aspect == (1.0 if imagenet else 1.5)


# Attention in a picture


@torch.no_grad()
def test_maps_are_the_class_tokens_weights_and_the_rollout_their_product(world: LoadedRun) -> None:
    found, encoder = attention_maps(world, PICTURE), encoder_of(world)
    patch = attention_maps(world, PICTURE, query=(1, 2))
    x, layout, _ = encoder.embed(see(world, PICTURE).images, None)
    product = torch.eye(17)
    for layer, block in enumerate(encoder.blocks):
        weights, _ = attention_weights(block.attention, block.norm1(x, layout), layout)
        expected = weights[0, :, 0, 1:].view(-1, 4, 4).numpy()
        np.testing.assert_allclose(found.weights[layer], expected, atol=TOLERANCE)
        expected = weights[0, :, 1 + 1 * 4 + 2, 1:].view(-1, 4, 4).numpy()
        np.testing.assert_allclose(patch.weights[layer], expected, atol=TOLERANCE)
        product = (weights[0].mean(dim=0) + torch.eye(17)) / 2 @ product
        x = block(x, layout)
    np.testing.assert_allclose(found.rollout, product[0, 1:].view(4, 4).numpy(), atol=TOLERANCE)
    assert found.query == "class" and num_hooks(world.model) == 0


def test_a_patch_or_the_mean_of_all_can_be_asked(world: LoadedRun) -> None:
    every = [attention_maps(world, PICTURE, query=(row, column)) for row in range(4) for column in range(4)]
    mean = attention_maps(world, PICTURE, query="mean")
    np.testing.assert_allclose(np.mean([one.weights for one in every], axis=0), mean.weights, atol=TOLERANCE)
    assert not np.allclose(every[0].weights, every[15].weights)


@pytest.mark.parametrize("query", [(4, 0), (0, -1), "patch", (1, 2, 3)])
def test_a_query_that_is_not_there_is_refused(world: LoadedRun, query: object) -> None:
    with pytest.raises(ConfigError, match=r"query is .*; expected class, mean, or \(row, column\)"):
        attention_maps(world, PICTURE, query=query)  # type: ignore[arg-type]


def classifier(**settings: object) -> LoadedRun:
    torch.manual_seed(0)
    base = ViTConfig(image_size=(32, 32), patch_size=8, width=16, depth=2, num_heads=2)
    config = replace(base, **settings)  # type: ignore[arg-type]
    model = ViTForClassification(config, num_classes=3).eval()
    return LoadedRun(
        kind="image_classification",
        model=model,
        config=config,
        text=None,
        labels=("a", "b", "c"),
        settings={},
    )


@torch.no_grad()
def test_a_vit_without_class_token_is_asked_for_its_mean() -> None:
    run = classifier(class_token=False, relative_positions="per_block")
    found = attention_maps(run, PICTURE)
    assert found.query == "mean" and found.weights.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(found.weights.sum(axis=(2, 3)), 1, atol=TOLERANCE)
    np.testing.assert_allclose(found.rollout.sum(), 1, atol=TOLERANCE)
    with pytest.raises(ConfigError, match="no class token"):
        attention_maps(run, PICTURE, query="class")


def test_windows_are_refused_and_the_hooks_of_a_failed_look_are_gone(world: LoadedRun) -> None:
    with pytest.raises(ConfigError, match="blocks 0, 1 of this model look within windows of 2 patches"):
        attention_maps(classifier(class_token=False, windows=(2, 2)), PICTURE)
    broken = nn.Module.register_forward_pre_hook(encoder_of(world).blocks[2], lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attention_maps(world, PICTURE)
    broken.remove()
    assert num_hooks(world.model) == 0


def test_a_vit_inside_a_segmenter_is_shown_without_its_padding() -> None:
    run = segmenter()
    found = attention_maps(run, PICTURE)
    assert found.weights.shape == (1, 2, 4, 4)  # 32 pixels in patches of 8
    assert found.draw().size[0] > 160 and found.seen.pixels.shape == (32, 32, 3)


# Words


@torch.no_grad()
def test_words_of_a_pair_have_their_tokens_weights(world: LoadedRun) -> None:
    found, encoder = word_attention(world, PICTURE, "what is the star?"), encoder_of(world)
    assert world.text is not None
    ids = torch.tensor([world.text.encode_for_model("what is the star?", 48)])
    pieces = world.text.pieces(ids[0].tolist())
    x, layout, _ = encoder.embed(see(world, PICTURE).images, ids)
    weights, _ = attention_weights(encoder.blocks[0].attention, encoder.blocks[0].norm1(x, layout), layout)
    assert found.words == ("what", "is", "the", "star", "?")
    if len(pieces) == 7:  # every word is one piece
        expected = weights[0, :, 18:23, 1:17].unflatten(-1, (4, 4)).numpy()
        np.testing.assert_allclose(found.weights[0], expected, atol=TOLERANCE)
    assert found.weights.shape == (4, 4, 5, 4, 4) and found.rollout.shape == (5, 4, 4)
    assert ((0 < found.shares()) & (found.shares() < 1)).all() and num_hooks(world.model) == 0


def test_a_word_of_several_pieces_is_their_mean(world: LoadedRun) -> None:
    found = word_attention(world, PICTURE, "a xqz star")
    assert found.words == ("a", "xqz", "star")
    assert world.text is not None and len(world.text.encode("xqz")) > 1
    assert np.isfinite(found.weights).all()


def test_words_of_the_world_look_at_what_they_name(world: LoadedRun) -> None:
    """Colour and shape words of 24 scenes of one thing look at its box, and more so than other words do."""
    named, others, scenes = [], [], 0
    for index in range(400):
        scene = draw_scene(WorldConfig(), "validation", index)
        if len(scene.things) != 1:
            continue
        scenes += 1
        thing = scene.things[0]
        left, top, right, bottom = annotate(scene).boxes_xyxy[0]
        box = np.zeros((64, 64))
        box[int(top) : int(bottom), int(left) : int(right)] = 1
        inside = box.reshape(4, 16, 4, 16).mean(axis=(1, 3))
        found = word_attention(world, render(scene), f"a picture of a {thing.colour} {thing.shape}")
        maps = found.weights.mean(axis=(0, 1))
        gain = (maps * inside).sum(axis=(1, 2)) / maps.sum(axis=(1, 2)) / inside.mean()
        named.append(gain[4:6])
        others.append(gain[:4])
        if scenes == 24:
            break
    assert scenes == 24
    assert np.mean(named) > 1.3  # measured 1.6
    assert np.mean(named) > np.mean(others) + 0.2


def captioner(world: LoadedRun) -> LoadedRun:
    torch.manual_seed(0)
    assert isinstance(world.config, Beit3Config) and world.text is not None
    config = Beit3Config(
        image_size=(16, 16), patch_size=8, vocab_size=256, max_text_tokens=12, width=16, depth=2, num_heads=2,
        feed_forward_width=16, init="scaled",
    )  # fmt: skip
    return LoadedRun(
        kind="captioning",
        model=Beit3ForCaptioning(config).eval(),
        config=config,
        text=world.text,
        labels=(),
        settings={"max_text_tokens": 12, "num_beams": 2, "length_penalty": 0.6},
    )


@torch.no_grad()
def test_a_captioners_word_looks_where_it_is_written(world: LoadedRun) -> None:
    run = captioner(world)
    found, text = word_attention(run, PICTURE, "a red star"), run.text
    assert text is not None and found.words == ("a", "red", "star")
    ids = text.encode_for_model("a red star", 12)
    encoder = encoder_of(run)
    shown = torch.tensor([[*ids[:2], text.mask_id]])  # the second word is written after the first one
    x, layout, _ = encoder.embed(see(run, PICTURE).images, shown)
    mask = prefix_causal_mask(layout)
    for layer, block in enumerate(encoder.blocks):
        weights, _ = attention_weights(block.attention, block.norm1(x, layout), layout, mask)
        expected = weights[0, :, -1, 1:5].view(2, 2, 2).numpy()
        np.testing.assert_allclose(found.weights[layer, :, 1], expected, atol=TOLERANCE)
        x = block(x, layout, mask)
    assert num_hooks(run.model) == 0


@torch.no_grad()
def test_words_that_the_picture_does_not_see_look_at_its_keys(world: LoadedRun) -> None:
    encoder = encoder_of(world)
    found = word_attention(replace(world, kind="joint", model=JointModel(encoder, {})), PICTURE, "a red star")
    assert world.text is not None
    ids = torch.tensor([world.text.encode_for_model("a red star", 48)])
    pictures, x = encoder.look(see(world, PICTURE).images), encoder.text_embedding(ids)
    layout, alone = TokenLayout(0, ids.shape[1], of_pair=True), TokenLayout(17, 0)
    num_tokens = 17 + ids.shape[1]
    product = torch.eye(num_tokens)
    for layer, block in enumerate(encoder.blocks):
        seen, y = pictures.memory[layer], block.norm1(x, layout)
        weights, values = attention_weights(block.attention, y, layout, past=seen)
        own = block.attention.output((weights @ values).transpose(1, 2).flatten(2), layout)
        expected, _ = block.attention.extend(y, layout, None, None, shared=seen)
        torch.testing.assert_close(own, expected, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(
            found.weights[layer, :, 1], weights[0, :, 2, 1:17].view(4, 4, 4).numpy(), atol=TOLERANCE
        )
        step = torch.zeros(num_tokens, num_tokens)  # the picture sees no word
        vision, _ = attention_weights(block.attention, block.norm1(pictures.tokens[layer], alone), alone)
        step[:17, :17], step[17:] = vision[0].mean(dim=0), weights[0].mean(dim=0)
        product = (step + torch.eye(num_tokens)) / 2 @ product
        x, _ = block.extend(x, layout, None, None, shared=seen)
    np.testing.assert_allclose(found.rollout[1], product[19, 1:17].view(4, 4).numpy(), atol=TOLERANCE)
    torch.testing.assert_close(encoder.normalise(x, layout), encoder.read(ids, pictures))
    assert found.words == ("a", "red", "star") and (found.shares() < 1).all()


def test_models_whose_words_see_no_picture_are_refused(world: LoadedRun) -> None:
    with pytest.raises(ConfigError, match="no word looks at patches in a model of retrieval; give a BEiT-3"):
        word_attention(replace(world, kind="retrieval"), PICTURE, "a star")
    with pytest.raises(ConfigError, match="no word looks at patches in a model of semantic_segmentation"):
        word_attention(segmenter(), PICTURE, "a star")
    with pytest.raises(CheckpointError, match="without a text tokenizer"):
        word_attention(replace(world, text=None), PICTURE, "a star")
    with pytest.raises(ConfigError, match="has no word"):
        word_attention(world, PICTURE, "  ")
    with pytest.raises(DataFormatError, match="no such file"):
        word_attention(world, "missing.png", "a star")


# Visual tokens


@pytest.fixture(scope="module")
def tokenizer() -> Vqkd:
    torch.manual_seed(0)
    encoder = ViTConfig(image_size=(32, 32), patch_size=8, width=16, depth=1, num_heads=2)
    config = VqkdConfig(
        encoder=encoder, decoder_width=16, decoder_depth=1, decoder_heads=2, codebook_size=6, codebook_dim=4,
        teacher_dim=8,
    )  # fmt: skip
    model = Vqkd(config).eval()
    nn.init.normal_(model.encoder.patches.proj.weight, std=0.2)
    return model


@torch.no_grad()
def test_patches_of_a_line_share_its_token_and_the_nearest_come_first(tokenizer: Vqkd) -> None:
    pictures = [np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8) for seed in range(12)]
    found = codebook_gallery(tokenizer, pictures, num_tokens=4, num_patches=5, surroundings=0)
    images = torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in pictures]) / 127.5 - 1
    ids = tokenizer.encode(images).view(12, 4, 4)
    assert found.patches.shape == (len(found.tokens), 5, 8, 8, 3) and found.patches.max() <= 1
    for row, token in enumerate(found.tokens):
        shown = found.patches[row][found.found[row]]
        owners = [
            (number, r, c)
            for number, one in enumerate(pictures)
            for r in range(4)
            for c in range(4)
            for patch in shown
            if np.abs(one[8 * r : 8 * r + 8, 8 * c : 8 * c + 8] / 255 - patch).max() < 1e-5
        ]
        assert len(owners) == len(shown) and all(ids[place] == token for place in owners)
        having = int((ids == token).flatten(1).any(dim=1).sum())
        assert len({number for number, _, _ in owners}) == min(5, having)  # by turns
        near = found.cosines[row][found.found[row]]
        assert (np.diff(near) <= 0).all() and near[0] <= 1 + TOLERANCE
    counts = np.bincount(ids.flatten().numpy(), minlength=6)
    np.testing.assert_allclose(found.usage, counts / counts.sum())
    assert list(found.usage[found.tokens]) == sorted(found.usage[found.tokens], reverse=True)
    assert found.num_used == (counts > 0).sum() and 1 <= found.perplexity <= found.num_used
    assert found.draw().size[0] > 64


def test_tokens_come_from_different_pictures_while_there_are_enough(tokenizer: Vqkd) -> None:
    picture = np.full((32, 32, 3), 90, np.uint8)  # its patches differ by their places only
    found = codebook_gallery(tokenizer, [picture] * 3, num_tokens=1, num_patches=3, surroundings=1.0)
    assert found.patches.shape == (1, 3, 24, 24, 3) and found.found.all()
    np.testing.assert_allclose(found.cosines, found.cosines[0, 0], atol=TOLERANCE)  # the nearest of each


def test_a_gallery_of_nothing_is_refused(tokenizer: Vqkd) -> None:
    with pytest.raises(ConfigError, match="at least one picture"):
        codebook_gallery(tokenizer, [])
    with pytest.raises(ConfigError, match="num_tokens must be a whole number"):
        codebook_gallery(tokenizer, [PICTURE], num_tokens=0)
    with pytest.raises(ConfigError, match="surroundings must lie in"):
        codebook_gallery(tokenizer, [PICTURE], surroundings=-1)


# Features


@torch.no_grad()
def test_maps_of_vit_and_adapter_stand_side_by_side() -> None:
    run = segmenter()
    found = feature_maps(run, PICTURE)
    assert {name: one.shape for name, one in found.maps.items()} == {
        "ViT, stride 8": (16, 4, 4),
        "adapter, stride 4": (16, 8, 8),
        "adapter, stride 8": (16, 4, 4),
        "adapter, stride 16": (16, 2, 2),
        "adapter, stride 32": (16, 1, 1),
    }
    adapter = run.model.get_submodule("backbone")
    expected = adapter(found.seen.images)[4][0].numpy()
    np.testing.assert_allclose(found.maps["adapter, stride 4"], expected, atol=TOLERANCE)
    tokens, grid = adapter.backbone.embed(found.seen.images)
    plain = adapter.backbone.run_blocks(tokens, 0, 1, grid)[0, 1:].T.view(16, 4, 4).numpy()
    np.testing.assert_allclose(found.maps["ViT, stride 8"], plain, atol=TOLERANCE)
    assert found.draw().size[0] > 224


def test_a_model_without_adapter_has_the_vits_map_alone(world: LoadedRun) -> None:
    run = replace(world, model=encoder_of(world))
    assert [one.shape for one in feature_maps(run, PICTURE).maps.values()] == [(128, 4, 4)]


def test_colours_are_the_strongest_components() -> None:
    rows, columns = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9), indexing="ij")
    features = np.stack([3 * columns, 0 * rows, -rows]).astype(np.float32)
    colors = principal_colors(features)
    assert np.corrcoef(colors[..., 0].ravel(), columns.ravel())[0, 1] > 0.99  # the largest weight is positive
    assert np.corrcoef(colors[..., 1].ravel(), -rows.ravel())[0, 1] > 0.99 or (
        np.corrcoef(colors[..., 1].ravel(), rows.ravel())[0, 1] > 0.99
    )
    assert (colors[..., 2] == 0.5).all() and colors.min() == 0 and colors.max() == 1
    assert (principal_colors(np.ones((4, 2, 2), np.float32)) == 0.5).all()
    assert (principal_colors(np.ones((1, 1, 1), np.float32)) == 0.5).all()


def test_features_that_are_no_map_have_no_colours() -> None:
    with pytest.raises(ConfigError, match=r"shape \(4, 4\)"):
        principal_colors(np.ones((4, 4), np.float32))
    with pytest.raises(ConfigError, match="not finite"):
        principal_colors(np.full((2, 2, 2), np.nan, np.float32))


# Drawing


def test_what_is_looked_at_is_bright_and_the_rest_dark() -> None:
    white = np.full((20, 40, 3), 255, np.uint8)
    lit = spotlight(white, np.array([[0, 1], [0, 0.5]], np.float32), side=40)
    assert lit.shape == (40, 80, 3)
    assert lit[5, 60].tolist() == [255] * 3 and lit[5, 20, 0] < 40 < lit[30, 60, 0] < 255
    assert spotlight(white, np.array([[1.0]], np.float32), most=10.0)[0, 0, 0] < 120
    framed = spotlight(white, None, patch=(1, 0), grid=(2, 2), side=40)
    assert framed[21, 20].tolist() != [255] * 3 and framed[5, 60].tolist() == [255] * 3
