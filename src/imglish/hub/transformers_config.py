"""``config.json`` of a saved BEiT-3: what transformers reads of it through `imglish.hf`.

Written and checked without transformers. It tells nothing that ``config.yaml`` beside it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from imglish.errors import CheckpointError
from imglish.hub.run import LoadedRun
from imglish.models.beit3.config import Beit3Config

MODEL_TYPE = "imglish-beit3"
FORMAT = 1  # of config.json; a reader refuses what is newer than itself

# Kinds of a `LoadedRun` that are a BEiT-3 with one head.
KINDS = (
    "masked_data_modeling",
    "vqa",
    "nlvr2",
    "image_classification",
    "class_names",
    "retrieval",
    "contrastive",
    "captioning",
)
# The tensor that is as long as there are answers, classes or visual tokens.
_HEADS = {
    "masked_data_modeling": "image_head.bias",
    "vqa": "head.output.bias",
    "image_classification": "head.bias",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersConfig:
    """What makes a BEiT-3 with a head anew, and what shows it pictures and texts.

    Args:
        kind: One of `KINDS`.
        sizes: Settings of `Beit3Config` by name.
        num_outputs: Answers, classes or visual tokens that the head tells apart; 0 where it has none.
        picture_alone: As of `Beit3ForVqa` and `Beit3ForCaptioning`.
        labels: Answers or classes by number; empty where there are none.
        pictures: Range of the pictures, ``model`` or ``imagenet``.
        crop_share: As `inference.pictures.prepare` has it.
        mask_id: Id of the text tokenizer's mask token; -1 where there is no text tokenizer.
        settings: The other settings of the task.
        format_version: Of what is read; see `FORMAT`.
    """

    kind: str
    sizes: Mapping[str, Any]
    num_outputs: int = 0
    picture_alone: bool = False
    labels: tuple[str, ...] = ()
    pictures: str = "model"
    crop_share: float | None = None
    mask_id: int = -1
    settings: Mapping[str, Any]
    format_version: int = FORMAT

    def __post_init__(self) -> None:
        if self.format_version != FORMAT:
            raise CheckpointError(
                f"config.json: format_version {self.format_version}, this imglish reads {FORMAT}; install "
                "the version that wrote it"
            )
        if self.kind not in KINDS:
            raise CheckpointError(f"config.json: kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.pictures not in ("model", "imagenet"):
            raise CheckpointError(f"config.json: pictures {self.pictures!r}; expected model or imagenet")
        if self.labels and self.num_outputs and len(self.labels) != self.num_outputs:
            raise CheckpointError(
                f"config.json: names {len(self.labels)} labels, the head tells {self.num_outputs}"
            )
        self.beit3()

    def beit3(self) -> Beit3Config:
        """The sizes of the model.

        Raises:
            CheckpointError: They are those of no model.
        """
        known = {field.name for field in fields(Beit3Config)}
        if unknown := sorted(self.sizes.keys() - known):
            raise CheckpointError(f"config.json: unknown sizes {', '.join(unknown)}; expected a BEiT-3's")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.sizes.items()}
        try:
            return Beit3Config(**values)
        except (ValueError, TypeError, IndexError) as error:
            raise CheckpointError(f"config.json: sizes of no model ({error})") from error


def config_of(run: LoadedRun) -> TransformersConfig:
    """What ``config.json`` says of a model.

    Args:
        run: A BEiT-3 of a kind of `KINDS`.
    """
    assert isinstance(run.config, Beit3Config)
    head = _HEADS.get(run.kind)
    imagenet = run.settings.get("pictures") == "imagenet"
    return TransformersConfig(
        kind=run.kind,
        sizes=plain(asdict(run.config)),
        num_outputs=len(run.model.state_dict()[head]) if head else 0,
        picture_alone=bool(run.settings.get("picture_alone")),
        labels=run.labels,
        pictures="imagenet" if imagenet else "model",
        crop_share=run.settings.get("crop_share", 1.0 if imagenet else None),
        mask_id=-1 if run.text is None else run.text.mask_id,
        settings=plain(run.settings),
    )


def plain(value: Any) -> Any:
    """Settings as JSON and YAML have them: mappings, lists, numbers and texts."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
