"""Words for the folder names of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from timm.data.imagenet_info import ImageNetInfo

_SYNSET = re.compile(r"n\d{8}")


def class_names(folders: Sequence[str]) -> tuple[str, ...]:
    """What the classes of a class-folder data set are called.

    ImageNet's folders (n01440764) get the first of the synset's words, from the list that timm carries; other
    names are taken as they are, with spaces for underscores and hyphens.
    """
    if folders and all(_SYNSET.fullmatch(folder) for folder in folders):
        info = ImageNetInfo("imagenet-21k")
        return tuple(info.label_name_to_description(folder).split(",")[0] for folder in folders)
    return tuple(re.sub(r"[_-]+", " ", folder).strip() or folder for folder in folders)
