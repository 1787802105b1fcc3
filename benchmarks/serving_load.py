"""How many mixed questions a second a server answers on this machine, with batches and without.

    python benchmarks/serving_load.py [--source world] [--clients 64] [--seconds 12] [--batch-size 16]

Starts ``imglish serve`` as a process of its own and asks it from so many clients at once, each the next
question as soon as the last is answered: once with batches, once with batches of one, once with one request
in ten malformed (cut short, of a wrong type, empty, one pixel, a decompression bomb, 200 megapixels, no
JSON), and once until a SIGTERM in the midst. Clients are plain sockets, so that they take little of the
processor they share with the server. Beside answers a second, which other work on the machine slows, it
prints answers for each second of processor time that the server took, which it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ["star", "fish", "house", "tree", "circle", "moon"]
TEXTS = ["a red star on the grass", "two blue fish", "a house under the moon", "a green tree"]
TASKS: dict[str, tuple[str, dict[str, object]]] = {
    "caption": ("caption", {}),
    "answer": ("answer", {}),
    "classify": ("classify", {}),
    "classify_by_names": ("classify", {"classes": NAMES}),
    "embed": ("match", {"texts": TEXTS}),
    "segment": ("segment", {}),
    "detect": ("detect", {}),
}


@dataclass
class Told:
    """What clients were told: seconds of each good answer, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    by_task: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Started:
    """A server process."""

    process: subprocess.Popen[str]
    log: Path

    @cached_property
    def port(self) -> int:
        """Where it listens, once it does."""
        while not (found := re.search(r"serving at http://127\.0\.0\.1:(\d+)", self.log.read_text())):
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text())
            time.sleep(0.1)
        return int(found[1])

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return bytes(answer.read())

    def peak_memory(self) -> float:
        """The most memory that it had, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def processor_seconds(self) -> float:
        """Processor time that it took so far."""
        numbers = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(source: str, log: Path, batch_size: str) -> Iterator[Started]:
    given = ["--run", source] if Path(source).is_dir() else ["--weights", source]
    command = [sys.executable, "-m", "imglish", "serve", *given, "--port", "0", "--batch-size", batch_size]
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors, text=True) as process:
        try:
            yield Started(process, log)
        finally:
            process.kill()


def multipart(path: str, fields: dict[str, object], picture: bytes) -> bytes:
    """A whole request with a form."""
    parts = [b'Content-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + picture]
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{one}'.encode())
    body = b"".join(b"--cut\r\n" + part + b"\r\n" for part in parts) + b"--cut--\r\n"
    return request(path, "multipart/form-data; boundary=cut", body)


def request(path: str, kind: str, body: bytes) -> bytes:
    head = (
        f"POST /v1/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def headed(height: int, width: int) -> bytes:
    """A PNG file whose header promises pixels that never come."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b""), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def malformed(good: bytes) -> dict[str, bytes]:
    pictures = {
        "cut short": good[: len(good) // 2],
        "wrong type": b"Dear Sir or Madam",
        "empty": b"",
        "one pixel": png(np.zeros((1, 1, 3), np.uint8)),
        "bomb": png(np.zeros((12_000, 12_000), np.uint8)),
        "200 megapixels": headed(10_000, 20_000),
    }
    requests = {name: multipart("caption", {}, picture) for name, picture in pictures.items()}
    return requests | {"wrong JSON": request("caption", "application/json", b'{"picture": ')}


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection stays open."""
    writer.write(data)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    return int(head.split()[1]), body, b"connection: close" not in head


async def client(
    number: int,
    port: int,
    questions: list[tuple[str, bytes]],
    bad: list[tuple[str, bytes]],
    until: float,
    told: Told,
) -> None:
    draw = random.Random(number)
    connection = None
    while time.monotonic() < until:
        if connection is None:
            try:
                connection = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return  # it takes nobody any more
        is_bad = bool(bad) and draw.random() < 0.1
        name, data = draw.choice(bad if is_bad else questions)
        begun = time.monotonic()
        try:
            status, body, stays = await ask(*connection, data)
        except (OSError, asyncio.IncompleteReadError) as error:
            told.failures[f"{name}: {type(error).__name__}"] += 1
            connection = None
            continue
        if is_bad and 400 <= status < 500 and json.loads(body)["error"]["message"]:
            told.refused[name] += 1
        elif not is_bad and status == 200 and json.loads(body)["result"]:
            told.seconds.append(time.monotonic() - begun)
            told.by_task.setdefault(name, []).append(told.seconds[-1])
        elif status == 503 and json.loads(body)["error"]["code"] == "stopping":
            told.refused["stopping"] += 1
            return
        else:
            told.failures[f"{name}: {status}"] += 1
        if not stays:
            connection[1].close()
            connection = None


async def load(
    server: Started,
    questions: list[tuple[str, bytes]],
    bad: list[tuple[str, bytes]],
    clients: int,
    seconds: float,
) -> Told:
    told, until = Told(), time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number, server.port, questions, bad, until, told))
    return told


def questions_for(server: Started) -> list[tuple[str, bytes]]:
    """A request of each kind that the weights can answer about each sample."""
    abilities = json.loads(server.get("/v1/model"))["abilities"]
    listed = []
    for sample in json.loads(server.get("/v1/samples")):
        picture = server.get(sample["url"])
        for ability, (path, fields) in TASKS.items():
            if ability in abilities:
                asked = fields | ({"question": sample["question"]} if path == "answer" else {})
                listed.append((ability, multipart(path, asked, picture)))
    return listed


def report(name: str, told: Told, seconds: float, processor: float, server: Started) -> tuple[float, float]:
    """Print what clients saw; returns answers a second, and answers for each second of processor time."""
    rates = len(told.seconds) / seconds, len(told.seconds) / processor
    p50, p99 = np.percentile(told.seconds, [50, 99]) * 1000
    text = server.get("/metrics").decode()
    total, count = (
        sum(float(value) for value in re.findall(rf"imglish_batch_size_{of}\S* (\S+)", text))
        for of in ("sum", "count")
    )
    failures = sum(told.failures.values())
    print(
        f"{name}: {rates[0]:.1f} answers/s, {rates[1]:.1f} for each second of processor time, "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, {total / count:.1f} requests a batch, "
        f"{sum(told.refused.values())} refused as they should be, {failures} failures "
        f"{dict(told.failures) or ''}, peak memory {server.peak_memory():.0f} MiB",
        flush=True,
    )
    for task, taken in sorted(told.by_task.items()):
        print(f"  {task}: {len(taken)} answers, p50 {np.median(taken) * 1000:.0f} ms")
    if told.refused:
        print(f"  refused: {dict(sorted(told.refused.items()))}")
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", default="world")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/serving_load"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (
        started(arguments.source, arguments.out / "batches.log", str(arguments.batch_size)) as server,
        started(arguments.source, arguments.out / "single.log", "1") as single,
    ):
        print(f"servers at ports {server.port} and {single.port}", flush=True)
        questions = questions_for(server)
        bad = list(malformed(server.get("/v1/samples/world-01.png")).items())
        rates = {
            name: measure(name, asked, questions, wrong, arguments.clients, arguments.seconds)
            for name, asked, wrong in (
                ("batches", server, []),
                ("batches of one", single, []),
                ("batches, one in ten malformed", server, bad),
            )
        }
        wall, processor = (a / b for a, b in zip(rates["batches"], rates["batches of one"], strict=True))
        print(
            f"batches against one: {wall:.2f} times the answers a second, {processor:.2f} by processor time"
        )
        single.process.terminate()
        single.process.wait()
        asyncio.run(stop_under_load(server, questions, arguments.clients))


def measure(
    name: str,
    server: Started,
    questions: list[tuple[str, bytes]],
    bad: list[tuple[str, bytes]],
    clients: int,
    seconds: float,
) -> tuple[float, float]:
    asyncio.run(load(server, questions, bad, clients, 2))  # until all is warm
    begun, processor = time.monotonic(), server.processor_seconds()
    told = asyncio.run(load(server, questions, bad, clients, seconds))
    return report(name, told, time.monotonic() - begun, server.processor_seconds() - processor, server)


async def stop_under_load(server: Started, questions: list[tuple[str, bytes]], clients: int) -> None:
    """What becomes of requests when SIGTERM comes in the midst of them."""
    before = logged(server)
    asking = asyncio.create_task(load(server, questions, [], clients, 60))
    await asyncio.sleep(4)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    told = await asking
    code = await asyncio.to_thread(server.process.wait)
    answered = logged(server) - before
    print(
        f"SIGTERM: exit code {code} after {time.monotonic() - begun:.1f} s; clients have "
        f"{len(told.seconds)} answers, {told.refused['stopping']} were told that it is stopping, "
        f"{sum(told.failures.values())} lost {dict(told.failures) or ''}; the server's log has "
        f"{answered[200]} answers and {answered[503]} refusals"
    )


def logged(server: Started) -> Counter[int]:
    """How many questions the server's log has, by status."""
    lines = (json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{"))
    return Counter(line["status"] for line in lines if line["method"] == "POST")


if __name__ == "__main__":
    main()
