"""Tar shards in the webdataset layout with random access.

Consecutive members ``key.extension`` of one key are a sample. Where each begins and ends is known from the
index beside the tar (see `shard_index`), or from reading its headers once, so that a sample is read with a
single access to its file.
"""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from imglish.data.shard_index import index_path, is_newer, read_index, write_index
from imglish.errors import DataFormatError

# Members that are the picture of a sample; where there are several, the first of these.
PICTURE_EXTENSIONS = ("png", "jpg", "jpeg", "webp")
_BLOCK = tarfile.BLOCKSIZE
_INDEXES_KEPT = 256  # in memory, for each process; of tars of 1000 samples 16 kB each
# A name of ustar without its prefix field; longer ones would need extension headers.
_LONGEST_NAME = 100


class Tar(NamedTuple):
    """A tar, and eight hexadecimal digits that tell it from others of its name.

    The digits follow from where its samples begin and end, which its index says: no tar has to be read.
    """

    path: Path
    mark: str


class TarStore(Protocol):
    """Where tars come from that need not be on the local disk."""

    def size(self, tar: Path) -> int | None:
        """Bytes of a tar; None where they are not known."""
        ...

    def open(self, tar: Path) -> int:
        """File descriptor of a tar, for the caller to close; raises RemoteError where it can not be had."""
        ...


class ShardSet:
    """The samples of some tars, numbered in the order of the tars.

    It checks all indexes, but keeps only how many samples each tar has; where a sample lies is read from the
    index again when it is wanted. Of tars without an index it keeps 16 bytes a sample.

    Args:
        paths: The tars, uncompressed.
        store: Fetches them where they are remote; their indexes must be here.

    Raises:
        DataFormatError: There are none, or one is missing, cut short, no tar, without samples, named twice,
            or of another content than its index says.
    """

    def __init__(self, paths: Sequence[Path], store: TarStore | None = None) -> None:
        if not paths:
            raise DataFormatError("no shards given; expected at least one tar: check the path or pattern")
        self.paths, self._store = tuple(paths), store
        _check_named_once(self.paths)
        self._without_index: dict[int, NDArray[np.int64]] = {}
        self._read: dict[int, NDArray[np.int64]] = {}
        lengths, marks = [], []
        for number, path in enumerate(self.paths):
            spans = read_index(path, store.size(path)) if store else _checked_index(path)
            if spans is None:
                spans = self._without_index[number] = _index(path)
            lengths.append(len(spans))
            marks.append(zlib.crc32(spans.tobytes()))
        self._ends = np.cumsum(lengths)
        self._marks = np.array(marks, dtype=np.uint32)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, bytes | str]:
        """Read sample ``index``, from 0: its members' contents by extension, and its key under "__key__".

        Raises:
            DataFormatError: The tar has changed since the set was made.
            RemoteError: The tar is remote and can not be had.
            IndexError: There is no such sample.
        """
        number = self._number(index)
        path = self.paths[number]
        start, end = self._spans(number)[index - int(self._ends[number])].tolist()
        try:
            descriptor = self._store.open(path) if self._store else os.open(path, os.O_RDONLY)
            try:
                data = os.pread(descriptor, end - start, start)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataFormatError(
                f"{path}: cannot be read ({error.strerror}); expected the tar indexed before: put it back"
            ) from None
        if len(data) != end - start:
            raise DataFormatError(
                f"{path}: has become shorter since it was indexed: put it back, or start anew"
            )
        sample: dict[str, bytes | str] = {}
        for member in _members(io.BytesIO(data), path):
            key, extension = _split(member.name)
            if key:
                if sample.setdefault("__key__", key) != key:
                    raise DataFormatError(
                        f"{path}: its index joins the samples {sample['__key__']!r} and {key!r}; it is "
                        "stale: delete it"
                    )
                sample[extension] = data[member.data : member.data + member.size]
        return sample

    def tar(self, index: int) -> Tar:
        """The tar that holds sample ``index``; raises IndexError where there is no such sample."""
        return self._tar(self._number(index))

    def path(self, index: int) -> Path:
        """Where the tar of sample ``index`` lies; raises IndexError where there is no such sample."""
        return self.paths[self._number(index)]

    @property
    def tars(self) -> list[Tar]:
        """The tars, in order."""
        return [self._tar(number) for number in range(len(self.paths))]

    def _tar(self, number: int) -> Tar:
        return Tar(self.paths[number], f"{self._marks[number]:08x}")

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_read": {}}

    def _number(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(np.searchsorted(self._ends, index, side="right"))

    def _spans(self, number: int) -> NDArray[np.int64]:
        """Begin and end of each sample of a tar; the last ones read are kept."""
        spans = self._without_index.get(number, self._read.get(number))
        if spans is None:
            path = self.paths[number]
            spans = read_index(path, self._store.size(path) if self._store else _size(path))
            if spans is None or zlib.crc32(spans.tobytes()) != self._marks[number]:
                raise DataFormatError(
                    f"{index_path(path)}: is not the index read before: put it back, or start anew"
                )
            while len(self._read) >= _INDEXES_KEPT:
                del self._read[next(iter(self._read))]
            self._read[number] = spans
        return spans


def picture_of(sample: Mapping[str, bytes | str]) -> tuple[str, bytes] | None:
    """Extension and bytes of the picture of a sample; None where it has none."""
    for extension in PICTURE_EXTENSIONS:
        data = sample.get(extension)
        if isinstance(data, bytes):
            return extension, data
    return None


def write_shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> int:
    """Write one tar; the same samples give the same bytes.

    Args:
        path: The tar; it appears only when it is whole.
        samples: Key and contents by extension, such as ("00000012", {"png": b"...", "txt": b"..."}).

    Returns:
        The number of samples.

    Raises:
        ValueError: A key has a dot in its last part, repeats the one before or is too long for a plain tar
            header, or an extension is empty.
    """
    partial = path.with_name(f"{path.name}.partial")
    count, previous = 0, ""
    with partial.open("wb") as file:
        for key, contents in samples:
            if key == previous:
                raise ValueError(f"key {key!r} repeats: samples of one key would be read as one")
            for extension, data in contents.items():
                name = f"{key}.{extension}"
                if _split(name) != (key, extension) or len(name.encode()) > _LONGEST_NAME:
                    raise ValueError(
                        f"{name!r} is no key without dots, a dot and an extension of at most 100 bytes"
                    )
                header = tarfile.TarInfo(name)  # time, owner and group are 0
                header.size = len(data)
                file.write(header.tobuf(tarfile.USTAR_FORMAT))
                file.write(data)
                file.write(bytes(-len(data) % _BLOCK))
            count, previous = count + 1, key
        file.write(bytes(2 * _BLOCK))
    partial.replace(path)
    return count


def index_shard(path: Path) -> int:
    """Go through a tar and write its index beside it; the number of samples. Errors as in `ShardSet`."""
    spans = _index(path)
    write_index(path, spans)
    return len(spans)


class _Member(NamedTuple):
    """A file in a tar: where its (first) header, its data and the next header begin."""

    name: str
    header: int
    data: int
    size: int
    end: int


def _check_named_once(paths: Sequence[Path]) -> None:
    named: set[str] = set()
    for path in map(os.path.realpath, paths):
        if path in named:
            raise DataFormatError(
                f"{path}: the shard is named twice; expected each once, or its samples would come twice "
                "as often: leave one out"
            )
        named.add(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise DataFormatError(f"{path}: no such file; expected a tar shard: check the path") from None
    except OSError as error:
        raise DataFormatError(
            f"{path}: cannot be read ({error.strerror}); expected a tar shard: check the path"
        ) from None


def _checked_index(path: Path) -> NDArray[np.int64] | None:
    """What the index of a tar says, None where it has none; raises where the tar says something else."""
    stored = read_index(path, _size(path))
    # Rewritten, or only copied later: the tar itself tells.
    if stored is not None and is_newer(path) and not np.array_equal(_index(path), stored):
        raise DataFormatError(
            f"{path}: has other samples than its index {index_path(path).name}; the index is stale: delete it"
        )
    return stored


def _index(path: Path) -> NDArray[np.int64]:
    """Begin and end of each sample in a tar, (num_samples, 2)."""
    spans: list[tuple[int, int]] = []
    previous, extensions = "", set[str]()
    try:
        with path.open("rb") as file:
            for member in _members(file, path, whole=True):
                key, extension = _split(member.name)
                if not key:
                    continue
                if key != previous or not spans:
                    spans.append((member.header, member.end))
                    previous, extensions = key, set()
                elif extension in extensions:
                    raise DataFormatError(
                        f"{path}: sample {key!r} has two members .{extension}; expected one: write it anew"
                    )
                extensions.add(extension)
                spans[-1] = (spans[-1][0], member.end)
    except FileNotFoundError:
        raise DataFormatError(f"{path}: no such file; expected a tar shard: check the path") from None
    except OSError as error:
        raise DataFormatError(
            f"{path}: cannot be read ({error.strerror}); expected a tar shard: check the path"
        ) from None
    if not spans:
        raise DataFormatError(
            f"{path}: has no samples; expected members named key.extension: check the shard"
        )
    return np.array(spans, dtype=np.int64)


def _members(file: BinaryIO, path: Path, whole: bool = False) -> Iterator[_Member]:
    """Walk over the files in a tar, or in a piece of one that begins and ends with a sample.

    With ``whole`` the end-of-archive block must be there: without it a tar that was cut between two members
    would pass for a complete one.
    """
    size = file.seek(0, os.SEEK_END)
    position, first_header, long_name = 0, -1, ""
    while position + _BLOCK <= size:
        file.seek(position)
        block = file.read(_BLOCK)
        if block.count(0) == _BLOCK:
            return
        try:
            name, length, kind = _parse_header(block)
            data, end = position + _BLOCK, position + _BLOCK - (-length // _BLOCK) * _BLOCK
            if end > size:
                break
            if first_header < 0:
                first_header = position
            if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
                long_name = _long_name(file.read(length), kind) or long_name
            else:
                if kind in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    yield _Member(long_name or name, first_header, data, length, end)
                first_header, long_name = -1, ""
        except ValueError as error:
            raise DataFormatError(
                f"{path}: no tar header at byte {position} ({error}); expected an uncompressed tar shard: "
                "the file is damaged, compressed or no tar, get it again"
            ) from None
        position = end
    if whole or position != size:
        raise DataFormatError(
            f"{path}: is cut short at byte {size}; expected a whole tar with its end mark: get it again"
        )


def _parse_header(block: bytes) -> tuple[str, int, bytes]:
    """Name, size and type of a member; a fifth of the time that ``tarfile.TarInfo.frombuf`` takes."""
    checksum = block[148:156]
    if sum(block) - sum(checksum) + 8 * ord(" ") != int(checksum.strip(b" \0"), 8):
        raise ValueError("wrong checksum")
    # Sizes of 8 GiB and more are binary, as GNU tar writes them.
    large = block[124] & 128
    size = int.from_bytes(block[125:136]) if large else int(block[124:136].strip(b" \0") or b"0", 8)
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    return name.decode("utf-8", "surrogateescape"), size, block[156:157]


def _long_name(extension: bytes, kind: bytes) -> str:
    """The name that a GNU or pax header gives to the member after it, "" where it gives none."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return extension.rstrip(b"\0").decode("utf-8", "surrogateescape")
    while extension:
        length, _, _ = extension.partition(b" ")
        if int(length) <= len(length):
            raise ValueError(f"pax record of {int(length)} bytes")
        record, extension = extension[: int(length)], extension[int(length) :]
        keyword, _, value = record[len(length) + 1 : -1].partition(b"=")
        if keyword == b"path":
            return value.decode("utf-8", "surrogateescape")
    return ""


def _split(name: str) -> tuple[str, str]:
    """Key and extension: the first dot of the last part divides them; ("", "") where there is none."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (f"{folder}{slash}{stem}", extension.lower()) if stem and dot and extension else ("", "")
