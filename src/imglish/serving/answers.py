"""JSON as the server writes it."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response


class JsonResponse(Response):
    """A value as JSON in ASCII: names of files may hold what is no Unicode, and are told nevertheless."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of the body; raises ValueError for numbers that JSON does not have."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
