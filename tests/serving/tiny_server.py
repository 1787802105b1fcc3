"""Tiny real runs of every kind, a real server on a free port of this machine, and clients for it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForVqa
from imglish.serving.run import Server, bind, make_server
from imglish.serving.settings import Batching, Limits
from imglish.text.training import train_tokenizer
from tests.inference.tiny_weights import NAMES, TEXTS, pixels, png, segmenter, write_run
from tests.recipes.test_detected_pictures import finished, pictures

CLASSES = ("star", "fish", "dog", "tree")
PATIENCE = 300.0  # seconds; only a machine with much else to do comes near it
ANSWERS = ("red", "blue", "two", "yes", "no")
CONFIG = Beit3Config(
    image_size=(16, 16), patch_size=8, vocab_size=48, max_text_tokens=12, width=16, depth=1, num_heads=2,
    feed_forward_width=16, init="scaled",
)  # fmt: skip


def write_runs(root: Path) -> Path:
    """A folder of finished runs with random weights that can do everything, named as the demo names them."""
    runs = root / "runs"
    write_run(runs / "captioning", "captioning", seed=1)
    write_run(runs / "retrieval", "retrieval", seed=2)
    plain = replace(CONFIG, output_norm=False)
    _write(runs / "vqa", "vqa", Beit3ForVqa(plain, num_answers=len(ANSWERS)))
    answers = "".join(json.dumps({"answer": answer, "label": n}) + "\n" for n, answer in enumerate(ANSWERS))
    (runs / "vqa" / "answers.txt").write_text(answers)
    _write(runs / "nlvr2", "nlvr2", Beit3ForNlvr2(CONFIG))
    _write(
        runs / "image_classification",
        "image_classification",
        Beit3ForImageClassification(plain, num_classes=len(CLASSES)),
    )
    (runs / "image_classification" / "classes.txt").write_text("\n".join(CLASSES))
    _write_segmenter(runs / "segmentation")
    own = pictures(root / "own")
    finished(own, runs / "detection", "two_stage")
    finished(own, runs / "panoptic", "mask2former", panoptic=True)
    return runs


def _write(folder: Path, kind: str, model: nn.Module) -> None:
    torch.manual_seed(len(kind))
    with torch.no_grad():  # so that answers differ from picture to picture
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    folder.mkdir(parents=True)
    settings = {"max_text_tokens": 12, "model": json.loads(json.dumps(asdict(CONFIG)))}
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": {"kind": kind, **settings}}))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "model.safetensors",
    )
    train_tokenizer(TEXTS * 5, folder / "text.spm", vocab_size=45)


def _write_segmenter(folder: Path) -> None:
    run = segmenter()
    assert isinstance(run.config, Beit3Config)
    folder.mkdir(parents=True)
    task: dict[str, Any] = {
        "kind": "semantic_segmentation",
        "model": asdict(run.config),
        "adapter": {"num_interactions": 1, "stem_width": 8, "num_heads": 2, "value_ratio": 0.5},
        "segmenter": {"kind": "semantic_fpn", "neck_width": 8, "head_width": 8},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": json.loads(json.dumps(task))}))
    save_file(run.model.state_dict(), folder / "model.safetensors")
    (folder / "classes.txt").write_text("\n".join(NAMES))


def picture(height: int = 40, width: int = 30, seed: int = 0) -> bytes:
    """A PNG file of smooth colours."""
    return png(Image.fromarray(pixels(height, width, seed)))


def black(height: int, width: int) -> bytes:
    """A PNG file of one colour: small, however many pixels it has."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width), dtype=np.uint8)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def small_limits(**changes: Any) -> Limits:
    """Limits that a test reaches quickly, with some of them changed."""
    told: dict[str, Any] = {
        "bytes": 200_000, "pixels": 400_000, "bytes_in_flight": 4_000_000, "pixels_in_flight": 1_600_000,
        "seconds": PATIENCE,
    }  # fmt: skip
    return Limits(**(told | changes))


class Running:
    """A server in a thread of this process, reached over a socket like any other."""

    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port = server, port
        self.url = f"http://127.0.0.1:{port}"

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False)

    def metric(self, name: str) -> float:
        """A number of ``/metrics`` by its name with labels."""
        lines = self.client().get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


@contextmanager
def running(
    source: Path | str,
    *,
    limits: Limits | None = None,
    batching: Batching | None = None,
    index: Path | None = None,
    token: str = "",
    hosts: Sequence[str] = (),
    copies: int = 1,
) -> Iterator[Running]:
    """A server that runs as long as the block; it stops as on SIGTERM."""
    bound = bind("127.0.0.1", 0)
    server = make_server(
        source,
        limits=limits or small_limits(),
        batching=batching or Batching(),
        index=index,
        token=token,
        hosts=hosts,
        copies=copies,
        threads=1,
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        running = Running(server, bound.getsockname()[1])
        while not server.started:
            assert thread.is_alive()
            thread.join(0.02)
        yield running
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def form(**fields: str | list[str] | bytes) -> Mapping[str, Any]:
    """Arguments of httpx for a form: bytes are files, everything else fields."""
    files = {
        name: ("a.png", value, "image/png") for name, value in fields.items() if isinstance(value, bytes)
    }
    data = {name: value for name, value in fields.items() if not isinstance(value, bytes)}
    return {"files": files or {"none": None}, "data": data}
