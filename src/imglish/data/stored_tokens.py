"""Visual tokens on disk, so that pretraining need not run the tokenizer.

A folder holds ``tokens.json``, which says what the tokens are, and for each tar ``NAME.tar`` three arrays.
``NAME-MARK.keys.npy`` has the keys of its samples in byte order; in the same order ``NAME-MARK.checks.npy``
has the checksums of their pictures, uint32, and ``NAME-MARK.tokens.npy`` the tokens, uint16 (samples, N).
They are mapped, not read, so that any number of workers shares one copy. The mark tells tars of one name
apart (see `shards.Tar`), and the checksums show that tokens are of the very picture they are read with.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from imglish.data.shards import ShardSet, Tar, picture_of
from imglish.errors import DataFormatError

MOST_CODES = 1 << 16
_MOST_MAPPED = 4096  # tars whose arrays are mapped at once; a process may have 65,530 maps


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenDescription:
    """What stored tokens are.

    Args:
        tokenizer: What the tokenizer was called, for messages.
        fingerprint: Of its weights; this decides whether tokens are its own.
        codebook_size: Tokens there are.
        image_size: (height, width) in pixels that whole pictures were resized to, as the model sees them.
        grid_size: (rows, columns) of tokens of a picture.
    """

    tokenizer: str
    fingerprint: str
    codebook_size: int
    image_size: tuple[int, int]
    grid_size: tuple[int, int]

    def check_same(self, other: TokenDescription, where: Path) -> None:
        """Refuse tokens in ``where``, which are of ``other``, in place of those described here.

        Raises:
            DataFormatError: They are of another tokenizer, picture size or grid.
        """
        if self.fingerprint != other.fingerprint:
            raise DataFormatError(
                f"{where}: holds tokens of the tokenizer {other.tokenizer} (weights "
                f"{other.fingerprint[:12]}), not of {self.tokenizer} (weights {self.fingerprint[:12]}); name "
                "that tokenizer, or write the tokens anew into another folder with `imglish tokenize`"
            )
        for name in ("image_size", "grid_size"):
            if getattr(self, name) != getattr(other, name):
                raise DataFormatError(
                    f"{where}: holds tokens with {name} {getattr(other, name)}; expected "
                    f"{getattr(self, name)}: write them anew into another folder with `imglish tokenize`"
                )


class _Arrays(NamedTuple):
    keys: NDArray[np.bytes_]
    checks: NDArray[np.uint32]
    tokens: NDArray[np.uint16]


class StoredTokens:
    """The tokens in a folder, by tar and key.

    Args:
        root: The folder.

    Raises:
        DataFormatError: There is none, or it is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.description = read_description(root)
        self._arrays: dict[str, _Arrays] = {}

    def missing(self, shards: ShardSet) -> list[Tar]:
        """The tars whose tokens are not here."""
        here = set(os.listdir(self.root))
        return [tar for tar in shards.tars if not {path.name for path in _files(self.root, tar)} <= here]

    def check_complete(self, sets: Sequence[ShardSet]) -> None:
        """Refuse to start where the tokens of a tar are not here; raises DataFormatError."""
        missing = [tar for shards in sets for tar in self.missing(shards)]
        if missing:
            total = sum(len(shards.paths) for shards in sets)
            raise DataFormatError(
                f"{self.root}: has no tokens of {missing[0].path} as it is now ({len(missing)} of {total} "
                "tars are missing); write them with `imglish tokenize`, which goes on where it stopped"
            )

    def of(self, tar: Tar, key: str, check: int) -> Tensor:
        """Tokens int64 (N,) of the sample ``key`` of a tar.

        Args:
            tar: The tar.
            key: Of the sample.
            check: Of its picture, see `picture_check`.

        Raises:
            DataFormatError: They are not there, as where the picture did not decode; or they are damaged, or
                of another picture.
        """
        shard, name = tar.path, _stem(tar)
        arrays = self._arrays.get(name)
        if arrays is None:
            while len(self._arrays) >= _MOST_MAPPED:
                del self._arrays[next(iter(self._arrays))]
            arrays = self._arrays[name] = self._open(tar)
        wanted = np.bytes_(key.encode("utf-8", "surrogateescape"))
        # A longer key would have the whole array converted, and cannot be in it.
        row = len(arrays.keys) if len(wanted) > arrays.keys.itemsize else arrays.keys.searchsorted(wanted)
        if row == len(arrays.keys) or arrays.keys[row] != wanted:
            raise DataFormatError(
                f"{self.root}: has no tokens of {key!r} of {shard}; its picture did not decode, or the tar "
                "has changed since: write them anew with `imglish tokenize`"
            )
        if arrays.checks[row] != check:
            raise DataFormatError(
                f"{self.root}: its tokens of {key!r} of {shard} are of another picture; the tar has changed "
                "since, or is not the one they are of: write them anew with `imglish tokenize`"
            )
        return torch.from_numpy(arrays.tokens[row].astype(np.int64))

    def _open(self, tar: Tar) -> _Arrays:
        files = _files(self.root, tar)
        try:
            keys, checks, tokens = (np.load(path, mmap_mode="r", allow_pickle=False) for path in files)
        except (OSError, ValueError) as error:
            raise DataFormatError(
                f"{files[2]}: cannot be read ({error}); delete it and write it anew with `imglish tokenize`"
            ) from None
        rows, columns = self.description.grid_size
        fit = keys.dtype.kind == "S" and checks.dtype == np.uint32 and checks.shape == keys.shape
        if not fit or tokens.dtype != np.uint16 or tokens.shape != (len(keys), rows * columns):
            raise DataFormatError(
                f"{files[2]}: has {tokens.dtype} {tokens.shape} for {len(keys)} keys; expected uint16 "
                f"{(len(keys), rows * columns)}: delete it and write it anew with `imglish tokenize`"
            )
        return _Arrays(np.asarray(keys), np.asarray(checks), np.asarray(tokens))

    def __getstate__(self) -> dict[str, object]:
        return {"root": self.root, "description": self.description, "_arrays": {}}  # a worker maps them anew


@dataclass(frozen=True, slots=True)
class ShardTokens:
    """The stored tokens of the samples of a shard set."""

    shards: ShardSet
    stored: StoredTokens

    def tokens(self, index: int) -> Tensor:
        """Tokens int64 (N,) of sample ``index``; errors as of `StoredTokens.of`."""
        sample = self.shards[index]
        return self.stored.of(self.shards.tar(index), str(sample["__key__"]), picture_check(sample))


def picture_check(sample: Mapping[str, bytes | str]) -> int:
    """Checksum, CRC-32, of the encoded picture of a sample; 0 where it has none."""
    found = picture_of(sample)
    return zlib.crc32(found[1]) if found else 0


def is_stored(root: Path, tar: Tar) -> bool:
    """True where all tokens of a tar are in the folder."""
    return all(path.is_file() for path in _files(root, tar))


def write_tokens(
    root: Path, tar: Tar, keys: Sequence[str], checks: Sequence[int], tokens: NDArray[np.uint16]
) -> None:
    """Write the tokens of a tar; they appear whole or not at all.

    Args:
        root: The folder.
        tar: The tar.
        keys: Of its samples, each once.
        checks: Of the samples' pictures, see `picture_check`.
        tokens: uint16 (samples, N).
    """
    names = np.array([key.encode("utf-8", "surrogateescape") for key in keys], dtype=np.bytes_)
    order = names.argsort()
    # The tokens come last: where they are, all is there.
    in_order = np.array(checks, dtype=np.uint32)[order]
    arrays: tuple[NDArray[np.generic], ...] = (names[order], in_order, tokens[order])
    for path, array in zip(_files(root, tar), arrays, strict=True):
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)


def write_description(root: Path, description: TokenDescription) -> None:
    """Make the folder and say what is to be in it; nothing where the same is said already.

    Raises:
        DataFormatError: It holds tokens of something else.
    """
    path = root / "tokens.json"
    if path.is_file():
        description.check_same(read_description(root), root)
        return
    root.mkdir(parents=True, exist_ok=True)
    partial = root / f"tokens.json.{os.getpid()}.partial"  # several processes may begin at once
    partial.write_text(json.dumps(asdict(description), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_description(root: Path) -> TokenDescription:
    """What the tokens in a folder are; raises DataFormatError where there are none."""
    path = root / "tokens.json"
    try:
        return TypeAdapter(TokenDescription).validate_json(path.read_bytes())
    except OSError:
        raise DataFormatError(
            f"{root}: has no tokens.json; expected a folder that `imglish tokenize` wrote: check the path"
        ) from None
    except ValidationError as error:
        raise DataFormatError(
            f"{path}: is damaged ({error.errors()[0]['msg']}); write the tokens anew with `imglish tokenize`"
        ) from None


def _files(root: Path, tar: Tar) -> tuple[Path, Path, Path]:
    name = _stem(tar)
    return root / f"{name}.keys.npy", root / f"{name}.checks.npy", root / f"{name}.tokens.npy"


def _stem(tar: Tar) -> str:
    return f"{tar.path.name.removesuffix('.tar')}-{tar.mark}"
