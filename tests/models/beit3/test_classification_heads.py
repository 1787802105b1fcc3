from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.errors import CheckpointError
from imglish.models.beit3 import weights
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.weight_map import WeightMap, check_state

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # another order of summation
NLVR2 = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=30, max_text_tokens=12, width=32, depth=2, num_heads=4,
    feed_forward_width=64,
)  # fmt: skip
CLASSES = replace(NLVR2, output_norm=False)


def shaken(model: nn.Module) -> nn.Module:
    """Nothing is zero or one by luck."""
    g = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=g))
    return model.eval()


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def words() -> Tensor:
    return torch.randint(4, 30, (2, 5), generator=torch.Generator().manual_seed(9))


def test_a_statement_is_judged_from_the_class_token_and_the_first_word_of_both_fused_sequences() -> None:
    model = shaken(Beit3ForNlvr2(NLVR2))
    assert isinstance(model, Beit3ForNlvr2)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    sides = []
    for images in (pictures(1), pictures(2)):
        encoded = model.encoder(images, words(), padding=padding)
        sides += [encoded.vision[:, 0], encoded.text[:, 0]]
    head = model.head
    x = F.layer_norm(torch.cat(sides, dim=1), (128,), head.input_norm.weight, head.input_norm.bias)
    x = F.gelu(head.norm(x @ head.dense.weight.T + head.dense.bias))
    expected = x @ head.output.weight.T + head.output.bias
    torch.testing.assert_close(model(pictures(1), pictures(2), words(), padding), expected, **ROUNDING)


def test_left_and_right_are_not_alike() -> None:
    model = shaken(Beit3ForNlvr2(NLVR2))
    straight, swapped = (model(pictures(a), pictures(b), words()) for a, b in ((1, 2), (2, 1)))
    assert not torch.allclose(straight, swapped, atol=1e-3)


def test_a_class_is_read_from_the_mean_of_the_patches_without_the_class_token() -> None:
    model = shaken(Beit3ForImageClassification(CLASSES, num_classes=7))
    assert isinstance(model, Beit3ForImageClassification)
    patches = model.encoder(pictures(1)).tokens[:, 1:].mean(1)
    expected = model.head(F.layer_norm(patches, (32,), model.norm.weight, model.norm.bias))
    logits = model(pictures(1))
    assert logits.shape == (2, 7)
    torch.testing.assert_close(logits, expected, **ROUNDING)


@pytest.mark.parametrize("init", ["released", "paper"])
def test_new_heads_start_near_zero_and_those_of_small_models_do_not(init: str) -> None:
    torch.manual_seed(0)
    for rule in (init, "scaled"):
        config = replace(CLASSES, init=rule)  # type: ignore[arg-type]
        pair, classes = Beit3ForNlvr2(config), Beit3ForImageClassification(config, num_classes=7)
        for linear in (pair.head.dense, pair.head.output, classes.head):
            assert linear.bias.abs().max() == 0
            largest = linear.weight.abs().max().item()
            assert largest > 0.1 if rule == "scaled" else 1e-6 < largest <= 2.001e-5


CASES = [
    (Beit3ForNlvr2(NLVR2), weights.NLVR2_MAP),
    (Beit3ForImageClassification(CLASSES, num_classes=7), weights.IMAGE_CLASSIFICATION_MAP),
]


@pytest.mark.parametrize(("model", "weight_map"), CASES, ids=["nlvr2", "classification"])
def test_weights_go_to_the_official_names_and_back(model: nn.Module, weight_map: WeightMap) -> None:
    official = weight_map.to_official(model.state_dict())
    assert set(official) == {str(weight_map.official_name(name)) for name in model.state_dict()}
    back = weight_map.to_ours(official)
    check_state(back, model.state_dict(), where="round trip")
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("model", "weight_map"), CASES, ids=["nlvr2", "classification"])
def test_weights_that_do_not_belong_are_refused(model: nn.Module, weight_map: WeightMap) -> None:
    official = weight_map.to_official(model.state_dict())
    with pytest.raises(CheckpointError, match=r"1 checkpoint names .*pooler\.dense\.weight"):
        weight_map.to_ours(official | {"pooler.dense.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"1 model names .*pooler\.dense\.weight"):
        weight_map.to_official(model.state_dict() | {"pooler.dense.weight": torch.zeros(1)})
    name = next(name for name in official if name.startswith("head."))
    del official[name]
    with pytest.raises(CheckpointError, match="missing head"):
        check_state(weight_map.to_ours(official), model.state_dict(), where="checkpoint")


def test_the_output_norm_of_a_released_checkpoint_is_left_out_by_the_classifier_only() -> None:
    unused = {"beit3.encoder.layer_norm.A.weight": torch.zeros(32)}
    assert weights.IMAGE_CLASSIFICATION_MAP.to_ours(unused) == {}
    assert list(weights.NLVR2_MAP.to_ours(unused)) == ["encoder.norm.vision.weight"]
