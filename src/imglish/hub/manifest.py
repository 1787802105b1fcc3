"""Every official file that `load_model` knows by name."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from imglish.hub.manifest_backbones import BACKBONE_FILES
from imglish.hub.manifest_beit import BEIT_FILES, TIMM_FILES
from imglish.hub.manifest_beit3 import BEIT3_FILES, TEXT_TOKENIZER
from imglish.hub.manifest_vit_adapter import VIT_ADAPTER_FILES
from imglish.hub.manifest_vit_adapter_detection import DETECTION_FILES
from imglish.hub.official_file import OfficialFile

OFFICIAL_FILES: tuple[OfficialFile, ...] = (
    *BEIT3_FILES,
    *BEIT_FILES,
    *TIMM_FILES,
    *BACKBONE_FILES,
    *VIT_ADAPTER_FILES,
    *DETECTION_FILES,
    TEXT_TOKENIZER,
)


def find(name: str) -> OfficialFile | None:
    """The file of that name, or None."""
    return next((file for file in OFFICIAL_FILES if file.name == name), None)


def find_released(file_name: str) -> OfficialFile | None:
    """The file that was released as ``file_name``, the last part of its address, or None."""
    return next(
        (file for file in OFFICIAL_FILES if PurePosixPath(urlsplit(file.url).path).name == file_name), None
    )
