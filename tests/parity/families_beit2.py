"""Parity families of BEiT v2 and BEiT: visual tokenizer, k-means, block masking, fine-tuned ViT.

Their pretraining has a file of its own.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from imglish.data.transforms.image import to_model_range
from imglish.losses.distillation import commitment
from imglish.models.vit.config import RelativePositions, ViTConfig
from imglish.models.vit.model import Pooling, ViTForClassification
from imglish.models.vit.positions import relative_position_index, resample_positions
from imglish.models.vit.weights import classification_map, to_official
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.weights import VQKD_MAP, from_official
from imglish.models.weight_map import check_state
from imglish.ops.block_masking import BlockMasking
from imglish.ops.kmeans import spherical_kmeans
from imglish.structures.batches import ImageBatch
from imglish.tasks.visual_tokenizer import VisualTokenizerTask
from tests.parity.case import Call, Case, Check, Family, Kind, NotCoveredError
from tests.parity.compare import gradient_norms

# Both sides are draws: about five standard deviations of the difference of two frequencies.
DEVIATIONS = 5.0
# Root mean square, over patches, of differences averaged over the square's symmetries. Measured for 2000
# draws: 0.003 to 0.009 with equal settings, 0.015 and more with another aspect ratio or smallest block.
PROFILE_NOISE = 0.6

_CLASSIFIERS = ("beit VisionTransformer", "beit2 VisionTransformer")

# What all released models have; a case may leave out what is no setting of its class.
_FIXED: dict[str, Any] = {"qkv_bias": True, "qk_scale": None, "norm_layer": "LayerNorm eps 1e-6"}
_FIXED_IN_TOKENIZERS: dict[str, Any] = {
    "use_abs_pos_emb": True,
    "use_rel_pos_bias": False,
    "use_shared_rel_pos_bias": False,
    "use_mean_pooling": True,
}


class GivenTeacher:
    """Features that the case recorded in place of a teacher's."""

    def __init__(self, features: Tensor) -> None:
        self.features, self.dim = features, features.shape[-1]

    def __call__(self, images: Tensor) -> Tensor:
        return self.features


def run_vqkd(case: Case) -> list[Check]:
    """Tokens, features, decoding, loss, gradients and codebook update of the visual tokenizer."""
    model = Vqkd(_read_config(case))
    state = from_official(case.weights)
    check_state(state, model.state_dict(), where=case.name)
    model.load_state_dict(state)
    checks: list[Check] = []
    for call in case.calls():
        if "target" in call.inputs:
            checks += _loss_checks(copy.deepcopy(model), call, case.config["beta"])
        else:
            with torch.no_grad():
                checks += _token_checks(copy.deepcopy(model), call)
    return checks


def _read_config(case: Case) -> VqkdConfig:
    config = case.config
    for name, value in {"rec_loss_type": "cosine", "process_type": "default"}.items():
        if config[name] != value:
            raise NotCoveredError(f"{name}={config[name]!r} belongs to no released tokenizer")
    for vit in (config["encoder"], config["decoder"]):
        refuse_others(vit, _FIXED_IN_TOKENIZERS)
    decoder = read_vit(config["decoder"])
    return VqkdConfig(
        encoder=read_vit(config["encoder"]),
        decoder_width=decoder.width,
        decoder_depth=decoder.depth,
        decoder_heads=decoder.num_heads,
        decoder_mlp_ratio=decoder.mlp_ratio,
        codebook_size=config["n_embed"],
        codebook_dim=config["embed_dim"],
        decay=config["decay"],
        teacher_dim=config["decoder_out_dim"],
    )


def read_vit(config: dict[str, Any]) -> ViTConfig:
    """Sizes of an official ViT of BEiT or BEiT v2, of any of their classes."""
    refuse_others(config, _FIXED)
    relative: RelativePositions = "per_block" if config.get("use_rel_pos_bias", False) else "none"
    if config.get("use_shared_rel_pos_bias", False):
        if relative != "none":
            raise NotCoveredError("a shared and a table for each block together belong to no released ViT")
        relative = "shared"
    size = config["img_size"]
    return ViTConfig(
        image_size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        patch_size=config["patch_size"],
        in_channels=config.get("in_chans", 3),
        width=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        absolute_positions=config["use_abs_pos_emb"],
        relative_positions=relative,
        layer_scale=config["init_values"] or 0.0,
        drop_path=config.get("drop_path_rate", 0.0),
    )


def refuse_others(config: dict[str, Any], fixed: dict[str, Any]) -> None:
    """Refuse settings with another value than the one that all released models have."""
    for name, value in fixed.items():
        if config.get(name, value) != value:
            raise NotCoveredError(f"{name}={config[name]!r} belongs to no released ViT of this kind")


def _token_checks(model: Vqkd, call: Call) -> list[Check]:
    """What becomes of pictures in [0, 1]."""
    model.eval()
    images = to_model_range(255 * call.inputs["x"])
    features = model.features(images)
    quantized = model.quantizer(features)
    codes = model.quantizer.codebook[quantized.token_ids]
    ours = {
        "token": quantized.token_ids,
        "token_from_255_input": quantized.token_ids,
        "preprocessed": images,
        "encoder_patch_features": model.encoder(images),
        "to_quantizer_features": features,
        "quantized": quantized.codes.transpose(1, 2).unflatten(2, model.config.encoder.grid_size),
        "rec": model.decode(quantized.codes),
        "rec_from_code_vectors": model.decode(codes),
        "emb_loss": commitment(quantized.features, codes),
    }
    # The official code counts the use of codes in evaluation, too; ours counts it with the update.
    model.quantizer.update(quantized.features, quantized.token_ids)
    ours["quantize.cluster_size_after"] = model.quantizer.usage
    kinds: dict[str, Kind] = {"token": "integer", "token_from_255_input": "integer", "emb_loss": "loss"}
    return [
        Check(f"{call.name}.{name}", ours[name], reference, kinds.get(name, "forward"))
        for name, reference in call.outputs.items()
    ]


def _loss_checks(model: Vqkd, call: Call, beta: float) -> list[Check]:
    """A training step of our task against given features, with the update of the codes where it trains."""
    task = VisualTokenizerTask(model, GivenTeacher(call.inputs["target"]), beta=beta)
    images = to_model_range(255 * call.inputs["x"])
    out = task.training_step(ImageBatch(images=images, sample_ids=torch.arange(len(images))))
    ours: dict[str, Any] = {
        "loss": out.loss,
        "quant_loss": beta * out.logs["commitment"],
        "rec_loss": out.logs["cosine_distance"],
    }
    checks = [Check(f"{call.name}.{name}", ours[name], call.outputs[name], "loss") for name in ours]
    if "grad_norms" not in call.outputs:
        return checks
    out.loss.backward()
    task.after_step()
    norms = gradient_norms(VQKD_MAP.to_official(dict(model.named_parameters())))
    # The official codebook is a parameter without gradient; ours is a buffer.
    norms |= {name: None for name in call.outputs["grad_norms"] if name.startswith("quantize.")}
    after = VQKD_MAP.to_official(
        {"quantizer.codebook": model.quantizer.codebook, "quantizer.usage": model.quantizer.usage}
    )
    return [
        *checks,
        Check(f"{call.name}.grad_norms", norms, call.outputs["grad_norms"], "gradient_norm"),
        *(
            Check(f"{call.name}.{name}", value, call.outputs[f"{name}_after"], "forward")
            for name, value in after.items()
        ),
    ]


def run_kmeans(case: Case) -> list[Check]:
    """Means and sizes of clusters from given initial means."""
    checks = []
    for call in case.calls():
        means, sizes = spherical_kmeans(
            call.inputs["samples"], call.inputs["initial_means"], num_iterations=case.config["num_iters"]
        )
        checks.append(Check(f"{call.name}.means", means, call.outputs["means"], "forward"))
        checks.append(Check(f"{call.name}.bins", sizes, call.outputs["bins"], "integer"))
    return checks


def run_masking(case: Case) -> list[Check]:
    """Frequencies of block masks: of each patch, and of each count of hidden patches."""
    checks = []
    for name, recorded in case.json.items():
        settings, draws = recorded["settings"], recorded["draws"]
        if settings["max_num_patches"] is not None:
            raise NotCoveredError("a largest block comes with no released recipe")
        counts = {int(count): times / draws for count, times in recorded["masked_histogram"].items()}
        grid = settings["grid"]
        masking = BlockMasking(
            grid_size=(grid, grid) if isinstance(grid, int) else (grid[0], grid[1]),
            num_masked=settings["num_masking_patches"],
            min_block=settings["min_num_patches"],
            max_block=settings["max_num_patches"],
            min_aspect=settings["min_aspect"],
            exact=set(counts) == {settings["num_masking_patches"]},  # BEiT v2; BEiT hides at most so many
        )
        rng = np.random.default_rng(0)
        masks = np.stack([masking(rng) for _ in range(draws)])
        drawn = Counter(int(mask.sum()) for mask in masks)
        every = sorted(counts.keys() | drawn.keys())
        mean = float(masks.sum(axis=(1, 2)).mean())
        noise = DEVIATIONS * (0.5 / draws) ** 0.5  # sqrt(2 p (1 - p) / draws), p = 1/2 at worst
        of_mean = DEVIATIONS * (2 / draws) ** 0.5 * recorded["masked_std"]
        ours, reference = [drawn[n] / draws for n in every], [counts.get(n, 0.0) for n in every]
        cells = np.array(recorded["cell_mask_frequency"])
        profile = float(np.sqrt(np.mean(_symmetric(masks.mean(axis=0) - cells) ** 2)))
        checks += [
            Check(f"{name}.mean", mean, recorded["masked_mean"], "statistic", tolerance=of_mean),
            Check(f"{name}.histogram", ours, reference, "statistic", tolerance=noise),
            Check(f"{name}.cells", masks.mean(axis=0), cells, "statistic", tolerance=noise),
            Check(f"{name}.profile", profile, 0.0, "statistic", tolerance=PROFILE_NOISE / draws**0.5),
            Check(f"{name}.most", max(drawn), max(counts), "integer"),
        ]
    return checks


def _symmetric(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over flips, and over transposition where the grid is square: the algorithm prefers no side."""
    flips = [cells, cells[::-1], cells[:, ::-1], cells[::-1, ::-1]]
    if cells.shape[0] == cells.shape[1]:
        flips += [flip.T for flip in flips]
    average: NDArray[np.float64] = np.mean(flips, axis=0)
    return average


def run_classification(case: Case) -> list[Check]:
    """Logits, features, tokens block by block and gradients of a fine-tuned ViT, at several sizes."""
    config = read_vit(case.config)
    pooling: Pooling = "mean" if case.config["use_mean_pooling"] else "class_token"
    model = ViTForClassification(config, case.config["num_classes"], pooling=pooling)
    state = classification_map(pooling).to_ours(case.weights)
    check_state(state, model.state_dict(), where=case.name)
    model.load_state_dict(state)
    model.eval()
    back = to_official(model.state_dict(), config, pooling)
    checks = [Check("weights", sorted(back), sorted(case.weights), "integer")]
    for call in case.calls():
        checks += _classification_checks(model, pooling, call)
    return checks


def _classification_checks(model: ViTForClassification, pooling: Pooling, call: Call) -> list[Check]:
    images, vit = call.inputs["x"], model.vit
    tokens, grid = vit.embed(images)
    ours: dict[str, Any] = {"logits": model(images), "features": model.features(images)}
    for block in range(vit.depth):
        tokens = vit.run_blocks(tokens, block, block + 1, grid)
        ours[f"intermediate_{block}"] = tokens
    ours |= {"patch_features": vit(images), "all_token_features": vit.norm(tokens)}
    if vit.positions is not None:
        ours["pos_embed"] = resample_positions(vit.positions, vit.config.grid_size, grid)
    kinds: dict[str, Kind] = {"loss": "loss", "grad_norms": "gradient_norm"}
    if "labels" in call.inputs:
        ours["loss"] = F.cross_entropy(ours["logits"], call.inputs["labels"])
        model.zero_grad()
        ours["loss"].backward()
        official = classification_map(pooling).to_official(dict(model.named_parameters()))
        ours["grad_norms"] = gradient_norms(official)
    return [
        Check(f"{call.name}.{name}", ours[name], reference, kinds.get(name, "forward"))
        for name, reference in call.outputs.items()
    ]


def run_relative_positions(case: Case) -> list[Check]:
    """Which row of its table a pair of patches reads."""
    rows, columns = case.config["window_size"]
    index = relative_position_index((rows, columns))
    return [
        Check(f"{call.name}.{name}", index, reference, "integer")
        for call in case.calls()
        for name, reference in call.outputs.items()
    ]


def _is_masking(case: Case) -> bool:
    return bool(case.json) and all(
        isinstance(recorded, dict) and "num_masking_patches" in recorded.get("settings", {})
        for recorded in case.json.values()
    )


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: "VQKD" in case.cls, run_vqkd),
    Family(lambda case: "norm_ema_quantizer.kmeans" in case.cls, run_kmeans),
    Family(_is_masking, run_masking),
    Family(lambda case: case.cls in _CLASSIFIERS, run_classification),
    Family(lambda case: case.cls == "beit2 RelativePositionBias", run_relative_positions),
)
