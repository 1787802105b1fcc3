"""Which model a state dict is of, by its names alone, and the weight map that goes with it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from imglish.errors import CheckpointError
from imglish.hub.official_file import Kind
from imglish.models.beit3 import weights as beit3
from imglish.models.vit.model import Pooling
from imglish.models.vit.plain_weights import PlainForm, plain_form, plain_map, tells_classes
from imglish.models.vit.weights import INDEX, PRETRAINING_MAP, classification_map, vit_rules
from imglish.models.weight_map import WeightMap

Layout = Literal["official", "imglish", "timm-vision"]
Family = Literal["beit3", "vit", "vqkd", "segmenter", "detector"]

# What BEiT's pretraining adds to the ViT besides its head over visual tokens, and a ViT alone has no use for.
_BACKBONE_DROPPED = (INDEX, r"mask_token", r"cls_pt_\w+\..*")

# A name that only one kind of head has, in the official layout and in ours. The first that is there decides.
_OFFICIAL_HEADS: tuple[tuple[str, Kind], ...] = (
    ("mim_head.weight", "masked_data_modeling"),
    ("language_head.weight", "retrieval"),
    ("pooler.dense.weight", "vqa"),
    ("head.dense1.weight", "nlvr2"),
    ("fc_norm.weight", "image_classification"),
    ("mlm_head.weight", "captioning"),
)
_OUR_HEADS: tuple[tuple[str, Kind], ...] = (
    ("image_head.weight", "masked_data_modeling"),
    ("vision_head.weight", "retrieval"),
    ("pooler.dense.weight", "vqa"),
    ("head.input_norm.weight", "nlvr2"),
    ("head.weight", "image_classification"),
    ("text_head.weight", "captioning"),
)
# Beginnings of names that detectors have and segmenters have not.
_OFFICIAL_DETECTORS = ("rpn_head.", "roi_head.", "bbox_head.")
_OUR_DETECTORS = ("rpn.", "heads.", "head.towers.", "stages.", "proposals.")
# Pretraining has captioning's head, and retrieval's text head has the name of ours: no contradiction.
_SHARED_HEADS = ("captioning",)


class Recognised(NamedTuple):
    """Whose names a state dict has, and of which model.

    Args:
        family: Which model.
        layout: Whose names.
        kind: What the model does.
        form: Which official names, of a plain ViT with biases on all projections; None of a BEiT.
    """

    family: Family
    layout: Layout
    kind: Kind
    form: PlainForm | None = None


def recognise(names: Collection[str], where: str) -> Recognised:
    """Tell a state dict by its names.

    Args:
        names: Its names.
        where: The file, for the message.

    Raises:
        CheckpointError: It is of no model known here, or of two at once.
    """
    has = set(names)
    if "quantize.embedding.weight" in has:
        return Recognised("vqkd", "official", "visual_tokenizer")
    if "quantizer.codebook" in has:
        return Recognised("vqkd", "imglish", "visual_tokenizer")
    if {"backbone.level_embed", "backbone.fpn1.0.weight", "backbone.up1.0.weight"} & has:
        return _dense(has, "official", _OFFICIAL_DETECTORS, "panoptic_head.")
    if "backbone.backbone.blocks.0.norm1.weight" in has:
        # Of all that have Mask2Former's decoder, the panoptic one alone is over a BEiT without class token.
        token = "backbone.backbone.class_token" in has
        beit = "backbone.backbone.blocks.0.attention.query_bias" in has
        return _dense(has, "imglish", _OUR_DETECTORS, "neck.mask_features." if beit and not token else None)
    if "beit3.vision_embed.cls_token" in has:
        heads = {name for name in has if not name.startswith("beit3.")}
        return Recognised("beit3", "official", _kind(heads, _OFFICIAL_HEADS, where))
    if "vision_embed.cls_token" in has:
        return Recognised("beit3", "official", "backbone")
    if "encoder.vision_embedding.class_token" in has:
        heads = {name for name in has if not name.startswith("encoder.")}
        return Recognised("beit3", "imglish", _kind(heads, _OUR_HEADS, where))
    if "vision_embedding.class_token" in has:
        return Recognised("beit3", "imglish", "backbone")
    if {"blocks.0.attn.norm.weight", "blocks.0.mlp.norm.weight", "blocks.0.attn.qkv.weight"} <= has:
        kind: Kind = "image_classification" if "head.weight" in has else "backbone"
        return Recognised("beit3", "timm-vision", kind)
    if (form := plain_form(has)) is not None:
        classifies = form != "uniperceiver" and tells_classes(has)
        return Recognised("vit", "official", "image_classification" if classifies else "backbone", form)
    if "blocks.0.attn.q_bias" in has:
        return Recognised("vit", "official", _vit_kind(has, "lm_head.", "head."))
    if {"vit.blocks.0.attention.query_bias", "vit.blocks.0.attention.qkv.bias"} & has:
        kind = _vit_kind(has, "token_head.", "head.")
        return Recognised("vit", "imglish", "image_classification" if kind == "backbone" else kind)
    if {"blocks.0.attention.query_bias", "blocks.0.attention.qkv.bias"} & has:
        return Recognised("vit", "imglish", "backbone")
    some = ", ".join(sorted(has)[:3])
    raise CheckpointError(
        f"{where}: weights of no model known here (its {len(has)} names begin with {some}); expected BEiT-3, "
        "BEiT, BEiT v2, a VQ-KD tokenizer, a ViT of DeiT, AugReg, MAE, DINOv2 or Uni-Perceiver, or a "
        "segmenter or detector of ViT-Adapter; give one of those, or a run folder"
    )


def _dense(names: set[str], layout: Layout, detectors: tuple[str, ...], panoptic: str | None) -> Recognised:
    """A segmenter or a detector over maps of a ViT, by beginnings of names."""
    if panoptic is not None and any(name.startswith(panoptic) for name in names):
        return Recognised("detector", layout, "panoptic")
    if any(name.startswith(detectors) for name in names):
        return Recognised("detector", layout, "detection")
    return Recognised("segmenter", layout, "semantic_segmentation")


def _vit_kind(names: set[str], token_head: str, class_head: str) -> Kind:
    """The kind of a BEiT by the names of its head; one part of a head tells, so that none may be missing."""
    if any(name.startswith(class_head) for name in names):
        return "image_classification"
    return "masked_image_modeling" if any(name.startswith(token_head) for name in names) else "backbone"


def _kind(heads: set[str], known: tuple[tuple[str, Kind], ...], where: str) -> Kind:
    """The kind of a BEiT-3 by the names of its heads."""
    kinds = [kind for name, kind in known if name in heads]
    certain = [kind for kind in kinds if kind not in _SHARED_HEADS] or kinds
    if len(certain) > 1:
        raise CheckpointError(
            f"{where}: heads of {' and '.join(certain)} in one file; expected those of one model; "
            "keep the tensors of one of them"
        )
    if certain:
        return certain[0]
    if heads:
        raise CheckpointError(
            f"{where}: a BEiT-3 with an unknown head ({', '.join(sorted(heads)[:3])}); expected one of "
            f"{', '.join(kind for _, kind in known)}; remove the head's tensors to load the encoder alone"
        )
    return "backbone"


def beit3_map(kind: Kind) -> WeightMap:
    """Names of a BEiT-3 of that kind."""
    match kind:
        case "masked_data_modeling":
            return beit3.PRETRAINING_MAP
        case "retrieval":
            return beit3.RETRIEVAL_MAP
        case "vqa":
            return beit3.VQA_MAP
        case "nlvr2":
            return beit3.NLVR2_MAP
        case "image_classification":
            return beit3.IMAGE_CLASSIFICATION_MAP
        case "captioning":
            return beit3.CAPTIONING_MAP
        case _:
            return beit3.ENCODER_MAP


def vit_map(kind: Kind, pooling: Pooling, form: PlainForm | None = None) -> WeightMap:
    """Names of a BEiT: fine-tuned to classify, as it is pretrained, or its ViT alone.

    Args:
        kind: What it does.
        pooling: How its class is read.
        form: Whose official names, where it has biases on all projections and so is no BEiT.
    """
    if form is not None:
        return plain_map(form, pooling=pooling if kind == "image_classification" else None)
    match kind:
        case "image_classification":
            return classification_map(pooling)
        case "masked_image_modeling":
            return PRETRAINING_MAP
        case _:
            return WeightMap(vit_rules("", "", norm="norm"), dropped=_BACKBONE_DROPPED)
