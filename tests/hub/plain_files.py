"""Small files in the layouts of the released plain ViTs, and the models that they are of, by timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIDE, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 32, 8, 64, 2, 1, 5  # heads of 64 features, as in the released


def timm_vit(**settings: Any) -> Any:
    """A small `VisionTransformer` of timm with numbers so large that no part of it is without effect."""
    sizes = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    torch.manual_seed(0)
    model = VisionTransformer(**({"num_classes": CLASSES} | sizes | settings))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def pictures(side: int = SIDE) -> Tensor:
    """Two pictures."""
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Both compute the same sums in float32, in another order at most."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def google_arrays(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """A timm ViT under Google's names, in JAX's layouts."""
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    arrays: dict[str, Tensor] = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    heads = (model.blocks[0].attn.num_heads, -1)
    for block in range(len(model.blocks)):
        theirs, ours = f"Transformer/encoderblock_{block}/", f"blocks.{block}."
        for norm, number in (("norm1", 0), ("norm2", 2)):
            arrays[f"{theirs}LayerNorm_{number}/scale"] = state[f"{ours}{norm}.weight"]
            arrays[f"{theirs}LayerNorm_{number}/bias"] = state[f"{ours}{norm}.bias"]
        for number in (0, 1):
            linear = f"{ours}mlp.fc{number + 1}"
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/kernel"] = state[f"{linear}.weight"].T
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/bias"] = state[f"{linear}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        for part, weight, bias in zip(
            ("query", "key", "value"),
            state[f"{ours}attn.qkv.weight"].chunk(3),
            state[f"{ours}attn.qkv.bias"].chunk(3),
            strict=True,
        ):
            arrays[f"{attention}{part}/kernel"] = weight.T.unflatten(1, heads)
            arrays[f"{attention}{part}/bias"] = bias.unflatten(0, heads)
        arrays[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].T.unflatten(0, heads)
        arrays[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
    return {name: tensor.contiguous().numpy() for name, tensor in arrays.items()}


def write(form: str, path: Path) -> tuple[Path, Any]:
    """Write a small file of a release; returns it and the model that it is of.

    Args:
        form: ``deit``, ``augreg`` (timm's names), ``npz``, ``mae`` (pretrained, with its decoder),
            ``mae_tuned`` or ``dinov2``.
        path: Folder to write into.
    """
    file = path / f"{form}.{'npz' if form == 'npz' else 'pth'}"
    match form:
        case "deit":
            model = timm_vit()
            torch.save({"model": model.state_dict()}, file)
        case "augreg":
            model = timm_vit()
            torch.save(model.state_dict(), file)
        case "npz":
            model = timm_vit(num_heads=2)
            np.savez(file, **google_arrays(model))  # type: ignore[arg-type]  # names with slashes are names
        case "mae":
            model = timm_vit(num_classes=0)
            decoder = nn.Linear(WIDTH, 16)
            more = {"mask_token": torch.randn(1, 1, 16), "decoder_pos_embed": torch.randn(1, 17, 16)}
            more |= {f"decoder_embed.{name}": w for name, w in decoder.state_dict().items()}
            torch.save({"model": model.state_dict() | more}, file)
        case "mae_tuned":
            model = timm_vit(global_pool="avg", fc_norm=True)
            torch.save({"model": model.state_dict(), "epoch": 3}, file)
        case "dinov2":
            model = timm_vit(init_values=1.0, num_classes=0)
            torch.save(model.state_dict() | {"mask_token": torch.randn(1, WIDTH)}, file)
        case _:
            raise ValueError(form)
    return file, model
