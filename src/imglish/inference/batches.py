"""Pictures and texts as they were given, listed, paired and turned into batches of a model's own form."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from imglish.errors import ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.look import Look, Seen
from imglish.inference.pictures import Picture, open_picture, prepare
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.structures.pyramid import FeaturePyramid
from imglish.text.tokenizer import PAD, TextTokenizer

_ONE = (str, bytes, bytearray)  # what could be gone through, and is never meant so


def positive(name: str, value: int) -> int:
    """The value; raises ConfigError where it is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1; got {value!r}")
    return value


def list_texts(texts: str | Iterable[str]) -> tuple[list[str], bool]:
    """The texts as a list, and whether it was a single one; raises ConfigError for what is no text."""
    listed: list[Any] = (
        list(texts) if isinstance(texts, Iterable) and not isinstance(texts, _ONE) else [texts]
    )
    strange = [text for text in listed if not isinstance(text, str)]
    if strange:
        raise ConfigError(
            f"{reprlib.repr(strange[0])} is of type {type(strange[0]).__name__}; expected a text"
        )
    # Half characters, as names of files may have them, are no Unicode that the text tokenizer reads.
    return [text.encode("utf-8", "replace").decode() for text in listed], isinstance(texts, str)


def pair(**given: tuple[list[Any], bool]) -> tuple[list[list[Any]], bool]:
    """Bring lists to one length.

    Args:
        given: Lists by the name of the argument, each with whether it was a single value.

    Returns:
        The lists with single values repeated, and whether all were single.

    Raises:
        ConfigError: Lists differ in length.
    """
    lengths = {name: len(values) for name, (values, single) in given.items() if not single}
    if len(set(lengths.values())) > 1:
        told = " and ".join(f"{length} {name}" for name, length in lengths.items())
        raise ConfigError(f"got {told}; expected as many of each, or a single one")
    length = next(iter(lengths.values()), 1)
    return [values * length if single else values for values, single in given.values()], not lengths


class Maps(NamedTuple):
    """What an adapter has made of pictures.

    Args:
        pyramid: Their maps.
        shown: (height, width) at which they were shown.
        sizes: (height, width) of each as it is.
    """

    pyramid: FeaturePyramid
    shown: tuple[int, int]
    sizes: tuple[tuple[int, int], ...]


class Batches:
    """Batches for one model, opened and tokenized only when they are asked for.

    Args:
        run: The model and its settings.
        size: Of a batch.
        max_pixels: Larger pictures are refused.
    """

    def __init__(self, run: LoadedRun, size: int, max_pixels: int) -> None:
        self._run, self._size, self._max_pixels = run, size, max_pixels
        self._like = next(run.model.parameters())

    def images(self, pictures: list[Picture], called: str = "picture") -> Iterator[Tensor]:
        """Batches (B, 3, H, W) in the model's range; ``called`` names pictures without a path in errors."""
        for images, _ in self.sized_images(pictures, called):
            yield images

    def sized_images(
        self, pictures: list[Picture], called: str = "picture"
    ) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
        """`images`, each batch with the sizes (height, width) that its pictures had."""
        before: object = self  # no picture
        for first in range(0, len(pictures), self._size):
            prepared, sizes = [], []
            for number, picture in enumerate(pictures[first : first + self._size], first + 1):
                if picture is not before:  # many questions may be about the same one
                    image, size = self._prepared(picture, number, len(pictures), called)
                    before = picture
                prepared.append(image)
                sizes.append(size)
            yield self._on_device(prepared), sizes

    def seen(self, pictures: list[Picture], encoder: Beit3Encoder) -> Iterator[Seen]:
        """`images` with what an encoder sees of pictures alone.

        A picture that occurs several times in a batch is encoded once, and a `Look` once for all batches.
        """
        for first in range(0, len(pictures), self._size):
            batch = pictures[first : first + self._size]
            looks = [picture for picture in batch if isinstance(picture, Look)]
            known = {id(look): seen for look in looks if (seen := look.seen(encoder)) is not None}
            fresh: dict[int, tuple[Tensor, tuple[int, int]]] = {}
            for number, picture in enumerate(batch, first + 1):
                if id(picture) not in known and id(picture) not in fresh:
                    fresh[id(picture)] = self._prepared(picture, number, len(pictures), "picture")
            if fresh:
                images = self._on_device([image for image, _ in fresh.values()])
                found = Seen(images, encoder.look(images), tuple(size for _, size in fresh.values()))
                if len(fresh) == len(batch) and not looks:
                    yield found
                    continue
                known |= {identity: found.one(row) for row, identity in enumerate(fresh)}
            for look in looks:
                look.keep(encoder, known[id(look)])
            yield Seen.join([known[id(picture)] for picture in batch])

    def maps(self, pictures: list[Picture], adapter: ViTAdapter) -> Iterator[Maps]:
        """The maps that an adapter over BEiT-3 makes of what that sees; a single `Look` keeps them."""
        assert isinstance(adapter.backbone, Beit3VisionBackbone)
        for number, seen in enumerate(self.seen(pictures, adapter.backbone.encoder)):
            batch = pictures[number * self._size : (number + 1) * self._size]
            only = batch[0] if len(batch) == 1 and isinstance(batch[0], Look) else None
            pyramid = None if only is None else only.maps(adapter)
            if pyramid is None:
                pyramid = adapter(seen.images, seen.features.tokens)
            if only is not None:
                only.keep_maps(adapter, pyramid)
            yield Maps(pyramid, (seen.images.shape[-2], seen.images.shape[-1]), seen.sizes)

    def opened(self, pictures: list[Picture], called: str = "picture") -> Iterator[Tensor]:
        """The pictures as they are, uint8 (3, H, W); ``called`` as of `images`."""
        for number, picture in enumerate(pictures, start=1):
            yield self._open(picture, number, len(pictures), called)

    def _prepared(
        self, picture: Picture, number: int, count: int, called: str
    ) -> tuple[Tensor, tuple[int, int]]:
        """A picture float32 (3, H, W) as the model is shown it, and the (height, width) that it has."""
        settings = self._run.settings
        imagenet = settings.get("pictures") == "imagenet"
        crop_share = settings.get("crop_share", 1.0 if imagenet else None)
        opened = self._open(picture, number, count, called)
        image = prepare(opened, self._run.config.image_size, imagenet=imagenet, crop_share=crop_share)
        return image, (opened.shape[1], opened.shape[2])

    def _on_device(self, images: list[Tensor]) -> Tensor:
        return torch.stack(images).to(self._like.device, self._like.dtype)

    def _open(self, picture: Picture, number: int, count: int, called: str) -> Tensor:
        name = f"{called} {number}" if count > 1 else f"the {called}"
        return open_picture(picture, name, max_pixels=self._max_pixels)

    def token_ids(self, texts: Sequence[str]) -> Iterator[Tensor]:
        """Batches int64 (B, T), cut as in training and padded."""
        text, longest = text_tokenizer(self._run), self._run.settings["max_text_tokens"]
        for first in range(0, len(texts), self._size):
            batch = texts[first : first + self._size]
            ids = [torch.tensor(text.encode_for_model(words, longest)) for words in batch]
            yield nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD).to(self._like.device)


def text_tokenizer(run: LoadedRun) -> TextTokenizer:
    """The text tokenizer of weights that `Source.get` has looked at."""
    assert run.text is not None
    return run.text
