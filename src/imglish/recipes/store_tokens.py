"""Writing the visual tokens of tar shards, once for all runs that read them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from imglish.data.collate import stack_images
from imglish.data.loader import Loaded, prefetch
from imglish.data.shards import ShardSet
from imglish.data.stored_tokens import (
    MOST_CODES,
    TokenDescription,
    is_stored,
    picture_check,
    write_description,
    write_tokens,
)
from imglish.data.transforms.image import ImageTransform
from imglish.errors import ConfigError, DataFormatError
from imglish.models.vqkd.frozen import FrozenTokenizer
from imglish.recipes.assembly.pretraining import describe_tokens, load_visual_tokenizer
from imglish.recipes.sources import ShardPictures
from imglish.train.distributed import join_ranks

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOptions:
    """How tokens are found.

    Args:
        tokenizer: Folder of a visual tokenizer run, ``world``, or an official tokenizer by name or as a file.
        image_size: (height, width) in pixels of the pictures as the model to come sees them; None is the
            tokenizer's own size.
        patch_size: Side in pixels of the model's patches; 0 is the tokenizer's own.
        batch_size: Pictures at once.
        num_workers: Processes that decode pictures; 0 decodes in this one.
        device: Where the tokenizer runs; ``auto`` takes a GPU where there is one.
    """

    tokenizer: str
    image_size: tuple[int, int] | None = None
    patch_size: int = 0
    batch_size: int = 64
    num_workers: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {self.batch_size}")
        for name in ("patch_size", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")


class Stored(NamedTuple):
    """What was done: pictures tokenized, pictures left out as damaged, tars that had been done before."""

    num_pictures: int
    num_damaged: int
    num_done_before: int
    description: TokenDescription


def store_tokens(
    shards: Sequence[Path],
    out: Path,
    options: StoreOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Stored:
    """Write the tokens of all pictures of some tars; tars whose tokens are there already are passed over.

    Under torchrun each process takes its share of the tars.

    Args:
        shards: Tars with pictures.
        out: The folder of the tokens.
        options: Tokenizer, sizes and device.
        progress: Told how many pictures are done, of how many.

    Raises:
        ConfigError: Two tars are the same by name and index, the sizes do not go together, or there are too
            many codes.
        DataFormatError: A tar is damaged, or the folder holds tokens of something else.
    """
    if not shards:
        raise ConfigError("no tars given; name at least one")
    tokenizer = load_visual_tokenizer(options.tokenizer)
    image_size = options.image_size or tokenizer.config.encoder.image_size
    grid_size = _grid(image_size, options.patch_size or tokenizer.config.encoder.patch_size)
    if tokenizer.config.codebook_size > MOST_CODES:
        raise ConfigError(
            f"{options.tokenizer}: has {tokenizer.config.codebook_size} codes, of which {MOST_CODES} can be "
            "stored at most; tokenize on the fly"
        )
    description = describe_tokens(options.tokenizer, tokenizer, image_size, grid_size)
    sets = [ShardSet([path]) for path in shards]  # before anything is written: all must be readable
    _check_told_apart(sets)
    write_description(out, description)
    num_pictures = num_damaged = 0
    with join_ranks(options.device) as ranks:
        mine = sets[ranks.rank :: ranks.world_size]
        left = [each for each in mine if not is_stored(out, each.tar(0))]
        total = sum(map(len, mine))
        done = total - sum(map(len, left))
        progress(done, total)
        find = FrozenTokenizer(tokenizer, grid_size)
        for shard in left:
            plan = _Pictures(shard, ImageTransform(size=image_size), options.batch_size)
            keys: list[str] = []
            checks: list[int] = []
            tokens: list[np.ndarray] = []
            damaged: list[str] = []
            for batch, skipped in prefetch(plan, 0, plan.num_batches, options.num_workers):
                keys += batch.keys
                checks += batch.checks
                damaged += skipped
                if batch.images is not None:
                    tokens.append(find(batch.images.to(ranks.device)).cpu().numpy().astype(np.uint16))
                done += len(batch.keys) + len(skipped)
                progress(done, total)
            _check_whole(shard.paths[0], keys, damaged)
            write_tokens(out, shard.tar(0), keys, checks, np.concatenate(tokens))
            num_pictures, num_damaged = num_pictures + len(keys), num_damaged + len(damaged)
    return Stored(num_pictures, num_damaged, len(mine) - len(left), description)


class _Batch(NamedTuple):
    keys: list[str]
    checks: list[int]
    images: Tensor | None  # float32 (B, 3, H, W) in [-1, 1]; None where not one picture decodes


@dataclass(frozen=True, slots=True)
class _Pictures:
    """The pictures of a tar in order, each once; damaged ones are left out and named."""

    shard: ShardSet
    transform: ImageTransform
    batch_size: int

    @property
    def num_batches(self) -> int:
        return -(-len(self.shard) // self.batch_size)

    def batch(self, micro_step: int) -> Loaded[_Batch]:
        source = ShardPictures(shards=self.shard, with_texts=False)
        rng = np.random.default_rng(0)  # asked for nothing: the transform neither crops nor flips
        keys, checks, images, skipped = [], [], [], []
        first = micro_step * self.batch_size
        for index in range(first, min(first + self.batch_size, len(self.shard))):
            try:
                sample, (picture, _) = self.shard[index], source.sample(index)
            except DataFormatError as error:
                skipped.append(str(error))
                continue
            images.append(self.transform(picture, rng))
            keys.append(str(sample["__key__"]))
            checks.append(picture_check(sample))
        return Loaded(_Batch(keys, checks, stack_images(images) if images else None), tuple(skipped))


def _check_whole(shard: Path, keys: list[str], damaged: list[str]) -> None:
    if damaged:
        log.warning("%d pictures of %s are left out; the first: %s", len(damaged), shard, damaged[0])
    if not keys:
        raise DataFormatError(f"{shard}: not one picture decodes; the first: {damaged[0]}")
    if len(set(keys)) < len(keys):
        raise DataFormatError(
            f"{shard}: two samples have one key, so their tokens could not be told apart; write the tar anew"
        )


def _check_told_apart(sets: Sequence[ShardSet]) -> None:
    """Refuse tars whose tokens would have one name."""
    names: dict[tuple[str, str], Path] = {}
    for shard in sets:
        path, mark = shard.tar(0)
        if (path.name, mark) in names:
            raise ConfigError(
                f"{names[path.name, mark]} and {path} have one name, and samples of the same sizes, so that "
                "their tokens could not be told apart; leave one out if they are the same, or write its "
                "tokens into another folder"
            )
        names[path.name, mark] = path


def _grid(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    if any(side < 1 or side % patch_size for side in image_size):
        raise ConfigError(
            f"pictures of {image_size} pixels do not divide into patches of {patch_size}; give another "
            "--image-size or --patch-size"
        )
    return image_size[0] // patch_size, image_size[1] // patch_size
