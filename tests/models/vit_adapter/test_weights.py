from __future__ import annotations

import pytest
import torch

from imglish.errors import CheckpointError
from imglish.models.vit_adapter.weights import ADAPTER_MAP
from tests.models.vit_adapter.tiny import vit_adapter

# The official names of an adapter with two interactions and one extra extractor, but for the inside of the
# parts that repeat.
LINEAR = ("weight", "bias")
BATCH_NORM = (*LINEAR, "running_mean", "running_var", "num_batches_tracked")
ATTENTION = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")


def named(*names: str, parts: tuple[str, ...] = LINEAR) -> set[str]:
    return {f"{name}.{part}" for name in names for part in parts}


def official_injector(prefix: str) -> set[str]:
    attention = (f"{prefix}.attn.{layer}" for layer in ATTENTION)
    return {f"{prefix}.gamma"} | named(f"{prefix}.query_norm", f"{prefix}.feat_norm", *attention)


def official_extractor(prefix: str) -> set[str]:
    layers = ("query_norm", "feat_norm", "ffn_norm", "ffn.fc1", "ffn.dwconv.dwconv", "ffn.fc2")
    attention = (f"attn.{layer}" for layer in ATTENTION)
    return named(*(f"{prefix}.{layer}" for layer in (*layers, *attention)))


def official_names() -> set[str]:
    convolutions = ("stem.0", "stem.3", "stem.6", "conv2.0", "conv3.0", "conv4.0")
    norms = ("stem.1", "stem.4", "stem.7", "conv2.1", "conv3.1", "conv4.1")
    return (
        {"level_embed"}
        | named(*(f"spm.{name}" for name in convolutions), parts=("weight",))
        | named(*(f"spm.{name}" for name in norms), parts=BATCH_NORM)
        | named("spm.fc1", "spm.fc2", "spm.fc3", "spm.fc4", "up")
        | named("norm1", "norm2", "norm3", "norm4", parts=BATCH_NORM)
        | official_injector("interactions.0.injector")
        | official_injector("interactions.1.injector")
        | official_extractor("interactions.0.extractor")
        | official_extractor("interactions.1.extractor")
        | official_extractor("interactions.1.extra_extractors.0")
    )


def own_state() -> dict[str, torch.Tensor]:
    """The adapter's parts without the backbone, which has a map of its own."""
    state = vit_adapter().state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("backbone.")}


def test_every_part_has_its_official_name() -> None:
    assert ADAPTER_MAP.to_official(own_state()).keys() == official_names()


def test_there_and_back_is_the_same() -> None:
    state = own_state()
    back = ADAPTER_MAP.to_ours(ADAPTER_MAP.to_official(state))
    assert back.keys() == state.keys() and all(back[name] is state[name] for name in state)


def test_parts_that_look_alike_do_not_change_places() -> None:
    ours = {name: ADAPTER_MAP.our_name(name) for name in official_names()}
    assert ours["level_embed"] == "level_embedding"
    assert ours["norm3.running_var"] == "norms.2.running_var"
    assert ours["spm.conv4.1.num_batches_tracked"] == "spatial_prior.conv4.1.num_batches_tracked"
    assert ours["spm.fc4.bias"] == "spatial_prior.fc4.bias"
    injector, extra = "interactions.1.injector", "interactions.1.extra_extractors.0"
    assert ours[f"{injector}.feat_norm.weight"] == f"{injector}.feature_norm.weight"
    assert ours[f"{injector}.attn.value_proj.bias"] == f"{injector}.attention.value_proj.bias"
    assert ours[f"{extra}.ffn.dwconv.dwconv.weight"] == f"{extra}.feed_forward.depthwise.weight"
    assert ours[f"{extra}.ffn.fc2.weight"] == f"{extra}.feed_forward.fc2.weight"
    assert ours[f"{extra}.ffn_norm.bias"] == f"{extra}.feed_forward_norm.bias"


def test_official_weights_load_and_give_the_same_maps() -> None:
    first, second = vit_adapter(), vit_adapter()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    backbone = {f"backbone.{name}": tensor for name, tensor in first.backbone.state_dict().items()}
    own = {name: t for name, t in first.state_dict().items() if name not in backbone}
    second.load_state_dict(backbone | ADAPTER_MAP.to_ours(ADAPTER_MAP.to_official(own)))
    image = torch.rand(1, 3, 32, 64)
    for stride, expected in first(image).maps.items():
        assert torch.equal(second(image)[stride], expected)


@pytest.mark.parametrize("name", ["interactions.0.injector.ffn.fc1.weight", "spm.gamma", "blocks.0.gamma1"])
def test_a_name_of_another_model_is_refused(name: str) -> None:
    official = ADAPTER_MAP.to_official(own_state()) | {name: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=name):
        ADAPTER_MAP.to_ours(official)
