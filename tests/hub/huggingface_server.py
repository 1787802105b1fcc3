"""A server on this machine that answers as the Hugging Face Hub does, for one repository."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """What the server offers, how it behaves, and what it was asked.

    Args:
        files: Bytes of each file of ``org/name`` by its path there.
        revisions: Branches and tags besides ``main``, each with its own files.
        refusal: Status and error code of every answer, such as (404, "RepoNotFound"); None answers well.
        gated: True lists the files and gives none.
        asked: Method and path of each request so far.
        tokens: What came as authorization with each.
        created: What was asked for with each repository to be made.
        messages: Of the commits.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    gated: bool = False
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    address: str = ""

    def commits(self) -> dict[str, dict[str, bytes]]:
        """The files of each state by its commit."""
        return {commit_of(files): files for files in (self.files, *self.revisions.values())}

    def downloaded(self) -> list[str]:
        """Names of the files whose bytes were sent."""
        return sorted(
            path.rpartition("/")[2] for path in self.asked if path.startswith("GET /org/name/resolve/")
        )


def commit_of(files: dict[str, bytes]) -> str:
    """A commit's name, which follows from the files as a real one does."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        """Uploads, as the library makes them of small files: told before, then sent in one commit."""
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.hub.tokens.append(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.refusal is not None:
            self._refuse(*self.hub.refusal)
            return
        match path.removeprefix("/").split("/"):
            case ["api", "repos", "create"]:
                self.hub.created.append(json.loads(body))
                self._tell({"url": f"{self.hub.address}/org/name", "name": "org/name"})
            case ["api", "validate-yaml"]:
                self._tell({"warnings": [], "errors": []})
            case ["api", "models", "org", "name", "preupload", "main"]:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                self._tell({"files": [{"path": name} | modes for name in names]})
            case ["api", "models", "org", "name", "commit", "main"]:
                self._commit([json.loads(line) for line in body.splitlines()])
            case _:
                self._refuse(404, "RepoNotFound")

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        files = dict(self.hub.files)
        for line in lines:
            match line["key"]:
                case "header":
                    self.hub.messages.append(line["value"]["summary"])
                case "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.hub.files = files
        commit = commit_of(files)
        address = f"{self.hub.address}/org/name/commit/{commit}"
        self._tell({"commitUrl": address, "commitOid": commit, "success": True})

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.hub.tokens.append(self.headers.get("Authorization", ""))
        if self.hub.refusal is not None:
            self._refuse(*self.hub.refusal)
            return
        match path.removeprefix("/").split("/"):
            case ["api", "models", "org", "name", "revision", *revision]:
                files = self._state("/".join(revision))
                if files is None:
                    self._refuse(404, "RevisionNotFound")
                else:
                    siblings = [{"rfilename": name} for name in files]
                    self._tell({"id": "org/name", "sha": commit_of(files), "siblings": siblings})
            case ["api", "models", "org", "name", "tree", commit, *_]:
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": blob_of(content)}
                    for name, content in self.hub.commits()[commit].items()
                ]
                self._tell(tree)
            case ["org", "name", "resolve", commit, *parts]:
                self._send(commit, "/".join(parts), with_body)
            case _:
                self._refuse(404, "RepoNotFound")

    def _state(self, revision: str) -> dict[str, bytes] | None:
        named = {"main": self.hub.files} | self.hub.revisions | self.hub.commits()
        return named.get(revision)

    def _tell(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, commit: str, name: str, with_body: bool) -> None:
        if self.hub.gated:
            self._refuse(403, "GatedRepo")
            return
        content = self.hub.commits()[commit].get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{blob_of(content)}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def blob_of(content: bytes) -> str:
    """Git's name of a file's bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextlib.contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Run the server; it stops with the block."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
