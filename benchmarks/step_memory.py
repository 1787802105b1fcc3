"""Memory and time of a training step of masked data modelling, with activation checkpointing and without.

    python benchmarks/step_memory.py [--size base] [--samples 4] [--words 32]

A step of ``--samples`` pictures, as many texts and as many pairs on the CPU, in fp32, with random weights.
Counted are the bytes of all tensors that the step makes, as they come and go, weights and batch left out: at
the end of the forward pass they are what is kept for the backward pass, and the gradients belong to the peak.
Each way runs in a process of its own, for the largest resident memory that the system saw. The time is that
of the processor.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from imglish.data.buckets import cut_into_buckets
from imglish.models.beit3.config import beit3_base, beit3_large
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling
from imglish.structures.batches import IGNORE, MaskedBatch, MaskedImages, MaskedPairs, MaskedText
from imglish.train.distributed import Ranks
from imglish.train.parallelize import parallelize

SIZES = {"base": beit3_base, "large": beit3_large}
CODES = 8192


class CountedBytes(TorchDispatchMode):
    """Bytes of the tensors made inside that are still there, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet[Any]()

    def leave_out(self, tensors: Any) -> None:
        """Do not count these: they were there before."""
        for tensor in tensors:
            self._known.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


def make_batch(samples: int, words: int, patches: int) -> MaskedBatch:
    g = torch.Generator().manual_seed(0)
    corruption = torch.rand(samples, patches, generator=g) < 0.4
    ids = torch.randint(4, 64000, (samples, words), generator=g)
    hidden = torch.rand(samples, words, generator=g) < 0.5
    text: dict[str, Any] = {
        "token_ids": ids.masked_fill(hidden, 3),
        "padding": torch.zeros_like(hidden),
        "targets": ids.masked_fill(~hidden, IGNORE),
        "buckets": cut_into_buckets([words] * samples, 1),
    }
    images = torch.rand(samples, 3, 224, 224, generator=g) * 2 - 1
    return MaskedBatch(
        images=MaskedImages(images=images, corruption=corruption),
        texts=MaskedText(**text),
        pairs=MaskedPairs(images=images, corruption=corruption, **text),
    )


def measure(size: str, samples: int, words: int, twice: bool) -> dict[str, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = SIZES[size]()
    model = Beit3ForMaskedDataModeling(config, codebook_size=CODES).train()
    ranks = Ranks(0, 1, torch.device("cpu"))
    parallelize(model, "single", ranks, activation_checkpointing=twice)
    batch = make_batch(samples, words, config.num_patches)
    counted = CountedBytes()
    counted.leave_out([*model.parameters(), batch.images.images, batch.pairs.images])
    begun = time.process_time()
    with counted:
        logits = model(batch)
        loss = torch.stack([part.logsumexp(dim=1).sum() for part in logits if len(part)]).sum()
        kept = counted.now
        loss.backward()
    seconds = time.process_time() - begun
    norms = [p.grad.double().norm() for p in model.parameters() if p.grad is not None]
    return {
        "kept": kept,
        "peak": counted.peak,
        "gradients": counted.now,
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds": seconds,
        "loss": loss.item(),
        "norm": torch.stack(norms).norm().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--words", type=int, default=32)
    parser.add_argument("--one", choices=("off", "on"), help="measure one way, in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.size, arguments.samples, arguments.words, arguments.one == "on")))
        return
    found = {}
    for way in ("off", "on"):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", way]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[way] = json.loads(shown.splitlines()[-1])
    off, on = found["off"], found["on"]
    print("| activation checkpointing | off | on | on / off |\n|---|---:|---:|---:|")
    for name, title in {
        "kept": "kept for the backward pass",
        "peak": "most at once",
        "gradients": "of them gradients",
        "resident": "resident memory of the process, at most",
    }.items():
        sizes = [each[name] / 2**20 for each in (off, on)]
        print(f"| {title} | {sizes[0]:.0f} MiB | {sizes[1]:.0f} MiB | {sizes[1] / sizes[0]:.2f} |")
    times = [each["seconds"] for each in (off, on)]
    print(f"| processor time | {times[0]:.1f} s | {times[1]:.1f} s | {times[1] / times[0]:.2f} |")
    for name in ("loss", "norm"):
        print(f"{name}: off {off[name]!r}, on {on[name]!r}")


if __name__ == "__main__":
    main()
