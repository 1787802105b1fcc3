"""The released BEiT-3 files, after the tables of microsoft/unilm, ``beit3/README.md`` (as of 2025-12).

The document gives no licence, size or digest of a file, so there is none here. Its classification rows count
the vision side only (87M, 305M).
"""

from __future__ import annotations

from imglish.hub.official_file import Kind, OfficialFile, Score
from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_large
from imglish.models.beit3.weights import WITHOUT_OUTPUT_NORM

_ADDRESS = "https://github.com/addf400/files/releases/download/beit3/"

NUM_ANSWERS = 3129  # the official VQAv2 vocabulary
CODEBOOK_SIZE = 8192  # visual tokens of BEiT v2's tokenizer


def _config(name: str) -> Beit3Config:
    """Sizes of a file: its name says base or large, and the pictures' side after ``patch16``."""
    side = int(name.partition("patch16_")[2].partition("_")[0])
    size = beit3_large if name.startswith("beit3_large") else beit3_base
    return size(image_size=(side, side))


def _pretrained(name: str, kind: Kind, description: str, parameters: float) -> OfficialFile:
    return OfficialFile(
        name=name,
        url=f"{_ADDRESS}{name}.pth",
        kind=kind,
        description=description,
        config=_config(name),
        num_labels=CODEBOOK_SIZE if kind == "masked_data_modeling" else None,
        parameters=parameters,
    )


def _fine_tuned(
    name: str,
    kind: Kind,
    parameters: float,
    *scores: Score,
    on: str,
    num_labels: int | None = None,
    dropped: tuple[str, ...] = (),
) -> OfficialFile:
    size = "large" if name.startswith("beit3_large") else "base"
    stage = "_itc" if kind == "retrieval" else "_indomain" if "_indomain_" in name else ""
    config = _config(name)
    return OfficialFile(
        name=name,
        url=f"{_ADDRESS}{name}.pth",
        kind=kind,
        description=f"fine-tuned on {on}, pictures of {config.image_size[0]} pixels",
        config=config,
        num_labels=num_labels,
        parameters=parameters,
        trained_from=f"beit3_{size}{stage}_patch16_224",
        scores=scores,
        dropped=dropped,
    )


def _classifier(name: str, top1: float, top5: float, parameters: float) -> OfficialFile:
    return _fine_tuned(
        name,
        "image_classification",
        parameters,
        Score("ImageNet-1k top-1", top1),
        Score("ImageNet-1k top-5", top5),
        on="ImageNet-1k",
        num_labels=1000,
        dropped=WITHOUT_OUTPUT_NORM,
    )


def _vqa(name: str, parameters: float, *scores: Score, on: str = "VQAv2") -> OfficialFile:
    return _fine_tuned(
        name, "vqa", parameters, *scores, on=on, num_labels=NUM_ANSWERS, dropped=WITHOUT_OUTPUT_NORM
    )


def _nlvr2(name: str, dev: float, test: float, parameters: float) -> OfficialFile:
    scores = (Score("NLVR2 dev", dev), Score("NLVR2 test-P", test))
    return _fine_tuned(name, "nlvr2", parameters, *scores, on="NLVR2", num_labels=2)


def _captioner(name: str, cider: float, parameters: float) -> OfficialFile:
    data = "NoCaps" if name.endswith("nocaps") else "COCO captions"
    on = "COCO captions, for NoCaps" if name.endswith("nocaps") else data
    return _fine_tuned(name, "captioning", parameters, Score(f"{data} CIDEr", cider), on=on)


def _retrieval(name: str, image: float, text: float, parameters: float) -> OfficialFile:
    data = "COCO" if name.endswith("coco_retrieval") else "Flickr30k"
    scores = (Score(f"{data} image R@1", image), Score(f"{data} text R@1", text))
    return _fine_tuned(name, "retrieval", parameters, *scores, on=f"{data} retrieval")


_TEST_DEV, _TEST_STD = "VQAv2 test-dev", "VQAv2 test-std"
_MASKED = "pretrained by masked data modelling"
_CONTRASTIVE = "pretrained, then tuned by image-text contrast"
_IN_DOMAIN = "pretrained, then on in-domain data"

BEIT3_FILES: tuple[OfficialFile, ...] = (
    _pretrained("beit3_base_patch16_224", "masked_data_modeling", _MASKED, 276),
    _pretrained("beit3_large_patch16_224", "masked_data_modeling", _MASKED, 746),
    _pretrained("beit3_base_itc_patch16_224", "retrieval", _CONTRASTIVE, 222),
    _pretrained("beit3_large_itc_patch16_224", "retrieval", _CONTRASTIVE, 674),
    _pretrained("beit3_base_indomain_patch16_224", "masked_data_modeling", _IN_DOMAIN, 276),
    _pretrained("beit3_large_indomain_patch16_224", "masked_data_modeling", _IN_DOMAIN, 746),
    _classifier("beit3_base_patch16_224_in1k", 85.4, 97.6, 87),
    _classifier("beit3_base_indomain_patch16_224_in1k", 85.4, 97.6, 87),
    _classifier("beit3_large_patch16_224_in1k", 87.6, 98.3, 305),
    _classifier("beit3_large_indomain_patch16_224_in1k", 87.5, 98.3, 305),
    _vqa("beit3_base_patch16_480_vqa", 228, Score(_TEST_DEV, 77.65)),
    _vqa("beit3_base_indomain_patch16_480_vqa", 228, Score(_TEST_DEV, 78.46)),
    _vqa("beit3_large_patch16_480_vqa", 683, Score(_TEST_DEV, 81.85)),
    _vqa("beit3_large_indomain_patch16_480_vqa", 683, Score(_TEST_DEV, 82.53)),
    _vqa(
        "beit3_large_indomain_patch16_768_vgqaaug_vqa",
        684,
        Score(_TEST_DEV, 82.97),
        Score(_TEST_STD, 83.03),
        on="VQAv2 and VGQA",
    ),
    _nlvr2("beit3_base_patch16_224_nlvr2", 83.6, 84.4, 226),
    _nlvr2("beit3_base_indomain_patch16_224_nlvr2", 84.6, 85.3, 226),
    _nlvr2("beit3_large_patch16_224_nlvr2", 88.5, 89.4, 681),
    _nlvr2("beit3_large_indomain_patch16_224_nlvr2", 89.2, 90.0, 681),
    _captioner("beit3_base_patch16_480_coco_captioning", 133.6, 271),
    _captioner("beit3_base_indomain_patch16_480_coco_captioning", 135.0, 271),
    _captioner("beit3_large_patch16_480_coco_captioning", 143.2, 739),
    _captioner("beit3_base_patch16_480_nocaps", 104.4, 271),
    _captioner("beit3_base_indomain_patch16_480_nocaps", 105.6, 271),
    _captioner("beit3_large_patch16_480_nocaps", 120.2, 739),
    _retrieval("beit3_base_patch16_384_coco_retrieval", 61.4, 79.1, 222),
    _retrieval("beit3_large_patch16_384_coco_retrieval", 63.4, 82.1, 675),
    _retrieval("beit3_base_patch16_384_f30k_retrieval", 86.2, 96.3, 222),
    _retrieval("beit3_large_patch16_384_f30k_retrieval", 88.1, 97.2, 675),
)

TEXT_TOKENIZER = OfficialFile(
    name="beit3.spm",
    url=f"{_ADDRESS}beit3.spm",
    kind="text_tokenizer",
    description="SentencePiece model for the texts of every BEiT-3",
)
