"""What every request passes: the token, the limits, the headers of the answer, the log and the counts."""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imglish.serving.answers import JsonResponse
from imglish.serving.metrics import Metrics
from imglish.serving.refusals import RefusalError, busy
from imglish.serving.settings import Limits
from imglish.serving.uploads import too_many_bytes

# The page has no outside assets, and says so to the browser.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Base64 has four letters for three bytes; besides pictures there are texts and what holds the parts together.
_MOST_PICTURES = 2
_ROOM_FOR_TEXTS = 2**20
_SECONDS_TO_DISCARD = 1.0
_GONE = 499  # in the log: the client went away before it was answered, as nginx writes it
_METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE")


@dataclass(slots=True)
class Trace:
    """What is known of a request while it is answered.

    Args:
        started: `time.monotonic` at its beginning.
        batch: Requests that it was computed with, itself among them; 0 where nothing was computed.
        bytes: Of its body, so far.
    """

    started: float = field(default_factory=time.monotonic)
    batch: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Traffic:
    """What is in the server at the moment.

    Args:
        stopping: True where no further question is taken.
        inside: Questions that were taken and not answered yet.
        bytes: Of their bodies.
    """

    stopping: bool = False
    inside: int = 0
    bytes: int = 0


class Gate:
    """An ASGI application around the server's own.

    Args:
        app: The server's own.
        limits: Of questions, which are all requests with a body.
        traffic: Counted here.
        metrics: Told of each request.
        token: What requests below ``/v1`` must bring; empty for none.
        hosts: Names that the server may be called by, in lower case, without port; empty for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        traffic: Traffic,
        metrics: Metrics,
        token: str,
        hosts: frozenset[str],
    ) -> None:
        self._app, self._limits, self._traffic, self._metrics = app, limits, traffic, metrics
        self._token, self._hosts = token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = scope["trace"] = Trace()
        status = 0  # nothing is told yet

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers.update(SECURITY_HEADERS)
                if self._traffic.stopping:
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self._pass(scope, receive, told, trace)
        except ClientDisconnect:
            status = _GONE
        except Exception as error:  # a mistake of ours: told to the log, and the client gets an answer
            _log({"error": type(error).__name__, "where": _frames(error)})
            if not status:
                failed = RefusalError(500, "failed", "the server made a mistake; its log says where")
                await JsonResponse(failed.body(), failed.status)(scope, receive, told)
        finally:
            self._note(scope, trace, status or _GONE)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """Refuse a request, or hand it on and count it as long as it is inside."""
        headers = Headers(scope=scope)
        has_body = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        try:
            self._check_host(headers)
            self._check_token(scope["path"], headers)
            if has_body:
                self._check_room(headers)
        except RefusalError as refusal:
            if has_body:
                await _discard(receive)
            await JsonResponse(refusal.body(), refusal.status, refusal.headers())(scope, receive, send)
            return
        if not has_body:
            await self._app(scope, receive, send)
            return
        self._traffic.inside += 1
        try:
            await self._app(scope, self._counting(receive, trace), send)
        finally:
            self._traffic.inside -= 1
            self._traffic.bytes -= trace.bytes

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that is not the server's.

        A page of a stranger can give its own name this machine's address, and its scripts could then ask the
        server in the name of whoever reads the page, and read the answers (DNS rebinding).
        """
        given = headers.get("Host", "").lower()
        name = given.rpartition("]")[0].removeprefix("[") if given.startswith("[") else given.split(":")[0]
        if self._hosts and name not in self._hosts:
            raise RefusalError(
                421,
                "host_unknown",
                "the server is not known by this name: call it as it was started, or start it with --hosts",
                closes=True,
            )

    def _check_token(self, path: str, headers: Headers) -> None:
        if not self._token or not path.startswith("/v1"):
            return
        kind, _, token = headers.get("Authorization", "").partition(" ")
        # Compared in constant time, so that how long it takes tells nothing about the token.
        given = token.strip().encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._token) or kind.lower() != "bearer":
            raise RefusalError(
                401,
                "token_wrong",
                "this server asks for a token: send Authorization: Bearer TOKEN",
                closes=True,
            )

    def _check_room(self, headers: Headers) -> None:
        if self._traffic.stopping:
            raise RefusalError(
                503, "stopping", "the server is stopping; ask another one", retry_after=5, closes=True
            )
        if self._traffic.inside >= self._limits.queue:
            raise busy("as many questions as the server takes are waiting; come again", closes=True)
        length = headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._most_bytes():
            raise too_many_bytes("request", self._limits, closes=True)

    def _most_bytes(self) -> int:
        return _MOST_PICTURES * self._limits.bytes * 4 // 3 + _ROOM_FOR_TEXTS

    def _counting(self, receive: Receive, trace: Trace) -> Receive:
        """A body that is refused as soon as it is too large, whatever its headers say."""

        async def counted() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                trace.bytes += size
                self._traffic.bytes += size
                refusal = None
                if trace.bytes > self._most_bytes():
                    refusal = too_many_bytes("request", self._limits, closes=True)
                elif self._traffic.bytes > self._limits.bytes_in_flight:
                    refusal = busy("the server holds as many pictures as it can; come again", closes=True)
                if refusal is not None:
                    message.clear()
                    await _discard(receive)
                    raise refusal
            return message

        return counted

    def _note(self, scope: Scope, trace: Trace, status: int) -> None:
        """Count the request, and write its line of the log."""
        seconds = time.monotonic() - trace.started
        path, method = _template(scope), scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.count_request(method, path, status, seconds)
        _log(
            {
                "method": method,
                "path": path,
                "status": status,
                "milliseconds": round(1000 * seconds, 1),
                "batch": trace.batch,
            }
        )


def _log(line: dict[str, Any]) -> None:
    """Write a line of the log: JSON, without pictures, texts and tokens."""
    stamp = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    print(json.dumps(stamp | line), file=sys.stderr, flush=True)


def _frames(error: Exception) -> list[str]:
    """Where an error was raised; not its message, which may hold what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def _template(scope: Scope) -> str:
    """The path as the documentation has it; what a client made up is neither counted nor logged."""
    if "route" in scope:
        return str(scope["route"].path)
    if scope["path"].startswith("/page/"):
        return "/page"
    known = {getattr(route, "path", None) for route in scope["app"].routes}
    return str(scope["path"]) if scope["path"] in known else "other"


async def _discard(receive: Receive) -> None:
    """Read on for a moment, for a client that is still sending would miss the answer."""
    try:
        async with asyncio.timeout(_SECONDS_TO_DISCARD):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        pass
