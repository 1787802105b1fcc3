"""Real processes that form a gloo group over 127.0.0.1 and stop by themselves."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch.multiprocessing.spawn import start_processes

from imglish.train.distributed import Ranks

NUM_RANKS = 2
# Forked by a server that has imported these once: new interpreters would import for seconds each.
_IMPORTED = ["torch._dynamo", "imglish.recipes.assemble"]
# A rank that fails does not keep the other for the usual half hour.
PATIENCE = timedelta(seconds=120)


def on_two_ranks(function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function(ranks, *arguments)`` in two processes; whatever fails in one fails here."""
    on_ranks(NUM_RANKS, function, *arguments)


def on_ranks(count: int, function: Callable[..., None], *arguments: Any) -> None:
    """The same in any number of processes."""
    # Port 0 is any that is free; the store keeps it, so that nobody else can take it meanwhile.
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE
    )
    multiprocessing.set_forkserver_preload(_IMPORTED)
    processes = start_processes(
        _enter,
        args=(count, function, store.port, arguments),
        nprocs=count,
        join=False,
        start_method="forkserver",
    )
    assert processes is not None
    deadline = time.monotonic() + 4 * PATIENCE.total_seconds()
    while not processes.join(timeout=1):
        if time.monotonic() > deadline:
            for process in processes.processes:
                process.kill()
            raise TimeoutError(f"{function.__name__} on {count} ranks does not end")


def _enter(
    rank: int, count: int, function: Callable[..., None], port: int, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    # The name of the machine may stand for an address that can not be reached.
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for _, name in socket.if_nameindex() if name[:2] == "lo")
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", port, is_master=False, timeout=PATIENCE
    )
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        function(Ranks(rank, count, torch.device("cpu")), *arguments)
    finally:
        dist.destroy_process_group()
