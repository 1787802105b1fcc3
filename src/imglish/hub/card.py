"""The card of a saved model: README.md, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from imglish.errors import CheckpointError
from imglish.hub.manifest import find
from imglish.hub.run import LoadedRun
from imglish.hub.transformers_config import KINDS
from imglish.models.beit3.config import Beit3Config

_DUAL = (
    "maps pictures and texts to unit vectors of one space",
    "zero-shot-image-classification",
    'predictor.match("picture.jpg", ["a red star", "a blue fish"])',
)
# What a model of a kind is for, the Hub's name of that, and how it is asked in Python.
_USES: dict[str, tuple[str, str, str]] = {
    "vqa": (
        "answers questions about a picture with one of a closed list of answers",
        "visual-question-answering",
        'predictor.answer("picture.jpg", "what colour is the star?")',
    ),
    "captioning": (
        "says in a sentence what a picture shows",
        "image-to-text",
        'predictor.caption("picture.jpg")',
    ),
    "retrieval": _DUAL,
    "contrastive": _DUAL,
    "class_names": _DUAL,
    "nlvr2": (
        "judges whether a statement about two pictures is true",
        "",
        'predictor.judge("left.jpg", "right.jpg", "both show a star")',
    ),
    "image_classification": (
        "names what a picture shows",
        "image-classification",
        'predictor.classify("picture.jpg")',
    ),
    "masked_data_modeling": (
        "predicts hidden patches and words; made to be fine-tuned",
        "",
        "",
    ),
    "semantic_segmentation": (
        "names the class of each pixel",
        "image-segmentation",
        'predictor.segment("picture.jpg")',
    ),
    "joint": (
        "does several tasks with one encoder",
        "",
        "predictor.abilities()",
    ),
    "detection": ("finds objects", "object-detection", 'predictor.detect("picture.jpg")'),
    "panoptic": (
        "cuts a picture into things and stuff",
        "image-segmentation",
        'predictor.panoptic("picture.jpg")',
    ),
}
_HUB_LICENCES = {"mit": "mit", "apache-2.0": "apache-2.0", "apache 2.0": "apache-2.0"}
_TRAINING = ("init", "optimizer", "schedule", "train")
_MOST_LABELS = 20  # named in the card


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """What a card says that weights do not; what is not known is left empty and said to be unknown.

    Args:
        name: What the model is called.
        source: Where its weights come from.
        licence: Under which they are given away.
        scores: Results by the name of their metric.
        training: Settings it was trained with.
    """

    name: str = ""
    source: str = ""
    licence: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def facts_of(source: str | Path) -> CardFacts:
    """What is known of weights by where they come from.

    Args:
        source: An official name, whose published scores and licence are known, or a run folder, which has its
            scores and settings. Of anything else only the name is known.

    Raises:
        CheckpointError: The folder's settings or scores are damaged.
    """
    file = find(str(source))
    if file is not None:
        return CardFacts(
            name=file.name,
            source=f"{file.description}; released at {file.url}",
            licence=file.licence or "",
            scores={score.metric: score.value for score in file.scores},
        )
    folder = Path(source)
    if not (folder / "config.yaml").is_file():
        return CardFacts(name=folder.name, source=str(source) if "://" in str(source) else "")
    settings = _read(folder / "config.yaml", yaml.safe_load)
    scores = _read(folder / "scores.json", json.loads) if (folder / "scores.json").is_file() else {}
    return CardFacts(
        name=folder.resolve().name,
        source="trained with imglish",
        scores={str(name): float(value) for name, value in scores.items()},
        training={name: settings[name] for name in _TRAINING if settings.get(name) not in (None, "")},
    )


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        found = parse(path.read_text(encoding="utf-8"))
        return dict(found)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}); train the run anew") from error


def write_card(run: LoadedRun, facts: CardFacts) -> str:
    """The text of a card.

    Args:
        run: What is saved.
        facts: What it does not say itself.
    """
    purpose, pipeline, asked = _USES.get(run.kind, ("", "", ""))
    front: dict[str, Any] = {"library_name": "imglish", "tags": ["imglish", "beit3", run.kind]}
    licence = _HUB_LICENCES.get(facts.licence.lower())
    if facts.licence:
        front["license"] = licence or "other"
        if licence is None:
            front["license_name"] = facts.licence
    if pipeline:
        front["pipeline_tag"] = pipeline
    millions = sum(parameter.numel() for parameter in run.model.parameters()) / 1e6
    height, width = run.config.image_size
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).rstrip(),
        "---",
        f"# {facts.name or run.kind}",
        "",
        f"A model of imglish that {purpose or 'is called ' + run.kind}.",
        "",
        f"- Task: `{run.kind}`",
        f"- Architecture: {_architecture(run)}",
        f"- Parameters: {millions:.2f} million, in `model.safetensors`",
        f"- Pictures: {height} x {width} pixels",
        f"- Licence: {facts.licence or 'not told; ask whoever made the weights'}",
        f"- Weights: {facts.source or 'nobody told where they come from'}",
        f"- Saved by imglish {version('imglish')}",
    ]
    if run.parts:
        kinds = ", ".join(f"{name} (`{part.kind}`)" for name, part in run.parts.items())
        lines.append(f"- Parts: {kinds}")
    if run.labels:
        some = ", ".join(run.labels[:_MOST_LABELS])
        more = f" and {len(run.labels) - _MOST_LABELS} more" if len(run.labels) > _MOST_LABELS else ""
        lines.append(f"- {len(run.labels)} labels: {some}{more}")
    lines += ["", "## How to use it", "", *_use(run, asked)]
    lines += ["", "## Scores", "", *_scores(facts)]
    lines += ["", "## Training settings", ""]
    if facts.training:
        lines += ["```yaml", yaml.safe_dump(_plain(facts.training), sort_keys=False).rstrip(), "```"]
    else:
        lines.append("Not told. `config.yaml` has the settings of the model and its task.")
    return "\n".join(lines) + "\n"


def _architecture(run: LoadedRun) -> str:
    config = run.config
    name = "BEiT-3" if isinstance(config, Beit3Config) else "Vision Transformer"
    return (
        f"{name} of {config.depth} blocks, width {config.width}, {config.num_heads} heads, patches of "
        f"{config.patch_size} pixels ({type(run.model).__name__})"
    )


def _use(run: LoadedRun, asked: str) -> list[str]:
    lines = ["```", "pip install imglish", "```", "", "The name is this folder's, or this repository's."]
    lines += ["", "```python"]
    if asked:
        lines += ["from imglish import Predictor", "", 'predictor = Predictor("org/name")', f"print({asked})"]
    else:
        lines += ["from imglish import load_model", "", 'run = load_model("org/name")']
    lines.append("```")
    if run.kind in KINDS and isinstance(run.config, Beit3Config):
        lines += ["", "With transformers, after `from imglish.hf.auto import register; register()`:"]
        lines += ["", "```python", "from transformers import AutoModel, AutoProcessor", ""]
        lines += ['model = AutoModel.from_pretrained("org/name")']
        lines += ['processor = AutoProcessor.from_pretrained("org/name")', "```"]
    return lines


def _scores(facts: CardFacts) -> list[str]:
    if not facts.scores:
        return ["None are known."]
    rows = [f"| {name} | {value:g} |" for name, value in facts.scores.items()]
    return ["| metric | value |", "|---|---|", *rows]


def _plain(value: Any) -> Any:
    """Settings as YAML writes them: mappings and lists only."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
