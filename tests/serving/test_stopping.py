"""``imglish serve`` from its start to its end, as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from imglish.cli.main import main
from tests.inference.tiny_weights import write_run
from tests.recipes.tiny_runs import error_line
from tests.serving.tiny_server import form, picture

CLIENTS = 12
TOKEN = "s3cret-token"
PATIENCE = 300  # seconds; only a machine with much else to do comes near it


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("stopping") / "run", "captioning")


@contextmanager
def started(run: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and where it serves."""
    command = [sys.executable, "-m", "imglish", "serve", "--run", str(run), "--port", "0", *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        try:
            assert process.stderr is not None
            seen = ""
            while not (found := re.search(r"serving at (http://127\.0\.0\.1:\d+);", seen)):
                line = process.stderr.readline()
                assert line, f"the server did not start: {seen}"
                seen += line
            yield process, found[1]
        finally:
            process.kill()


def ask_until_refused(url: str, statuses: Counter[int], lost: list[str]) -> None:
    """Ask again and again, until the server says that it stops or takes no connection."""
    right = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, headers=right) as client:
        while True:
            try:
                status = client.post("/v1/caption", **form(picture=picture())).status_code
            except httpx.ConnectError:
                return  # it was not taken
            except httpx.HTTPError as error:
                lost.append(repr(error))
                return
            statuses[status] += 1
            if status != 200:
                return


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=lambda one: one.name
)
def test_a_signal_under_load_loses_nothing_that_was_taken(run: Path, number: int) -> None:
    options = ("--max-wait-ms", "30", "--batch-size", "4")
    with started(run, *options, IMGLISH_TOKEN=TOKEN) as (process, url):
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as stranger:
            assert stranger.get("/v1/model").status_code == 401
            assert stranger.get(f"/{TOKEN}").status_code == 404
        statuses, lost = Counter[int](), list[str]()
        threads = [
            threading.Thread(target=ask_until_refused, args=(url, statuses, lost)) for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        while statuses[200] < 2 * CLIENTS:
            time.sleep(0.01)
        process.send_signal(number)
        for thread in threads:
            thread.join(PATIENCE)
        log, output = process.communicate(timeout=PATIENCE)[1], process.stdout
        assert process.returncode == 0 and not lost
        assert set(statuses) <= {200, 503} and output is not None
        # What clients saw is what the server says that it answered: each line of its log is one request.
        lines = [json.loads(line) for line in log.splitlines()]
        answered = Counter(line["status"] for line in lines if line.get("path") == "/v1/caption")
        assert answered == statuses
        assert set(lines[0]) == {"time", "method", "path", "status", "milliseconds", "batch"}
        assert max(line["batch"] for line in lines) > 1
        assert [line["path"] for line in lines[:2]] == ["/v1/model", "other"]  # not what a client made up
        assert "Traceback" not in log and TOKEN not in log


@pytest.mark.slow
def test_health_tells_that_it_is_stopping_and_no_new_question_is_taken(run: Path) -> None:
    with started(run, "--max-wait-ms", "3000") as (process, url):
        client = httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE)
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/v1/caption", **form(picture=picture())))
        )
        asking.start()
        while "imglish_queue_length 1" not in client.get("/metrics").text:
            assert not answers, "the machine is too slow to see a question wait"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        while (health := client.get("/health")).json()["status"] == "ok":
            time.sleep(0.01)
        assert health.json()["status"] == "stopping" and health.headers["connection"] == "close"
        refused = client.post("/v1/caption", **form(picture=picture()))
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "stopping"
        asking.join(PATIENCE)
        assert answers[0].status_code == 200 and answers[0].json()["result"]["caption"]
        assert process.wait(PATIENCE) == 0
        with pytest.raises(httpx.ConnectError):
            client.get("/health")


# What is wrong before it starts


def refusal(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> str:
    assert main(["serve", "--run", str(run), *options]) == 1
    return error_line(capsys.readouterr().err)


def test_a_port_in_use_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = refusal(capsys, run, "--port", str(port))
    assert told.startswith(f"port {port} of 127.0.0.1 cannot be had (Address already in use)")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "holds no token"),
        (b"two words\n", "holds no token"),
        (b"one\ntwo\n", "holds no token"),
        (b"\xff\xfe", "is no text"),
    ],
)
def test_a_wrong_token_file_is_one_line(
    content: bytes | None, reason: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    told = refusal(capsys, run, "--token-file", str(path))
    assert told.startswith(f"token file {path}: {reason}") and "two" not in told.replace(str(path), "")


def test_other_mistakes_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such folder" in refusal(capsys, tmp_path / "none")
    assert "no address of this machine" in refusal(
        capsys, run, "--host", "no.such.host.invalid", "--port", "0"
    )
    assert "device 'cuda:99' cannot be used" in refusal(capsys, run, "--devices", "cuda:99")
    monkeypatch.setenv("IMGLISH_TOKEN", "")
    assert "IMGLISH_TOKEN: holds no token" in refusal(capsys, run)


def test_without_the_extra_it_says_what_to_install(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # not found, as if it were not installed
    told = refusal(capsys, run)
    assert told.startswith("uvicorn: not installed; imglish serve needs an extra") and "[serve]" in told
