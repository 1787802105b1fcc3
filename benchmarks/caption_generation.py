"""How long captions take: ours, the released code's way, and without a cache.

    python benchmarks/caption_generation.py [--size base] [--pixels 480] [--batch 8] [--beams 3] [--words 20]

The weights are random, so that a text ends where ``--words`` says and not before: the end of the text is made
impossible until then. "Released way" encodes each picture once for each beam and copies what was seen of it
whenever beams change places; "no cache" reads picture and words anew for each word. All three are measured in
turns in one run and write the same texts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.decoding.beam_search import BeamSearchConfig, Hypothesis, beam_search
from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_large
from imglish.models.beit3.heads import Beit3ForCaptioning, CaptionMemory

BOS, EOS, MASK = 0, 2, 64001


class Copied:
    """The memory as the released code has it: every row holds its own copy of the picture."""

    def __init__(self, memory: CaptionMemory) -> None:
        self.memory = memory

    def select(self, rows: Tensor) -> Copied:
        memory = self.memory
        pictures = [block.select(rows) for block in memory.pictures]
        words = None if memory.words is None else [block.select(rows) for block in memory.words]
        return Copied(memory._replace(pictures=pictures, words=words, owners=torch.arange(len(rows))))


class Written:
    """Without a cache: the pictures and the words so far."""

    def __init__(self, images: Tensor, words: Tensor) -> None:
        self.images, self.words = images, words

    def select(self, rows: Tensor) -> Written:
        return Written(self.images[rows], self.words[rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "base", "large"), default="base")
    parser.add_argument("--pixels", type=int, default=480)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--beams", type=int, default=3)
    parser.add_argument("--words", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    pixels = (options.pixels, options.pixels)
    sizes = {
        "tiny": lambda: Beit3Config(
            image_size=pixels, width=192, depth=4, num_heads=3, feed_forward_width=768
        ),
        "base": lambda: beit3_base(image_size=pixels),
        "large": lambda: beit3_large(image_size=pixels),
    }
    torch.manual_seed(0)
    model = Beit3ForCaptioning(sizes[options.size]()).eval()
    images = torch.rand(options.batch, 3, *pixels) * 2 - 1
    config = BeamSearchConfig(num_beams=options.beams, max_tokens=options.words + 3)

    def search(step: Callable[..., tuple[Tensor, object]], memory: object) -> list[Hypothesis]:
        return beam_search(step, memory, batch_size=options.batch, bos=BOS, eos=EOS, config=config)  # type: ignore[arg-type,misc]

    def ours() -> list[Hypothesis]:
        return search(lambda memory, words: endless(*model.step(memory, words, MASK)), model.start(images))

    def released() -> list[Hypothesis]:
        # All beams of a picture are encoded, and the first word is chosen from the first of them.
        memory = model.start(images.repeat_interleave(options.beams, dim=0))

        def step(copied: Copied, words: Tensor) -> tuple[Tensor, Copied]:
            log_probabilities, after = endless(*model.step(copied.memory, words, MASK))
            return log_probabilities, Copied(after)

        return search(step, Copied(memory).select(torch.arange(0, len(memory.owners), options.beams)))

    def uncached() -> list[Hypothesis]:
        def step(written: Written, words: Tensor) -> tuple[Tensor, Written]:
            so_far = torch.cat([written.words, words[:, None]], dim=1)
            asked = torch.cat([so_far, torch.full((len(words), 1), MASK)], dim=1)
            at_mask = torch.zeros_like(asked, dtype=torch.bool)
            at_mask[:, -1] = True
            logits = model(written.images, asked, torch.zeros_like(at_mask), at_mask)
            return endless(F.log_softmax(logits, dim=-1), Written(written.images, so_far))

        return search(step, Written(images, torch.zeros(options.batch, 0, dtype=torch.int64)))

    ways = {"ours": ours, "released way": released, "no cache": uncached}
    times: dict[str, list[float]] = {name: [] for name in ways}
    texts = {}
    with torch.no_grad():
        for _ in range(options.rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                texts[name] = [hypothesis.words for hypothesis in way()]
                times[name].append(time.perf_counter() - begun)
                print(f"{name}: {times[name][-1]:.1f} s", flush=True)
    same = all(found == texts["ours"] for found in texts.values())
    print(
        f"{options.size} at {options.pixels} pixels, batch {options.batch}, beams {options.beams}, "
        f"{options.words} words"
    )
    print(f"same texts: {same}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    fastest = statistics.median(times["ours"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:13} {median:8.2f} s {median / fastest:6.2f} x ours")


def endless(log_probabilities: Tensor, memory: object) -> tuple[Tensor, object]:
    """Make the end of the text impossible, so that every text has its full length."""
    log_probabilities[:, EOS] = -torch.inf
    return log_probabilities, memory


if __name__ == "__main__":
    main()
