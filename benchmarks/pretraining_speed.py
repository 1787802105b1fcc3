"""How fast BEiT-3 is pretrained on one device: eager and compiled side by side, without data.

    python benchmarks/pretraining_speed.py --size base --batch 64
    python benchmarks/pretraining_speed.py --size giant --batch 16 --checkpointing --precision bf16_params
    python benchmarks/pretraining_speed.py --size tiny --batch 4 --device cpu --text-tokens 32

A batch has --batch pictures, as many texts and as many pairs, of random numbers. A step is the real one:
visual tokens on the fly, forward, backward, clipping, AdamW. FLOPs are those of `imglish plan`: of model and
tokenizer, a multiplication with its addition being two, and nothing that is computed twice. MFU is their
share of the peak.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.config import MaskedDataModelingTask
from imglish.recipes.plan_work import Stream, frozen_of, streams_of, work_of
from imglish.recipes.runs import RECIPES
from imglish.structures.batches import IGNORE, MaskedBatch, MaskedImages, MaskedPairs, MaskedText
from imglish.tasks.masked_data_modeling import MaskedDataModelingTask as MaskedTask
from imglish.train.config import OptimizerConfig
from imglish.train.distributed import Ranks, join_ranks
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import clip_gradients, parallelize
from imglish.train.precision import autocast, resolve_precision

# Dense bf16 TFLOP/s by a part of the device's name, from the makers' data sheets; the first that fits counts.
PEAKS = {"H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "B200": 2250, "A100": 312, "L40S": 362}


@dataclass(frozen=True)
class Measured:
    """One way of running.

    Args:
        seconds: Median of the steps.
        tokens_per_second: Of all streams, padding left out as there is none.
        tflops: Useful operations a second, in 10^12.
        mfu: Their share of the peak; None where that is not known.
        peak_gib: Most memory that torch held; None on a CPU.
        first_seconds: The first step, compiling included.
    """

    seconds: float
    tokens_per_second: float
    tflops: float
    mfu: float | None
    peak_gib: float | None
    first_seconds: float


def main() -> int:
    options = arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "pretraining_speed needs a GPU and found none; --device cpu --size tiny tries it on a CPU",
            file=sys.stderr,
        )
        return 1
    settings = task_settings(options)
    streams = streams_of(settings, text_tokens=options.text_tokens, pair_tokens=options.pair_tokens)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    peak = options.peak or next((peak for part, peak in PEAKS.items() if part in name), 0)
    found: dict[str, Measured] = {}
    with join_ranks(options.device) as ranks:
        print(f"{options.size} on {name}, torch {torch.__version__}, {options.batch} + {options.batch} + "
              f"{options.batch} samples, peak {peak or 'unknown'} TFLOP/s")  # fmt: skip
        for way in options.ways:
            found[way] = measure(settings, streams, options, ranks, peak, compiled=way == "compiled")
            show(way, found[way])
    if options.json:
        report = {
            "device": name,
            "torch": torch.__version__,
            "peak_tflops": peak or None,
            "options": {key: str(value) for key, value in vars(options).items()},
            "found": {way: asdict(each) for way, each in found.items()},
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "small", "base", "large", "giant"), default="base")
    parser.add_argument("--batch", type=int, default=64, help="samples of each stream")
    parser.add_argument("--text-tokens", type=int, default=512)
    parser.add_argument("--pair-tokens", type=int, default=32)
    parser.add_argument("--checkpointing", action="store_true", help="activation checkpointing")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "bf16_params"), default="auto")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--ways", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them, the first one included")
    parser.add_argument("--peak", type=float, default=0.0, help="dense TFLOP/s of the device, if not known")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser.parse_args()


def task_settings(options: argparse.Namespace) -> MaskedDataModelingTask:
    """The recipe's task with the batch of the options."""
    recipe = "beit3_demo_pretraining" if options.size == "tiny" else f"beit3_{options.size}_pretraining"
    task = RECIPES[recipe]().task
    assert isinstance(task, MaskedDataModelingTask)
    if options.size == "tiny":  # its stem has running statistics, which `bf16_params` can not have
        task = replace(task, model=replace(task.model, stem="linear"))
    return replace(task, num_images=options.batch, num_texts=options.batch, num_pairs=options.batch)


def measure(
    settings: MaskedDataModelingTask,
    streams: list[Stream],
    options: argparse.Namespace,
    ranks: Ranks,
    peak: float,
    *,
    compiled: bool,
) -> Measured:
    """Run steps of a new model."""
    torch.manual_seed(0)
    frozen, precision = frozen_of(settings), resolve_precision(options.precision, ranks.device)
    assert frozen.config is not None
    with ranks.device:
        model = Beit3ForMaskedDataModeling(settings.model, codebook_size=frozen.vocabulary)
        task = MaskedTask(model, Vqkd(frozen.config))
        batch = synthetic(settings.model, streams)
    task.model = parallelize(
        model,
        "auto",
        ranks,
        activation_checkpointing=options.checkpointing,
        compiled=compiled,
        precision=precision,
    )
    optimizer = build_optimizer(model, OptimizerConfig())
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(options.warmup + options.steps):
        begun = time.perf_counter()
        with autocast(precision, ranks.device):
            loss = task.training_step(batch).loss
        loss.backward()
        clip_gradients(list(model.parameters()), 3.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if ranks.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    work = work_of(settings, streams, frozen, precision=precision)
    flops = work.model.forward + work.model.backward + work.frozen
    median = statistics.median(seconds[options.warmup :])
    memory = torch.cuda.max_memory_allocated() / 2**30 if ranks.device.type == "cuda" else None
    del task, model, optimizer, loss
    if ranks.device.type == "cuda":
        torch.cuda.empty_cache()
    return Measured(
        seconds=median,
        tokens_per_second=sum(stream.samples * stream.tokens for stream in streams) / median,
        tflops=flops / median / 1e12,
        mfu=flops / median / 1e12 / peak if peak else None,
        peak_gib=memory,
        first_seconds=seconds[0],
    )


def synthetic(config: Beit3Config, streams: list[Stream]) -> MaskedBatch:
    """Random samples on the present device; as many places hidden as in a run."""
    images, texts, pairs = streams

    def pictures(stream: Stream) -> tuple[Tensor, Tensor]:
        corruption = torch.zeros(stream.samples, stream.patches - 1, dtype=torch.bool)
        corruption[:, : round(stream.hidden_patches)] = True
        return torch.rand(stream.samples, 3, *config.image_size) * 2 - 1, corruption

    def words(stream: Stream) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.randint(5, config.vocab_size, (stream.samples, stream.words))
        targets = torch.full_like(ids, IGNORE)
        hidden = slice(1, 1 + round(stream.hidden_words))
        targets[:, hidden] = ids[:, hidden]
        return ids, torch.zeros_like(ids, dtype=torch.bool), targets

    seen, hidden = pictures(images)
    pair_seen, pair_hidden = pictures(pairs)
    ids, padding, targets = words(texts)
    pair_ids, pair_padding, pair_targets = words(pairs)
    return MaskedBatch(
        images=MaskedImages(images=seen, corruption=hidden),
        texts=MaskedText(token_ids=ids, padding=padding, targets=targets),
        pairs=MaskedPairs(
            images=pair_seen,
            corruption=pair_hidden,
            token_ids=pair_ids,
            padding=pair_padding,
            targets=pair_targets,
        ),
    )


def show(way: str, found: Measured) -> None:
    mfu = "MFU unknown" if found.mfu is None else f"MFU {found.mfu:.1%}"
    memory = "" if found.peak_gib is None else f", {found.peak_gib:.1f} GiB"
    print(
        f"{way:9} {1000 * found.seconds:9.1f} ms a step, {found.tokens_per_second:11,.0f} tokens/s, "
        f"{found.tflops:.3g} TFLOP/s, {mfu}{memory}; first step {found.first_seconds:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
