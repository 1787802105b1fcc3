"""The config of transformers for a BEiT-3 with one head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transformers import PretrainedConfig

from imglish.errors import CheckpointError
from imglish.hub.transformers_config import FORMAT, MODEL_TYPE, TransformersConfig, plain
from imglish.models.beit3.config import Beit3Config

# What transformers itself writes into a config or hands to one, besides its fields.
_ITS_OWN = {
    "_attn_implementation",
    "_commit_hash",
    "_name_or_path",
    "attn_implementation",
    "experts_implementation",
    "label2id",
    "model_type",
    "name_or_path",
    "num_labels",
    "torch_dtype",
    "use_cache",
}


class ImglishBeit3Config(PretrainedConfig):
    """``config.json`` of a saved folder; unknown settings are refused.

    Args:
        kind: As of `TransformersConfig`, the next ones, too.
        sizes: None has those of the released base.
        num_outputs: Answers, classes or visual tokens.
        picture_alone: Whether pictures are encoded without seeing the text.
        labels: Answers or classes; ``id2label`` follows from them.
        pictures: Range of the pictures.
        crop_share: Of the shorter side, which is seen.
        mask_id: Of the text tokenizer.
        settings: The other settings of the task.
        format_version: Of the file.
        imglish_version: What wrote it.
        others: What every config of transformers has.

    Raises:
        CheckpointError: A setting is unknown, or is none.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        *,
        kind: str = "retrieval",
        sizes: dict[str, Any] | None = None,
        num_outputs: int = 0,
        picture_alone: bool = False,
        labels: Sequence[str] = (),
        pictures: str = "model",
        crop_share: float | None = None,
        mask_id: int = -1,
        settings: dict[str, Any] | None = None,
        format_version: int = FORMAT,
        imglish_version: str = "",
        **others: Any,
    ) -> None:
        known = PretrainedConfig().to_dict().keys() | _ITS_OWN
        if unknown := sorted(others.keys() - known):
            raise CheckpointError(f"config.json: unknown settings {', '.join(unknown)}; get the model anew")
        if labels:
            others["id2label"] = dict(enumerate(labels))
            others["label2id"] = {label: number for number, label in enumerate(labels)}
        super().__init__(**others)
        self.kind = kind
        self.sizes = plain(asdict(Beit3Config())) if sizes is None else sizes
        self.num_outputs = num_outputs
        self.picture_alone = picture_alone
        self.labels = list(labels)
        self.pictures = pictures
        self.crop_share = crop_share
        self.mask_id = mask_id
        self.settings = settings or {}
        self.format_version = format_version
        self.imglish_version = imglish_version
        self.facts()

    def facts(self) -> TransformersConfig:
        """The settings as imglish has them.

        Raises:
            CheckpointError: One of them is none.
        """
        return TransformersConfig(
            kind=self.kind,
            sizes=self.sizes,
            num_outputs=self.num_outputs,
            picture_alone=self.picture_alone,
            labels=tuple(self.labels),
            pictures=self.pictures,
            crop_share=self.crop_share,
            mask_id=self.mask_id,
            settings=self.settings,
            format_version=self.format_version,
        )

    @property
    def hidden_size(self) -> int:
        """Features of a token, as transformers calls them."""
        return int(self.sizes["width"])

    @property
    def num_hidden_layers(self) -> int:
        """Blocks."""
        return int(self.sizes["depth"])

    @property
    def num_attention_heads(self) -> int:
        """Attention heads."""
        return int(self.sizes["num_heads"])

    @property
    def vocab_size(self) -> int:
        """Rows of the text embedding."""
        return int(self.sizes["vocab_size"])
