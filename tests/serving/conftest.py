"""One set of tiny runs and one server for all tests that change nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from imglish.inference.predictor import Predictor
from imglish.serving.settings import Batching
from tests.serving.tiny_server import Running, running, write_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_runs(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="session")
def predictor(runs: Path) -> Predictor:
    return Predictor(runs)


@pytest.fixture(scope="session")
def server(runs: Path) -> Iterator[Running]:
    with running(runs, batching=Batching(wait=0.001)) as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened
