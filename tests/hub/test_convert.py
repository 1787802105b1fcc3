"""Official names to ours, to timm's, and back: nothing lost, nothing invented, and the same answers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from imglish.errors import CheckpointError
from imglish.hub.convert import convert, to_imglish, to_official, to_timm_vision
from imglish.hub.sizes import Hints
from imglish.hub.weights import Weights, fill, resize
from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForMaskedDataModeling, Beit3ForRetrieval
from imglish.models.beit3.weights import resize_positions
from imglish.models.vit.model import ViT, ViTForClassification
from imglish.models.vit.positions import (
    relative_position_index,
    resample_positions,
    resize_positions as resize_vit_positions,
    resize_relative_positions,
)
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.config import VqkdConfig
from tests.hub.official_files import (
    BEIT3,
    BEIT_FINE_TUNED,
    BEIT_PRETRAINED,
    CAPTIONING,
    CLASSIFICATION,
    CODE_DIM,
    DEPTH,
    GRID,
    KINDS,
    NLVR2,
    NUM_ANSWERS,
    NUM_CLASSES,
    NUM_CODES,
    NUM_TEXT_POSITIONS,
    NUM_WORDS,
    PATCH,
    PRETRAINING,
    RETRIEVAL,
    TEACHER_DIM,
    TOKENIZER,
    VQA,
    WIDTH,
    same,
    shrunk,
    shrunk_shapes,
    without_numbers,
)

TOLERANCE = 1e-5  # float32 sums in another order
SIZE = (GRID * PATCH, GRID * PATCH)


def read(key_list: str, **given: Any) -> Weights:
    return to_imglish(shrunk(key_list), where=key_list, **given)


@pytest.mark.parametrize("key_list", KINDS)
def test_kind_and_labels_are_seen_in_the_names(key_list: str) -> None:
    weights = read(key_list)
    assert weights.kind == KINDS[key_list]
    expected = {
        PRETRAINING: NUM_CODES, VQA: NUM_ANSWERS, NLVR2: 2, CLASSIFICATION: NUM_CLASSES,
        BEIT_FINE_TUNED: NUM_CLASSES, BEIT_PRETRAINED: NUM_CODES, TOKENIZER: NUM_CODES,
    }  # fmt: skip
    assert weights.num_labels == expected.get(key_list, 0)


@pytest.mark.parametrize("key_list", BEIT3)
def test_sizes_of_a_beit3_are_seen_in_the_shapes(key_list: str) -> None:
    assert read(key_list).config == Beit3Config(
        image_size=SIZE,
        patch_size=PATCH,
        vocab_size=NUM_WORDS,
        max_text_tokens=NUM_TEXT_POSITIONS,
        width=WIDTH,
        depth=DEPTH,
        num_heads=1,
        feed_forward_width=4 * WIDTH,
        output_norm=key_list not in (VQA, CLASSIFICATION),
    )


def test_sizes_of_a_beit_and_a_tokenizer_are_seen_in_the_shapes() -> None:
    fine_tuned, pretrained = read(BEIT_FINE_TUNED).config, read(BEIT_PRETRAINED).config
    assert (fine_tuned.relative_positions, pretrained.relative_positions) == ("per_block", "shared")
    assert fine_tuned.image_size == pretrained.image_size == SIZE
    tokenizer = read(TOKENIZER).config
    assert isinstance(tokenizer, VqkdConfig)
    assert (tokenizer.codebook_dim, tokenizer.teacher_dim) == (CODE_DIM, TEACHER_DIM)
    assert (tokenizer.encoder.depth, tokenizer.decoder_depth, tokenizer.decoder_width) == (DEPTH, 1, WIDTH)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("key_list", BEIT3)
def test_a_beit3_comes_back_as_it_was(key_list: str, dtype: torch.dtype) -> None:
    official = {name: tensor.to(dtype) for name, tensor in shrunk(key_list).items()}
    weights = to_imglish(official, where="file")
    assert not weights.dropped
    assert same(to_official(weights), official)
    again = to_imglish(weights.state, where="file", hints=weights.hints())
    assert (again.kind, again.config) == (weights.kind, weights.config)
    assert same(to_official(again), official)


def test_a_fine_tuned_beit_comes_back_with_its_indices() -> None:
    official = shrunk(BEIT_FINE_TUNED)
    weights = to_imglish(official, where="file")
    assert set(weights.dropped) == {name for name in official if name.endswith("relative_position_index")}
    back = to_official(weights)
    assert back.keys() == official.keys()
    kept = official.keys() - set(weights.dropped)
    assert all(torch.equal(back[name], official[name]) for name in kept)
    assert all(back[name].shape == official[name].shape for name in weights.dropped)
    assert to_imglish(weights.state, where="file", hints=weights.hints()).config == weights.config


def test_a_tokenizer_comes_back_without_its_unused_statistics() -> None:
    official = shrunk(TOKENIZER)
    weights = to_imglish(official, where="file")
    unused = {"quantize.embedding.cluster_size", "quantize.embedding.embed_avg"}
    assert set(weights.dropped) == unused
    back = to_official(weights)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], official[name]) for name in official.keys() - unused)
    assert same(dict(to_imglish(weights.state, where="file").state), weights.state)


def test_a_beit_that_reads_its_class_token_is_told_apart() -> None:
    official = {name.replace("fc_norm.", "norm."): w for name, w in shrunk(BEIT_FINE_TUNED).items()}
    weights = to_imglish(official, where="file")
    assert weights.pooling == "class_token"
    again = to_imglish(weights.state, where="file", hints=weights.hints())
    model = fill(again)
    assert isinstance(model, ViTForClassification) and model.pooling == "class_token"
    assert to_official(again).keys() == official.keys()


def test_an_unused_output_norm_is_left_out_by_name() -> None:
    official = shrunk(VQA)
    norms = {f"beit3.encoder.layer_norm.{e}.{p}": torch.ones(WIDTH) for e in "AB" for p in ("weight", "bias")}
    assert set(to_imglish(official | norms, where="file").dropped) == norms.keys()


def test_an_encoder_alone_comes_back() -> None:
    official = {
        name.removeprefix("beit3."): w for name, w in shrunk(CAPTIONING).items() if name.startswith("beit3.")
    }
    weights = to_imglish(official, where="file")
    assert weights.kind == "backbone" and isinstance(fill(weights), Beit3Encoder)
    assert same(to_official(weights), official)


# timm's vision side


def timm_model(**settings: Any) -> VisionTransformer:
    """timm's BEiT-3 with other sizes; settings as of its ``beit3_base_patch16_224``."""
    model = VisionTransformer(
        img_size=GRID * PATCH, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=1, mlp_ratio=4,
        scale_attn_norm=True, scale_mlp_norm=True, norm_layer=partial(LayerNorm, eps=1e-5), **settings,
    )  # fmt: skip
    return model.eval()


@torch.no_grad()
def test_timm_classifies_as_ours_does() -> None:
    weights = read(CLASSIFICATION)
    timm = timm_model(global_pool="avg", num_classes=NUM_CLASSES)
    timm.load_state_dict(to_timm_vision(weights))
    images = torch.rand(2, 3, *SIZE) * 2 - 1
    torch.testing.assert_close(timm(images), fill(weights)(images), atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("key_list", [PRETRAINING, RETRIEVAL, CAPTIONING, NLVR2])
def test_timm_encodes_as_ours_does(key_list: str) -> None:
    weights = read(key_list)
    timm = timm_model(global_pool="token", num_classes=0)
    timm.load_state_dict(to_timm_vision(weights))
    images = torch.rand(2, 3, *SIZE) * 2 - 1
    encoder = fill(weights).encoder
    assert isinstance(encoder, Beit3Encoder)
    expected = encoder(images).vision
    torch.testing.assert_close(timm.forward_features(images), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_timm_itself_converts_the_official_file_to_the_same() -> None:
    official = shrunk(CLASSIFICATION)
    timm = timm_model(global_pool="avg", num_classes=NUM_CLASSES)
    expected = checkpoint_filter_fn(dict(official), timm)
    assert same(to_timm_vision(to_imglish(official, where="file")), expected)


@pytest.mark.parametrize("key_list", [CLASSIFICATION, RETRIEVAL, VQA])
def test_timm_names_come_back_as_they_were(key_list: str) -> None:
    timm = to_timm_vision(read(key_list))
    weights = to_imglish(timm, where="file")
    assert weights.vision_only and not weights.dropped
    assert weights.kind == ("image_classification" if key_list == CLASSIFICATION else "backbone")
    assert same(to_timm_vision(weights), timm)
    ours = to_imglish(weights.state, where="file", hints=weights.hints())
    assert ours.vision_only and same(to_timm_vision(ours), timm)


@torch.no_grad()
def test_a_vision_side_alone_sees_and_does_not_read() -> None:
    whole = read(CLASSIFICATION)
    model = fill(to_imglish(to_timm_vision(whole), where="file"))
    assert isinstance(model, Beit3ForImageClassification)
    images = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(model(images), fill(whole)(images))
    with pytest.raises(CheckpointError, match="vision side only, so no text can be read"):
        model.encoder(token_ids=torch.zeros(1, 3, dtype=torch.int64))


def test_a_pooling_norm_without_a_head_is_left_out_by_name() -> None:
    timm = to_timm_vision(read(CLASSIFICATION))
    headless = {name: w for name, w in timm.items() if not name.startswith("head.")}
    weights = to_imglish(headless, where="file")
    assert weights.kind == "backbone" and set(weights.dropped) == {"fc_norm.weight", "fc_norm.bias"}


def test_a_vision_side_alone_has_no_official_layout() -> None:
    weights = to_imglish(to_timm_vision(read(RETRIEVAL)), where="file")
    with pytest.raises(CheckpointError, match="^file: holds BEiT-3's vision side only"):
        convert(weights, "official")


def test_only_a_beit3_has_timms_vision_layout() -> None:
    with pytest.raises(CheckpointError, match="only BEiT-3 has the timm-vision layout"):
        convert(read(TOKENIZER), "timm-vision")


# other sizes


@pytest.mark.parametrize("image_size", [(32, 32), (24, 40), (8, 8)])
@pytest.mark.parametrize("key_list", [RETRIEVAL, VQA])
def test_a_beit3_is_resized_as_the_official_loader_does(key_list: str, image_size: tuple[int, int]) -> None:
    official = shrunk(key_list)
    weights = to_imglish(official, where="file", image_size=image_size)
    name = "beit3.encoder.embed_positions.A.weight"
    grid = (image_size[0] // PATCH, image_size[1] // PATCH)
    resized = to_official(weights)
    assert torch.equal(resized[name], resize_positions(official[name], (GRID, GRID), grid))
    assert same(
        {key: w for key, w in resized.items() if key != name},
        {key: w for key, w in official.items() if key != name},
    )
    assert fill(weights).encoder(torch.zeros(1, 3, *image_size)).vision.shape[1] == 1 + grid[0] * grid[1]


def test_half_precision_is_resampled_and_stays_half() -> None:
    official = {name: tensor.half() for name, tensor in shrunk(RETRIEVAL).items()}
    table = to_imglish(official, where="file", image_size=(32, 32)).state[
        "encoder.vision_embedding.positions.weight"
    ]
    assert table.dtype == torch.float16 and table.shape[0] == 3 + 16


def test_a_tokenizer_is_resized_with_its_decoder() -> None:
    model = fill(read(TOKENIZER, image_size=(32, 32)))
    assert model(torch.zeros(1, 3, 32, 32)).reconstruction.shape == (1, 16, TEACHER_DIM)


@pytest.mark.parametrize("image_size", [(48, 48), (24, 40), (16, 16)])
@pytest.mark.parametrize("key_list", [BEIT_FINE_TUNED, BEIT_PRETRAINED])
def test_a_beit_is_resized_as_the_official_loader_does(key_list: str, image_size: tuple[int, int]) -> None:
    old, new = (4, 4), (image_size[0] // PATCH, image_size[1] // PATCH)
    official = shrunk(key_list, grid=old)
    weights = to_imglish(official, where="file", image_size=image_size)
    back = to_official(weights)
    tables = {name for name in back if name.endswith("relative_position_bias_table")}
    assert len(tables) == (DEPTH if key_list == BEIT_FINE_TUNED else 1)
    for name in back:
        if name in tables:
            assert torch.equal(back[name], resize_relative_positions(official[name], old, new))
        elif name.endswith("relative_position_index"):
            assert torch.equal(back[name], relative_position_index(new))
        else:
            assert torch.equal(back[name], official[name])
    model = fill(weights)
    assert isinstance(model.vit, ViT)
    assert model.vit(torch.zeros(1, 3, *image_size)).shape == (1, new[0] * new[1], WIDTH)
    if isinstance(model, ViTForMaskedImageModeling):
        seen = model(torch.zeros(1, 3, *image_size), torch.ones(1, new[0] * new[1], dtype=torch.bool))
        assert seen.class_patches is not None and seen.class_patches.shape == (new[0] * new[1], NUM_CODES)


def test_absolute_positions_of_a_beit_are_resized_by_the_sizes_alone() -> None:
    table = torch.randn(1, 1 + GRID * GRID, WIDTH)
    official = shrunk(BEIT_FINE_TUNED) | {"pos_embed": table}
    resized = to_official(to_imglish(official, where="file", image_size=(24, 40)))["pos_embed"]
    assert torch.equal(resized, resize_vit_positions(table, (GRID, GRID), (3, 5)))
    half = to_imglish(official | {"pos_embed": table.half()}, where="file", image_size=(24, 40))
    assert half.state["vit.positions"].dtype == torch.float16


def test_positions_of_a_tokenizer_are_resampled_as_at_run_time() -> None:
    weights = read(TOKENIZER)
    resized = resize(weights, (32, 24))
    for name in ("encoder.positions", "decoder.positions"):
        expected = resample_positions(weights.state[name], (GRID, GRID), (4, 3))
        assert torch.equal(resized.state[name], expected)
    images = torch.rand(1, 3, 32, 24) * 2 - 1
    ran, loaded = fill(weights).encoder, fill(resized).encoder
    assert isinstance(ran, ViT) and isinstance(loaded, ViT)
    torch.testing.assert_close(loaded(images), ran(images))


@pytest.mark.parametrize("key_list", [RETRIEVAL, TOKENIZER, BEIT_FINE_TUNED])
def test_a_size_that_cuts_patches_is_refused(key_list: str) -> None:
    with pytest.raises(CheckpointError, match="image side 20 is not divisible by patch_size 8"):
        read(key_list, image_size=(20, 16))
    with pytest.raises(CheckpointError, match=r"image_size \(0, 8\); expected"):
        read(key_list, image_size=(0, 8))


def test_a_grid_that_is_not_square_is_asked_for_and_remembered() -> None:
    official = shrunk(CAPTIONING, grid=(2, 3))
    with pytest.raises(CheckpointError, match="6 patches are neither a square grid"):
        to_imglish(official, where="file")
    weights = to_imglish(official, where="file", image_size=(16, 24))
    assert weights.config.image_size == (16, 24) and same(to_official(weights), official)
    again = to_imglish(weights.state, where="file", hints=weights.hints())
    assert again.config == weights.config
    assert resize(again, (24, 16)).state["encoder.vision_embedding.positions.weight"].shape[0] == 9


def test_heads_are_asked_for_where_the_width_does_not_tell(caplog: pytest.LogCaptureFixture) -> None:
    official = shrunk(RETRIEVAL, width=96)
    with pytest.raises(CheckpointError, match=r"weights of width 96, .* pass num_heads"):
        to_imglish(official, where="file")
    assert to_imglish(official, where="file", hints=Hints(num_heads=4)).config.num_heads == 4
    with pytest.raises(CheckpointError, match="width 96 is not divisible by num_heads 5"):
        to_imglish(official, where="file", hints=Hints(num_heads=5))
    assert read(RETRIEVAL).config.num_heads == 1
    assert "1 attention heads assumed" in caplog.text


@pytest.mark.parametrize(("width", "num_heads"), [(768, 12), (1024, 16), (1408, 16)])
def test_published_widths_have_published_heads(
    width: int, num_heads: int, caplog: pytest.LogCaptureFixture
) -> None:
    state = without_numbers(shrunk_shapes(RETRIEVAL, width=width))
    assert to_imglish(state, where="file").config.num_heads == num_heads
    assert not caplog.text


# our own models


def test_the_papers_giant_is_recognised_and_has_no_official_names() -> None:
    config = Beit3Config(
        image_size=SIZE, patch_size=PATCH, vocab_size=NUM_WORDS, max_text_tokens=8, width=WIDTH, depth=3,
        num_heads=1, feed_forward_width=100, split_attention=False, sub_norm=False, num_fusion_layers=2,
    )  # fmt: skip
    state = Beit3ForMaskedDataModeling(config, codebook_size=5).state_dict()
    weights = to_imglish(state, where="file")
    assert weights.config == config and weights.kind == "masked_data_modeling"
    with pytest.raises(CheckpointError, match="have no rule in the weight map"):
        to_official(weights)


@pytest.mark.parametrize("kind", [Beit3ForCaptioning, Beit3ForRetrieval])
def test_a_small_model_with_a_convolutional_stem_is_recognised(kind: type[nn.Module]) -> None:
    config = Beit3Config(
        image_size=(32, 32), patch_size=16, stem="convolutional", vocab_size=NUM_WORDS, max_text_tokens=8,
        width=WIDTH, depth=1, num_heads=2, feed_forward_width=100,
    )  # fmt: skip
    model = kind(config)
    weights = to_imglish(model.state_dict(), where="file", hints=Hints(num_heads=2))
    assert weights.config == config
    assert same(dict(fill(weights).state_dict()), dict(model.state_dict()))


# files that are something else


def broken(change: str) -> dict[str, Tensor]:
    """An official VQA file with one fault."""
    state = shrunk(VQA)
    match change:
        case "missing":
            del state["beit3.encoder.layers.1.ffn.B.fc1.bias"]
        case "unexpected":
            state["beit3.encoder.layers.1.ffn.C.fc1.bias"] = torch.zeros(1)
        case "shape":
            state["pooler.dense.weight"] = torch.zeros(WIDTH, 3)
        case "layer":
            state = {name: w for name, w in state.items() if ".layers.0." not in name}
        case "two heads":
            state |= {"language_head.weight": torch.zeros(WIDTH, WIDTH)}
        case "unknown head":
            state = {name: w for name, w in state.items() if name.startswith("beit3.")}
            state["novel.weight"] = torch.zeros(1)
        case "positions":
            del state["beit3.encoder.embed_positions.A.weight"]
        case "flat":
            state["beit3.encoder.embed_positions.A.weight"] = torch.zeros(7)
        case "scalar":
            state["beit3.text_embed.weight"] = torch.tensor(1.0)
        case "no size":
            state["beit3.vision_embed.proj.weight"] = torch.zeros(1)
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "missing encoder.blocks.1.feed_forward.text.fc1.bias"),
        ("unexpected", "no rule in the weight map, first: beit3.encoder.layers.1.ffn.C.fc1.bias"),
        ("shape", r"pooler.dense.weight has shape \(64, 3\), the model expects \(64, 64\)"),
        ("layer", "blocks.0.feed_forward.vision.fc1.weight is missing"),
        ("two heads", "heads of retrieval and vqa in one file"),
        ("unknown head", r"a BEiT-3 with an unknown head \(novel.weight\)"),
        ("positions", "vision_embedding.positions.weight is missing"),
        ("no size", r"patches.proj.weight has shape \(1,\), expected 4 dimensions"),
        ("flat", r"vision_embedding.positions.weight has shape \(7,\), expected 2 dimensions"),
        ("scalar", "damaged vqa weights"),
    ],
)
def test_a_fault_is_named_in_one_line(change: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=f"^file: .*{words}") as caught:
        to_imglish(broken(change), where="file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["conv1.weight", "layer1.0.conv1.weight", "fc.bias"],
        ["cls_token", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias", "norm.weight"],
        [],
    ],
)
def test_weights_of_another_model_are_refused(names: list[str]) -> None:
    with pytest.raises(CheckpointError, match="^file: weights of no model known here"):
        to_imglish({name: torch.zeros(1) for name in names}, where="file")


@pytest.mark.parametrize("key_list", [TOKENIZER, BEIT_FINE_TUNED, BEIT_PRETRAINED])
def test_every_tensor_of_the_others_is_needed(key_list: str) -> None:
    whole = shrunk(key_list)
    dropped = to_imglish(whole, where="file").dropped
    for name in sorted(whole.keys() - set(dropped)):
        with pytest.raises(CheckpointError):
            to_imglish({key: w for key, w in whole.items() if key != name}, where="file")


def test_every_tensor_of_a_timm_file_is_needed() -> None:
    whole = to_timm_vision(read(CLASSIFICATION))
    optional = {"head.weight"}  # without it the file is read as a backbone, and then the bias is left over
    for name in sorted(whole.keys() - optional):
        with pytest.raises(CheckpointError):
            to_imglish({key: w for key, w in whole.items() if key != name}, where="file")
