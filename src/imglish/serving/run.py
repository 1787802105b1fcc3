"""A server from its first to its last request."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch
import uvicorn

from imglish.errors import ConfigError
from imglish.inference.cards import model_card
from imglish.inference.index import SearchIndex
from imglish.inference.index_identity import model_identity
from imglish.inference.predictor import Predictor
from imglish.inference.samples import draw_samples
from imglish.serving.app import build_app
from imglish.serving.facts import learn
from imglish.serving.gate import Traffic
from imglish.serving.metrics import Metrics
from imglish.serving.search import FolderSearch
from imglish.serving.service import Service
from imglish.serving.settings import SECONDS_TO_LINGER, Batching, Limits

NUM_SAMPLES = 12
_LOGGER = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A server of uvicorn that answers whatever it has taken before it ends.

    Told to stop, it refuses new questions with 503, and closes nothing until all that were taken are answered
    and open connections have had a moment to learn of it. Told a second time, it ends at once.
    """

    def __init__(self, config: uvicorn.Config, traffic: Traffic) -> None:
        super().__init__(config)
        self._traffic = traffic

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGINT and SIGTERM."""
        self.stop()

    def stop(self) -> None:
        """End once all that was taken is answered; called a second time, at once."""
        if self._traffic.stopping:
            self.should_exit = self.force_exit = True
        self._traffic.stopping = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        for bound in sockets or []:
            host, port = bound.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            _LOGGER.info("serving at http://%s:%d; Ctrl-C stops it", shown, port)

    async def main_loop(self) -> None:
        """Serve until all is answered after `handle_exit`, or until ``should_exit`` is set."""
        ticks, last_busy, loop = 0, 0.0, asyncio.get_running_loop()
        while not await self.on_tick(ticks):
            await asyncio.sleep(0.1)
            ticks = (ticks + 1) % 864_000
            if not self._traffic.stopping or self._traffic.inside:
                last_busy = loop.time()
            elif loop.time() - last_busy > SECONDS_TO_LINGER:
                return


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet; port 0 takes any that is free.

    Raises:
        ConfigError: The address is in use, forbidden or none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"{host}: is no address of this machine ({error.strerror})") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"port {port} of {host} cannot be had ({error.strerror}): stop what uses it, or give "
            "another --port"
        ) from None
    return bound


def serve(
    bound: socket.socket,
    source: Path | str,
    *,
    devices: Sequence[str],
    copies: int = 1,
    threads: int | None = None,
    decoders: int = 2,
    limits: Limits,
    batching: Batching,
    index: Path | None = None,
    token: str = "",
    hosts: Sequence[str] = (),
) -> None:
    """Load a model and answer questions until SIGINT or SIGTERM, or until the process is told otherwise.

    Args:
        bound: Where to listen, of `bind`; it is closed in the end.
        source: Weights, as `Predictor` takes them.
        devices: Where models compute.
        copies: Of the model on each device; each computes in a thread of its own.
        threads: Of torch, for each copy; None shares out those that torch would take.
        decoders: Threads that decode pictures.
        limits: What is taken.
        batching: How requests are put together.
        index: File of `SearchIndex`, of the same weights; its folder can be searched.
        token: What requests must bring; empty for none.
        hosts: Names that the server may be called by; empty for any.

    Raises:
        CheckpointError: There are no such weights, they are damaged, or the index is of others.
        DataFormatError: The index is missing or damaged.
    """
    make_server(
        source,
        devices=devices,
        copies=copies,
        threads=threads,
        decoders=decoders,
        limits=limits,
        batching=batching,
        index=index,
        token=token,
        hosts=hosts,
    ).run(sockets=[bound])


def shown_name(source: Path | str) -> str:
    """What strangers are told of where weights come from: of a file or folder its name only."""
    return Path(source).resolve().name if Path(source).exists() else str(source)


def make_server(
    source: Path | str,
    *,
    devices: Sequence[str] = ("cpu",),
    copies: int = 1,
    threads: int | None = None,
    decoders: int = 2,
    limits: Limits,
    batching: Batching,
    index: Path | None = None,
    token: str = "",
    hosts: Sequence[str] = (),
) -> Server:
    """A server that has loaded its model and waits for ``run``; arguments and errors as of `serve`."""
    predictors = [
        Predictor(source, device, batch_size=batching.size, max_pixels=limits.pixels)
        for device in devices
        for _ in range(copies)
    ]
    facts, *_ = [learn(predictor, shown_name(source), model_card(source)) for predictor in predictors]
    search = None
    if index is not None:
        opened = SearchIndex.open(index, model_identity(predictors[0]))
        search = FolderSearch(opened, limits.pixels_in_flight)
    if threads is None and len(predictors) > 1:  # or they would fight for the cores
        threads = max(1, torch.get_num_threads() // len(predictors))
    traffic = Traffic()
    service: Service

    metrics = Metrics(
        {
            "imglish_queue_length": ("Requests that wait for their batch.", lambda: service.waiting()),
            "imglish_requests_inside": ("Questions that are not answered yet.", lambda: traffic.inside),
            "imglish_body_bytes": ("Bytes of their bodies.", lambda: traffic.bytes),
            "imglish_decoded_pixels": ("Pixels that are decoded.", lambda: service.pixels()),
        }
    )
    service = Service(
        predictors, facts, limits, batching, decoders=decoders, threads=threads, observe=metrics.count_batch
    )
    app = build_app(
        service,
        metrics=metrics,
        traffic=traffic,
        samples=draw_samples(NUM_SAMPLES),
        search=search,
        token=token,
        hosts=hosts,
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=30,
        lifespan="on",
    )
    return Server(config, traffic)
