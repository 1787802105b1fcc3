"""``imglish serve``: answer questions about pictures over HTTP, with a page to ask them on."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

import tyro

from imglish.errors import ConfigError

TOKEN_VARIABLE = "IMGLISH_TOKEN"
_EXTRA = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """Serve captions, answers, classes, vectors, masks and boxes over HTTP, and a page to try them.

    Without --run and --weights the embedded World model answers. What the weights can do is found out by
    itself. Ctrl-C or SIGTERM ends the server once it has answered what it took.

    A token that requests must bring can be given in a file, or in the environment variable IMGLISH_TOKEN.

    Args:
        run: A finished run, or a folder of several such as the demo's.
        weights: Official weights by name (downloaded once), a .pth or .safetensors file, or a Hugging Face
            Hub id; "world" are the embedded ones.
        host: Address to listen on; 127.0.0.1 is reached from this machine only, 0.0.0.0 from everywhere.
        port: Port to listen on; 0 takes one that is free.
        index: File of imglish index, made with the same weights; its folder can be searched.
        token_file: File with the token that requests must bring.
        hosts: Further names that the server is called by, as a proxy before it passes them on; a server that
            others can reach answers to every name unless some are given.
        devices: Where models compute, as cuda:0 cuda:1; without any a GPU if there is one, else the CPU.
        workers: Copies of the model on each device, each with a thread of its own.
        batch_size: Requests that are computed together, at most.
        max_wait_ms: Milliseconds that a request waits for others, at most.
        max_queue: Requests that are taken at once; others are told to come again.
        max_megabytes: Size of a picture as it is sent (of 1,048,576 bytes each).
        max_pixels: Of a picture.
        max_seconds: From a request to its answer.
        decoders: Threads that decode pictures.
    """

    run: Path | None = None
    weights: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    index: Path | None = None
    token_file: Path | None = None
    hosts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    workers: int = 1
    batch_size: int = 16
    max_wait_ms: float = 10.0
    max_queue: int = 256
    max_megabytes: float = 16.0
    max_pixels: int = 12_000_000
    max_seconds: float = 30.0
    decoders: int = 2

    def __post_init__(self) -> None:
        if self.run is not None and self.weights:
            raise ValueError("give --run or --weights, not both")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port must lie between 0 and 65535; got {self.port}")
        for name in ("workers", "decoders", "batch_size", "max_queue", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not 0 <= self.max_wait_ms <= 60_000:
            raise ValueError(f"max_wait_ms must lie between 0 and 60000; got {self.max_wait_ms}")
        if not 0 < self.max_megabytes <= 1024:
            raise ValueError(f"max_megabytes must be more than 0 and at most 1024; got {self.max_megabytes}")
        if not 0 < self.max_seconds <= 86_400:
            raise ValueError(f"max_seconds must be more than 0 and at most 86400; got {self.max_seconds}")


def run(arguments: Sequence[str]) -> None:
    """Serve until told to stop."""
    options = tyro.cli(Serve, args=arguments, prog="imglish serve")
    missing = [package for module, package in _EXTRA.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: not installed; imglish serve needs an extra: pip install 'imglish[serve]'"
        )
    token = read_token(options.token_file)
    from imglish.serving.run import bind, serve
    from imglish.serving.settings import Batching, Limits

    if options.run is not None and not options.run.is_dir():
        raise ConfigError(f"{options.run}: no such folder; expected a finished run, or a folder of several")
    num_bytes = int(options.max_megabytes * 2**20)
    limits = Limits(
        bytes=num_bytes,
        pixels=options.max_pixels,
        queue=options.max_queue,
        seconds=options.max_seconds,
        bytes_in_flight=max(Limits().bytes_in_flight, 4 * num_bytes),
        pixels_in_flight=max(Limits().pixels_in_flight, 2 * options.max_pixels),
    )
    devices = usable(options.devices)
    bound = bind(options.host, options.port)
    try:
        serve(
            bound,
            options.run or options.weights or "world",
            devices=devices,
            copies=options.workers,
            decoders=options.decoders,
            limits=limits,
            batching=Batching(size=options.batch_size, wait=options.max_wait_ms / 1000),
            index=options.index,
            token=token,
            hosts=(*own_names(bound), *options.hosts),
        )
    finally:
        bound.close()


def own_names(bound: socket.socket) -> tuple[str, ...]:
    """Names of a server that only this machine can reach; empty, for any, of another."""
    address = bound.getsockname()[0]
    return ("localhost", address) if ip_address(address).is_loopback else ()


def usable(devices: Sequence[str]) -> tuple[str, ...]:
    """The devices, checked; without any a GPU if there is one, else the CPU.

    Raises:
        ConfigError: One of them is not there.
    """
    import torch

    for device in devices:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"device {device!r} cannot be used ({reason}); imglish doctor lists them"
            ) from None
    return tuple(devices) or ("cuda" if torch.cuda.is_available() else "cpu",)


def read_token(path: Path | None) -> str:
    """The token that requests must bring: of a file, else of the environment; empty for none.

    Args:
        path: A text file with the token in its only line.

    Raises:
        ConfigError: The file cannot be read, or what should be a token is empty or has blanks.
    """
    if path is None:
        where, text = f"the environment variable {TOKEN_VARIABLE}", os.environ.get(TOKEN_VARIABLE)
        if text is None:
            return ""
    else:
        where = f"token file {path}"
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{where}: is no text; expected one line with the token") from None
        except OSError as error:
            raise ConfigError(
                f"{where}: cannot be read ({error.strerror}); expected one line with the token"
            ) from None
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where}: holds no token; expected one line of printable ASCII letters without blanks"
        )
    return token
