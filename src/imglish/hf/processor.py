"""Pictures and texts for a BEiT-3 of transformers, prepared as imglish prepares them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import BatchFeature, ProcessorMixin
from transformers.utils.hub import cached_file

from imglish.errors import ConfigError
from imglish.hf.configuration import ImglishBeit3Config
from imglish.inference.pictures import Picture, Pictures, list_pictures, open_picture, prepare
from imglish.text.tokenizer import PAD, TextTokenizer

_TEXT = "text.spm"
_HUB = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")
_AUTO = ("_from_auto", "trust_remote_code")  # what AutoProcessor adds, for classes that run code of the Hub


class ImglishBeit3Processor(ProcessorMixin):
    """Prepare pictures and texts, and read words back.

    Args:
        config: Of the model.
        text: Its text tokenizer; None where it reads no text.
    """

    def __init__(self, config: ImglishBeit3Config, text: TextTokenizer | None = None) -> None:
        self.config, self.text = config, text
        self.chat_template = None

    def __call__(
        self,
        images: Pictures | Sequence[tuple[Picture, Picture]] | None = None,
        text: str | Sequence[str] | None = None,
        *,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Make a batch.

        Args:
            images: One picture or several, as of `Predictor`; of a judge of statements pairs of them.
            text: One text or several; longer ones are cut as in training.
            return_tensors: ``pt``; there is no other.

        Returns:
            ``pixel_values`` float32 (B, 3, H, W), of pairs (B, 2, 3, H, W); ``input_ids`` int64 (B, T) and
            ``attention_mask`` int64 (B, T), 1 where there is a word and 0 where padded.

        Raises:
            ConfigError: Neither is given, the model reads no text, or other tensors are asked for.
            DataFormatError: A picture is damaged.
        """
        if return_tensors != "pt":
            raise ConfigError(f"return_tensors is {return_tensors!r}; expected 'pt'")
        if images is None and text is None:
            raise ConfigError("nothing to prepare; give images, text, or both")
        made: dict[str, Tensor] = {}
        if images is not None:
            made["pixel_values"] = self._pictures(images)
        if text is not None:
            made["input_ids"] = self._token_ids([text] if isinstance(text, str) else list(text))
            made["attention_mask"] = (made["input_ids"] != PAD).long()
        return BatchFeature(made)

    def _pictures(self, images: Pictures | Sequence[tuple[Picture, Picture]]) -> Tensor:
        if self.config.kind == "nlvr2":
            pairs = cast(Sequence[tuple[Picture, Picture]], images)
            return torch.stack([torch.stack([self._picture(one) for one in pair]) for pair in pairs])
        listed, _ = list_pictures(cast(Pictures, images))
        return torch.stack([self._picture(picture) for picture in listed])

    def _picture(self, picture: Picture) -> Tensor:
        config = self.config
        height, width = config.sizes["image_size"]
        return prepare(
            open_picture(picture),
            (height, width),
            imagenet=config.pictures == "imagenet",
            crop_share=config.crop_share,
        )

    def _token_ids(self, texts: list[str]) -> Tensor:
        tokenizer, longest = self._tokenizer(), self.config.settings["max_text_tokens"]
        ids = [torch.tensor(tokenizer.encode_for_model(words, longest)) for words in texts]
        return nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)

    def _tokenizer(self) -> TextTokenizer:
        if self.text is None:
            raise ConfigError(f"the model came without {_TEXT}, its text tokenizer; put it into the folder")
        return self.text

    def decode(self, token_ids: Tensor | Sequence[int]) -> str:
        """The text of ids, special ones left out."""
        ids = token_ids.tolist() if isinstance(token_ids, Tensor) else token_ids
        return self._tokenizer().decode(ids)

    def batch_decode(self, token_ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids."""
        return [self.decode(row) for row in token_ids]

    @property
    def model_input_names(self) -> list[str]:
        """What a batch may hold."""
        return ["pixel_values", "input_ids", "attention_mask"]

    def to_dict(self) -> dict[str, Any]:
        """What is to be seen of it."""
        return {"processor_class": type(self).__name__, "config": self.config.to_dict()}

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **options: Any
    ) -> list[str]:
        """Write ``config.json`` and the text tokenizer; returns their paths.

        Raises:
            ConfigError: An option is given, or it shall be pushed.
        """
        if push_to_hub or options:
            raise ConfigError("processors are saved to folders only; push the model's folder as a whole")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder)
        written = [str(folder / "config.json")]
        if self.text is not None:
            (folder / _TEXT).write_bytes(self.text.serialized)
            written.append(str(folder / _TEXT))
        return written

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the options are taken by name only
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> ImglishBeit3Processor:
        """Load one from a folder or a repository of the Hub.

        Args:
            pretrained_model_name_or_path: The folder, or ``org/name``.
            options: Those of huggingface_hub: ``revision``, ``token``, ``cache_dir`` and the like.

        Raises:
            ConfigError: An option is unknown.
            CheckpointError: The config is damaged.
            DataFormatError: The text tokenizer is damaged.
        """
        if unknown := sorted(options.keys() - {*_HUB, *_AUTO}):
            raise ConfigError(f"unknown options {', '.join(unknown)}; expected some of {', '.join(_HUB)}")
        hub = {name: value for name, value in options.items() if name in _HUB}
        config = ImglishBeit3Config.from_pretrained(pretrained_model_name_or_path, **hub)
        path = cached_file(
            pretrained_model_name_or_path, _TEXT, _raise_exceptions_for_missing_entries=False, **hub
        )
        return cls(config, None if path is None else TextTokenizer(path))
