"""What a server says when it does not do what it was asked."""

from __future__ import annotations

from typing import Any


class RefusalError(Exception):
    """A request is answered with an error.

    Args:
        status: Of HTTP, 400 to 599.
        code: A word for programs, such as ``picture_damaged``.
        message: One clear sentence for people; it holds nothing that was sent but short fields.
        retry_after: Seconds after which the same request may do better.
        closes: True ends the connection, because the rest of the request was not read.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: int | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after, self.closes = retry_after, closes

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"code": self.code, "message": self.message}}

    def headers(self) -> dict[str, str]:
        """The answer's headers besides its type."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.closes:
            headers["Connection"] = "close"
        return headers


def busy(message: str, *, closes: bool = False) -> RefusalError:
    """The refusal of a request for which there is no room at the moment."""
    return RefusalError(503, "busy", message, retry_after=1, closes=closes)
