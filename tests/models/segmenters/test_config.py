from __future__ import annotations

from dataclasses import asdict

import pytest

from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    SetrPupConfig,
    UPerNetConfig,
    segmenter_config,
)

ALL = (SemanticFpnConfig(head_width=3), UPerNetConfig(dropout=0.2), SetrPupConfig(), Mask2FormerConfig())


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.kind)
def test_plain_values_become_the_settings_they_were(config: SegmenterConfig) -> None:
    assert segmenter_config(asdict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no segmenter of kind None; there are semantic_fpn"),
        ({"kind": "deeplab"}, "no segmenter of kind 'deeplab'"),
        ({"kind": "upernet", "neck_width": 4}, "unknown settings of a segmenter: neck_width"),
        ({"kind": "upernet", "head_width": 0}, "head_width must be at least 1; got 0"),
        ({"kind": "upernet", "head_width": None}, "settings of no segmenter"),
        ({"kind": "setr_pup", "auxiliary_width": -1}, "auxiliary_width must be at least 0"),
        ({"kind": "mask2former", "width": 36}, "width 36 must be a multiple of 8"),
        ({"kind": "mask2former", "num_heads": 0}, "num_heads must be at least 1"),
    ],
)
def test_what_is_no_segmenter_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segmenter_config(values)
