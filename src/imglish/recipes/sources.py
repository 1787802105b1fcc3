"""Where pictures and texts of a run come from, and the corpus of its text tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from imglish.data.formats.karpathy import KarpathyRecord
from imglish.data.formats.table import picture_lines
from imglish.data.mixture import MixedPictures, MixedTexts, MixedTokens, Proportions
from imglish.data.pictures import decode_picture, read_picture
from imglish.data.pretraining import PictureSource, TextSource, TokenSource
from imglish.data.remote import find_shards
from imglish.data.shards import ShardSet, picture_of
from imglish.data.stored_tokens import ShardTokens, StoredTokens
from imglish.data.world.questions import questions
from imglish.data.world.scene import WorldConfig
from imglish.data.world.stream import SceneStream, WorldTexts
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes.data_config import (
    ClassFolderData,
    DataConfig,
    FolderData,
    ShardsData,
    TableData,
    WorldStreamData,
)
from imglish.recipes.records import captioned, labelled

_CORPUS_SCENES = 3000


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPictures:
    """Pictures with their texts (one a line of ``txt``) in shards; without, where pictures alone are read."""

    shards: ShardSet
    with_texts: bool = True

    def __len__(self) -> int:
        return len(self.shards)

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W) and texts of sample ``index``.

        Raises:
            DataFormatError: The tar has changed, or the sample has no picture that decodes or no text.
        """
        record = self.shards[index]
        name = _name(self.shards, index, record)
        found = picture_of(record)
        if found is None:
            raise DataFormatError(
                f"{name}: the sample has no picture; expected a member png, jpg, jpeg or webp: write it "
                "anew, or leave it out"
            )
        texts = _lines(record, name) if self.with_texts else ()
        return decode_picture(found[1], f"{name}.{found[0]}"), texts


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTexts:
    """Documents in shards."""

    shards: ShardSet

    def __len__(self) -> int:
        return len(self.shards)

    def text(self, index: int) -> str:
        """Document ``index``.

        Raises:
            DataFormatError: The tar has changed, or the sample has no text.
        """
        record = self.shards[index]
        return " ".join(_lines(record, _name(self.shards, index, record)))


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedPictures:
    """Pictures with their captions, one file each."""

    records: Sequence[KarpathyRecord]

    def __len__(self) -> int:
        return len(self.records)

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W) and its captions."""
        record = self.records[index]
        return read_picture(record.path), tuple(sentence.text for sentence in record.sentences)


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFiles:
    """Pictures alone, one file each."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W), and no texts."""
        return read_picture(self.paths[index]), ()


def pictures_alone(data: DataConfig, split: str) -> PictureSource:
    """Pictures of a split, "train" or "validation", whatever is said of them.

    Of shards those called ``images``; where there are none, those of ``pairs``. Of class folders all classes,
    of tables every picture that they name once, else the captioned pictures.

    Raises:
        ConfigError: The data has no pictures of its own kind here.
        DataFormatError: A file is missing or damaged.
    """
    match data:
        case FolderData():
            kind = "images" if any((data.root / "shards").glob(f"images-{split}-*.tar")) else "pairs"
            return ShardPictures(shards=_shards(data, kind, split), with_texts=False)
        case ClassFolderData():
            return PictureFiles(paths=tuple(record.path for record in labelled(data, split).records))
        case TableData():
            table = data.train if split == "train" else data.validation
            return PictureFiles(paths=tuple(picture_lines(table)))
        case ShardsData():
            own = data.images if split == "train" else data.validation_images
            return _mixed_pictures(data, "images" if own else "pairs", split, with_texts=False)
        case _:
            return pictures(data, split)


def unpaired_pictures(data: DataConfig, split: str) -> PictureSource:
    """Pictures of the stream of images; errors as in `pictures`.

    Of `ShardsData` those of its own, elsewhere the captioned ones, whose texts that stream does not read.
    """
    return pictures_alone(data, split) if isinstance(data, ShardsData) else pictures(data, split)


def pictures(data: DataConfig, split: str) -> PictureSource:
    """Pictures with texts of a split, "train" or "validation".

    Raises:
        ConfigError: The data has no captioned pictures.
        DataFormatError: A file is missing or damaged.
    """
    if isinstance(data, WorldStreamData):
        length = data.num_scenes if split == "train" else data.num_validation
        train = split == "train"
        return SceneStream(
            world=data.world,
            split=split,
            length=length,
            with_alt_texts=data.alt_texts and train,
            with_questions=data.questions,
            favoured_questions=data.favoured_questions if train else (),
            with_statements=data.statements,
        )
    if isinstance(data, FolderData):
        return ShardPictures(shards=_shards(data, "pairs", split))
    if isinstance(data, ShardsData):
        return _mixed_pictures(data, "pairs", split)
    return CaptionedPictures(records=captioned(data, split))


def texts(data: DataConfig, split: str) -> TextSource:
    """Documents of a split, "train" or "validation"; errors as in `pictures`."""
    if isinstance(data, WorldStreamData):
        length = data.num_scenes if split == "train" else data.num_validation
        return WorldTexts(world=data.world, split=split, length=length)
    if isinstance(data, FolderData):
        return ShardTexts(shards=_shards(data, "texts", split))
    if isinstance(data, ShardsData):
        sets, weights = _data_sets(data, "texts", split)
        documents = [ShardTexts(shards=each) for each in sets]
        if len(documents) == 1:
            return documents[0]
        return MixedTexts(sources=documents, proportions=Proportions([*map(len, documents)], weights))
    raise ConfigError(f"data.kind {data.kind} has no texts; expected world_stream, folder or shards")


def tokens_of(pictures: PictureSource, stored: StoredTokens) -> TokenSource | None:
    """The stored tokens of pictures in shards, also of several data sets; None where not all are stored.

    Raises:
        ConfigError: The pictures are not in shards.
    """
    if isinstance(pictures, MixedPictures):
        found = [tokens_of(each, stored) for each in pictures.sources]
        each_stored = [tokens for tokens in found if tokens is not None]
        if len(each_stored) < len(found):
            return None
        return MixedTokens(sources=each_stored, proportions=pictures.proportions)
    if not isinstance(pictures, ShardPictures):
        raise ConfigError(
            "task.stored_tokens: the pictures of this data.kind are not in tar shards, which tokens are "
            "stored for; expected folder or shards, or leave stored_tokens empty"
        )
    if stored.missing(pictures.shards):
        return None
    return ShardTokens(pictures.shards, stored)


def shard_sets(pictures: PictureSource) -> list[ShardSet]:
    """The sets of tars that pictures come from; none where they are not in shards."""
    if isinstance(pictures, MixedPictures):
        return [shards for each in pictures.sources for shards in shard_sets(each)]
    return [pictures.shards] if isinstance(pictures, ShardPictures) else []


def world_corpus(world: WorldConfig) -> Iterator[str]:
    """Sentences that a text tokenizer of the World is trained on: documents, captions, questions, answers.

    SentencePiece makes a piece only of what occurs in two different words, so that "what", which no comma
    ever follows, would fall apart. Each word with a full stop after it makes it a second one.
    """
    words: set[str] = set()
    for sentence in _sentences(world):
        words.update(word.rstrip("?.,:") for word in sentence.split())
        yield sentence
    yield from (f"{word}." for word in sorted(words))


def _sentences(world: WorldConfig) -> Iterator[str]:
    scenes = SceneStream(world=world, split="train", length=_CORPUS_SCENES, with_alt_texts=True)
    documents = WorldTexts(world=world, split="train", length=_CORPUS_SCENES)
    for index in range(_CORPUS_SCENES):
        yield documents.text(index)
        scene = scenes.scene(index)
        yield from scenes.sample(index)[1][:6]
        for question in questions(scene):
            yield f"{question.text} {question.answer}"


def _mixed_pictures(data: ShardsData, stream: str, split: str, with_texts: bool = True) -> PictureSource:
    """Pictures of one data set, or of several by weight."""
    sets, weights = _data_sets(data, stream, split)
    found = [ShardPictures(shards=each, with_texts=with_texts) for each in sets]
    if len(found) == 1:
        return found[0]
    return MixedPictures(sources=found, proportions=Proportions([*map(len, found)], weights))


def _data_sets(data: ShardsData, stream: str, split: str) -> tuple[list[ShardSet], list[int]]:
    """The data sets of a stream, "images", "texts" or "pairs", and their weights."""
    name = stream if split == "train" else f"validation_{stream}"
    patterns: tuple[str, ...] = getattr(data, name)
    if not patterns:
        raise ConfigError(f"data.{name} names no shards; give a tar, a folder or a pattern")
    given: tuple[int, ...] = getattr(data, f"{stream.removesuffix('s')}_weights")
    weights = list(given) if given and split == "train" else [1] * len(patterns)
    return [_data_set(data, pattern) for pattern in patterns], weights


def _data_set(data: ShardsData, pattern: str) -> ShardSet:
    found = find_shards(pattern, data.cache, round(data.cache_gigabytes * 1e9))
    return ShardSet(_named_once(found.paths, pattern), found.store)


def _named_once(paths: list[Path], pattern: str) -> list[Path]:
    """The tars of one data set; an error where two have one name, by which stored tokens are found."""
    names: dict[str, Path] = {}
    for path in paths:
        if path.name in names:
            raise DataFormatError(
                f"{pattern}: {names[path.name]} and {path} have one name; expected a name of its own for "
                "each tar of a data set: rename one, or give the folders as data sets of their own"
            )
        names[path.name] = path
    return paths


def _shards(data: FolderData, kind: str, split: str) -> ShardSet:
    paths = sorted((data.root / "shards").glob(f"{kind}-{split}-*.tar"))
    if not paths:
        raise DataFormatError(
            f"{data.root}/shards has no {kind}-{split}-*.tar; write the World with "
            f"`imglish world --out {data.root}`, or give another folder"
        )
    return ShardSet(paths)


def _name(shards: ShardSet, index: int, record: dict[str, bytes | str]) -> str:
    """What to call a sample in errors: its tar and its key."""
    return f"{shards.path(index)}: {record['__key__']!s}"


def _lines(record: dict[str, bytes | str], name: str) -> tuple[str, ...]:
    """The texts of a sample, at least one."""
    data = record.get("txt", b"")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{name}.txt: not UTF-8 text ({error.reason} at byte {error.start}); expected one text a line: "
            "convert it to UTF-8, or leave it out"
        ) from None
    lines = tuple(line for line in text.split("\n") if line.strip())
    if not lines:
        raise DataFormatError(
            f"{name}: the sample has no text; expected a member txt with one text a line: write it anew, or "
            "leave it out"
        )
    return lines
