"""Where pictures and texts of a run come from, and the corpus of its text tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from imglish.data.pictures import decode_picture
from imglish.data.pretraining import PictureSource, TextSource
from imglish.data.shards import ShardSet
from imglish.data.world.questions import questions
from imglish.data.world.scene import WorldConfig
from imglish.data.world.stream import SceneStream, WorldTexts
from imglish.errors import DataFormatError
from imglish.recipes.config import FolderData, WorldStreamData

_CORPUS_SCENES = 3000


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPictures:
    """Pictures with their texts (one a line of ``txt``) in shards."""

    shards: ShardSet

    def __len__(self) -> int:
        return len(self.shards)

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W) and texts of sample ``index``."""
        record = self.shards[index]
        key = str(record["__key__"])
        for extension in ("png", "jpg", "jpeg", "webp"):
            data = record.get(extension)
            if isinstance(data, bytes):
                return decode_picture(data, f"{key}.{extension}"), _lines(record)
        raise DataFormatError(f"shard sample {key} has no picture; expected png, jpg, jpeg or webp")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTexts:
    """Documents in shards."""

    shards: ShardSet

    def __len__(self) -> int:
        return len(self.shards)

    def text(self, index: int) -> str:
        """Document ``index``."""
        return " ".join(_lines(self.shards[index]))


def pictures(data: WorldStreamData | FolderData, split: str) -> PictureSource:
    """Pictures with texts of a split, "train" or "validation"."""
    if isinstance(data, WorldStreamData):
        length = data.num_scenes if split == "train" else data.num_validation
        train = split == "train"
        return SceneStream(
            world=data.world,
            split=split,
            length=length,
            with_alt_texts=data.alt_texts and train,
            with_questions=data.questions and train,
        )
    return ShardPictures(shards=_shards(data, "pairs", split))


def texts(data: WorldStreamData | FolderData, split: str) -> TextSource:
    """Documents of a split, "train" or "validation"."""
    if isinstance(data, WorldStreamData):
        length = data.num_scenes if split == "train" else data.num_validation
        return WorldTexts(world=data.world, split=split, length=length)
    return ShardTexts(shards=_shards(data, "texts", split))


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


def _shards(data: FolderData, kind: str, split: str) -> ShardSet:
    paths = sorted((data.root / "shards").glob(f"{kind}-{split}-*.tar"))
    if not paths:
        raise DataFormatError(
            f"{data.root}/shards has no {kind}-{split}-*.tar; write the World with "
            f"`imglish world --out {data.root}`, or give another folder"
        )
    return ShardSet(paths)


def _lines(record: dict[str, bytes | str]) -> tuple[str, ...]:
    data = record.get("txt", b"")
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    return tuple(line for line in text.split("\n") if line.strip())
