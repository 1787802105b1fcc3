"""Search over the folder whose index the server was started with, and small pictures of what is found."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from imglish.errors import DataFormatError
from imglish.inference.index import SearchIndex
from imglish.serving.refusals import RefusalError
from imglish.serving.uploads import FORMATS, decode

THUMBNAIL = 256  # pixels of the longer side


class FolderSearch:
    """A folder's index, asked by strangers: nothing but its pictures is ever shown, and those small.

    Args:
        index: Of vectors of the server's own weights.
        max_pixels: Larger pictures are not shown.
    """

    def __init__(self, index: SearchIndex, max_pixels: int) -> None:
        self._index, self._max_pixels = index, max_pixels

    def about(self) -> dict[str, Any]:
        """The folder's name, without where it lies, and how many pictures it has."""
        return {"folder": self._index.folder.name, "count": len(self._index)}

    def find(self, vector: list[float], num_matches: int) -> list[dict[str, Any]]:
        """The pictures that are most like a vector (C,), best first, each with where to get it small."""
        found = self._index.search_vector(np.asarray(vector, dtype=np.float32), num_matches)
        return [
            {
                "path": one.path,
                "similarity": one.similarity,
                "url": f"/v1/search/picture?path={quote(one.path, safe='/', errors='surrogateescape')}",
            }
            for one in found
        ]

    def open(self, path: str) -> Image.Image:
        """An indexed picture, not decoded yet.

        Raises:
            RefusalError: 404 for whatever is not in the index, not there any more, led out of the folder by a
                link, no picture or too large.
        """
        unknown = RefusalError(404, "not_found", "there is no such picture in the index")
        try:
            image = Image.open(self._index.file(path), formats=FORMATS)
        except (DataFormatError, OSError, ValueError, Image.DecompressionBombError):
            raise unknown from None
        if image.width * image.height > self._max_pixels:
            raise unknown
        image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))  # a JPEG need not be decoded whole
        return image


def shrink(image: Image.Image, pixels: int) -> bytes:
    """A picture of `FolderSearch.open` as a small JPEG file, upright; ``pixels`` as of `decode`."""
    small = Image.fromarray(decode(image, "picture", pixels).permute(1, 2, 0).numpy())
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
