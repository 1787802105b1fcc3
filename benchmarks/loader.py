"""How many samples a second one core makes ready for each stream of masked data modelling.

    python benchmarks/loader.py [--scenes 500] [--pixels 224] [--source 512] [--seconds 10]

Packs pictures, documents and pairs that are drawn into indexed shards, and makes samples of them in this one
process with one thread: read, decode, resize and crop, tokenize, mask. The pictures are the World's, enlarged
to ``--source`` pixels and stored as JPEG, as pictures from the web are.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from imglish.data.loader import Source
from imglish.data.pretraining import ImageStream, PairStream, TextStream, WordMasking
from imglish.data.shards import ShardSet, index_shard, write_shard
from imglish.data.transforms.image import ImageTransform
from imglish.data.world.scene import WorldConfig
from imglish.data.world.stream import SceneStream, WorldTexts
from imglish.ops.block_masking import BlockMasking
from imglish.recipes.sources import ShardPictures, ShardTexts
from imglish.text.training import train_tokenizer


def write(folder: Path, scenes: int, source: int) -> ShardSet:
    stream = SceneStream(world=WorldConfig(), split="train", length=scenes)
    texts = WorldTexts(world=WorldConfig(), split="train", length=scenes)

    def samples():  # type: ignore[no-untyped-def]
        for index in range(scenes):
            pixels, captions = stream.sample(index)
            buffer = io.BytesIO()
            picture = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((source, source * 3 // 4))
            picture.save(buffer, "JPEG", quality=90)
            document = " ".join(captions) + " " + texts.text(index)
            yield f"{index:08d}", {"jpg": buffer.getvalue(), "txt": document.encode()}

    path = folder / "pairs-000000.tar"
    write_shard(path, samples())
    index_shard(path)
    return ShardSet([path])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in {"scenes": 500, "pixels": 224, "source": 512, "seconds": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shards = write(Path(folder), arguments.scenes, arguments.source)
        documents = ShardTexts(shards=shards)
        lines = [documents.text(index) for index in range(min(200, len(shards)))]
        tokenizer = train_tokenizer(lines, Path(folder, "text.spm"), vocab_size=200)
        size, grid = (arguments.pixels,) * 2, (arguments.pixels // 16,) * 2
        mask = BlockMasking(grid_size=grid, num_masked=round(0.4 * grid[0] * grid[1]), min_block=16)
        words = WordMasking(tokenizer=tokenizer, share=0.15, max_tokens=512)
        pictures = ShardPictures(shards=shards)
        crop = ImageTransform(size=size, crop_scale=0.5, flip=0.5)
        streams = {
            "images": ImageStream(source=pictures, transform=crop, draw_mask=mask),
            "texts": TextStream(source=documents, masking=words),
            "texts, packed to 512": TextStream(source=documents, masking=words, packed=True),
            "pairs": PairStream(
                source=pictures, transform=ImageTransform(size=size), draw_mask=mask, masking=words
            ),
        }
        for name, stream in streams.items():
            source = Source(dataset=stream, per_rank=16, seed=0)
            source.samples(0, 0, 1)
            begun, cpu, count = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - begun < arguments.seconds:
                count += len(source.samples(1 + count // 16, 0, 1)[0])
            busy = time.process_time() - cpu
            print(f"{name:22} {count / busy:8.0f} samples per second of one core ({busy:.1f} s of it)")


if __name__ == "__main__":
    main()
