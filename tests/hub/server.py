"""A web server on this machine that behaves as a download server does, well or badly."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from imglish.hub.official_file import Kind, OfficialFile


@dataclass
class Site:
    """What the server offers, how it behaves, and what it was asked.

    Args:
        content: Bytes of its one file.
        tag: Name of this version of the file; empty sends none.
        ranges: Whether it sends parts on request.
        breaks_after: Bytes after which the connection ends, on the next request only.
        status: Answer to every request.
        content_type: Of the file.
        asked: The ``Range`` of each request so far, empty where it asked for all.
    """

    content: bytes = bytes(range(256)) * 4096  # 1 MiB
    tag: str = '"one"'
    ranges: bool = True
    breaks_after: int | None = None
    status: int = 200
    content_type: str = "application/octet-stream"
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def file(self, kind: Kind = "backbone", **known: object) -> OfficialFile:
        """Its file as an entry of a manifest."""
        return OfficialFile(
            name="a_model",
            url=f"{self.address}/a_model.pth",
            kind=kind,
            description="of a test",
            **known,  # type: ignore[arg-type]
        )


@contextlib.contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Run the server; it stops with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            site.asked.append(wanted)
            if site.status != 200:
                self.send_error(site.status)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            whole = not (wanted and site.ranges and self.headers.get("If-Range") == site.tag)
            start = 0 if whole else start
            if start >= len(site.content):
                self.send_error(416)
                return
            self.send_response(200 if whole else 206)
            self.send_header("Content-Type", site.content_type)
            self.send_header("Content-Length", str(len(site.content) - start))
            if not whole:
                last = len(site.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(site.content)}")
            if site.tag:
                self.send_header("ETag", site.tag)
            self.end_headers()
            stop, site.breaks_after = site.breaks_after, None
            self.wfile.write(site.content[start:] if stop is None else site.content[start : start + stop])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
