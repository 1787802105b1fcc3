"""What the paper's segmenters cost: parameters, operations, memory, time, beside its own numbers.

Parameters and operations are counted on the meta device, for all rows in seconds; time and memory are
measured where it runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from imglish.errors import ConfigError
from imglish.models.segmenters.build import Segmenter, build_segmenter
from imglish.models.segmenters.config import (
    SegmenterConfig,
    SemanticFpnConfig,
    SetrPupConfig,
    UPerNetConfig,
)
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.last_map import LastMap
from imglish.models.vit_adapter.model import ViTAdapter

_NUM_CLASSES = 150  # of ADE20K
_PRETRAINED = {"tiny": 224, "small": 224, "base": 384, "large": 384}  # AugReg's, as of the paper's totals
_MULTIPLE = 16  # of the paper's pictures; FLOPs are of whole patches

Backbone = Literal["vit", "vit_adapter", "vit_adapter_light"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The paper's numbers at 512 x 512 (arXiv 2205.08534), 0 where it has none.

    Args:
        parameters: Millions.
        flops: Billions of multiplications with their additions.
        seconds: Of a training step, two pictures on each of its GPUs.
        memory: Gigabytes of training.
        fps: Pictures a second.
    """

    parameters: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0
    fps: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One of the paper's segmenters."""

    backbone: Backbone
    size: presets.Size
    head: SegmenterConfig
    published: Published


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What was counted and measured of a row.

    Args:
        row: Its name.
        parameters: Of the model, those that help in training only included.
        flops: Multiplications with their additions of one picture, forward.
        published: The paper's numbers.
        seconds: Of a training step, median; None where it was not measured.
        memory: Gigabytes at the peak of training, on a GPU alone.
        fps: Pictures a second, one at a time, median.
    """

    row: str
    parameters: int
    flops: int
    published: Published
    seconds: float | None = None
    memory: float | None = None
    fps: float | None = None


def _rows() -> dict[str, Row]:
    """The paper's cost table, and its rows of Semantic FPN and UPerNet, of which it tells parameters."""
    fpn, setr, upernet = SemanticFpnConfig(), SetrPupConfig(), UPerNetConfig()
    million = {"tiny": (12.2, 36.1), "small": (31.9, 57.6), "base": (104.6, 133.9), "large": (332.0, 363.8)}
    base = Published(parameters=105, flops=183, seconds=0.16, memory=7.5, fps=26.7)
    large = Published(parameters=332, flops=473, seconds=0.25, memory=16.0, fps=12.9)
    plain = {
        "base": Published(parameters=98, flops=147, seconds=0.15, memory=5.6, fps=29.7),
        "large": Published(parameters=321, flops=414, seconds=0.21, memory=14.1, fps=15.5),
    }
    adapted = {"base": base, "large": large}
    pup = {
        "base": Published(parameters=98, flops=170, seconds=0.16, memory=9.5, fps=30.3),
        "large": Published(parameters=318, flops=425, seconds=0.25, memory=16.8, fps=14.0),
    }
    light = Published(parameters=324, flops=445, seconds=0.23, memory=15.2, fps=13.5)
    rows: dict[str, Row] = {}
    sizes: tuple[presets.Size, ...] = ("tiny", "small", "base", "large")
    for size in sizes:
        if size in pup:
            rows[f"vit_{size}_setr_pup"] = Row(backbone="vit", size=size, head=setr, published=pup[size])
        numbers = plain.get(size, Published())
        rows[f"vit_{size}_semantic_fpn"] = Row(backbone="vit", size=size, head=fpn, published=numbers)
        if size == "large":
            rows["vit_adapter_light_large_semantic_fpn"] = Row(
                backbone="vit_adapter_light", size=size, head=fpn, published=light
            )
        numbers = adapted.get(size, Published(parameters=million[size][0]))
        rows[f"vit_adapter_{size}_semantic_fpn"] = Row(
            backbone="vit_adapter", size=size, head=fpn, published=numbers
        )
        numbers = Published(parameters=million[size][1])
        rows[f"vit_adapter_{size}_upernet"] = Row(
            backbone="vit_adapter", size=size, head=upernet, published=numbers
        )
    return rows


ROWS: dict[str, Row] = _rows()


def build_row(row: Row) -> Segmenter:
    """The segmenter of a row, new, of ADE20K's 150 classes."""
    vit = ViT(presets.vit(row.size, pretrained_size=_PRETRAINED[row.size]))
    backbone: nn.Module
    if row.backbone == "vit" and isinstance(row.head, SetrPupConfig):
        backbone = LastMap(vit)
    elif row.backbone == "vit":
        step = vit.depth // 4
        backbone = PlainViT(vit, out_blocks=tuple(range(step - 1, vit.depth, step)))
    elif row.backbone == "vit_adapter_light":
        backbone = ViTAdapter(vit, presets.light_adapter(row.size))
    else:
        backbone = ViTAdapter(vit, presets.vit_adapter(row.size, "segmentation"))
    return build_segmenter(backbone, vit.width, row.head, num_classes=_NUM_CLASSES)


def count(name: str, *, size: tuple[int, int] = (512, 512)) -> Costs:
    """Parameters and operations of a row, without making it.

    Args:
        name: Of `ROWS`.
        size: (height, width) of the picture.

    Raises:
        ConfigError: There is no such row, or a side is no multiple of 16.
    """
    row = _row(name)
    if min(size) < _MULTIPLE or any(side % _MULTIPLE for side in size):
        raise ConfigError(f"size is {size[0]} x {size[1]}; expected multiples of {_MULTIPLE}")
    with torch.device("meta"):
        model = build_row(row).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, *size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # The paper counts a multiplication with its addition once; the counter counts both.
    return Costs(
        row=name, parameters=parameters, flops=counter.get_total_flops() // 2, published=row.published
    )


def measure(
    costs: Costs,
    device: torch.device,
    *,
    size: tuple[int, int] = (512, 512),
    batch_size: int = 2,
    rounds: int = 5,
) -> Costs:
    """Add time and memory to what was counted.

    A training step is forward, cross-entropy on logits enlarged to the picture, backward, and AdamW, with
    float32 on a CPU and bf16 autocast on a GPU; inference is one picture, float32 or bf16. The first round is
    not counted.

    Args:
        costs: Of `count`.
        device: Where.
        size: (height, width) of the pictures.
        batch_size: Pictures of a step; the paper has two on a GPU.
        rounds: Of which the median is taken.

    Raises:
        ConfigError: A number is not positive.
    """
    for name, number in (("batch_size", batch_size), ("rounds", rounds)):
        if number < 1:
            raise ConfigError(f"{name} must be at least 1; got {number}")
    with device:
        model = build_row(_row(costs.row))
        images = torch.randn(batch_size, 3, *size)
        targets = torch.randint(_NUM_CLASSES, (batch_size, *size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = _median(lambda: _train(model, images, targets, optimizer), rounds, device)
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    model.eval()
    picture = _median(lambda: _infer(model, images[:1]), rounds, device)
    return replace(costs, seconds=seconds, memory=memory, fps=1 / picture)


def to_json(costs: Sequence[Costs]) -> list[dict[str, Any]]:
    """Rows as plain values."""
    return [asdict(each) for each in costs]


def _row(name: str) -> Row:
    if name not in ROWS:
        raise ConfigError(f"there is no row {name!r}; there are {', '.join(ROWS)}")
    return ROWS[name]


def _train(model: Segmenter, images: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        logits = model(images)
    assert isinstance(logits, Tensor)  # no row is a Mask2Former
    enlarged = F.interpolate(logits.float(), size=targets.shape[1:], mode="bilinear", align_corners=False)
    F.cross_entropy(enlarged, targets).backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def _infer(model: Segmenter, images: Tensor) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        model(images)


def _median(work: Callable[[], None], rounds: int, device: torch.device) -> float:
    """Seconds of one round."""
    taken = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])
