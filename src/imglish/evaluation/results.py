"""What a demo run found out: the numbers and pictures that its report shows.

Shares lie in [0, 1]; times are seconds. "Pretrained" is the model that started from the embedded weights,
"scratch" the same model that started from nothing and took the same steps. None means not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Half = Literal["nothing", "weights"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where and with what the run was made; memory_gb is the main memory in GiB."""

    processor: str
    cores: int
    memory_gb: float
    device: str
    precision: str
    python: str
    torch: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One line of a chart: points of (step, value), steps ascending."""

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One leg of the run.

    Args:
        name: Title in a few words.
        half: "nothing" for half (a), which starts from nothing; "weights" for half (b).
        purpose: One sentence on what it learns.
        seconds: Wall time.
        steps: Optimiser updates.
        samples: Samples seen, repeats included.
        status: "finished" at its full length, "shortened" to fit the time, "resumed" after an interruption.
        curves: What fell or rose meanwhile; none for a leg whose curve stands in another's chart.
        y_label: What the curves measure.
    """

    name: str
    half: Half
    purpose: str
    seconds: float
    steps: int
    samples: int
    status: Literal["finished", "shortened", "resumed"]
    curves: tuple[Curve, ...]
    y_label: str = "loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class Codebook:
    """State of the visual tokenizer: codes, the share of them in use, and the perplexity of their use."""

    size: int
    usage: float
    perplexity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedAccuracy:
    """How often hidden tokens are named, against always naming the most frequent token.

    Args:
        name: Stream and kind of token, such as "pairs: words".
        accuracy: Share of hidden tokens predicted rightly.
        unigram: The share that the most frequent token alone gets.
        count: Hidden tokens that were scored.
    """

    name: str
    accuracy: float
    unigram: float
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One metric of one task, higher being better.

    Args:
        name: Metric in words, such as "text to picture, R@1 of 500".
        pretrained: Value of the model that half (b) starts from the embedded weights, or in half (a) of the
            model just trained.
        scratch: Value from scratch at equal steps.
        chance: Value of a guess.
        no_picture: Value of the best answerer that does not look at the picture.
        target: What the run is meant to reach.
        target_note: Where the target comes from, such as "25 points above question-only".
        unit: "share" for values in [0, 1], "number" for others.
    """

    name: str
    pretrained: float
    scratch: float | None = None
    chance: float | None = None
    no_picture: float | None = None
    target: float | None = None
    target_note: str = ""
    unit: Literal["share", "number"] = "share"


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionKind:
    """VQA accuracy on one kind of question; ``prior`` is that of its commonest answer."""

    name: str
    count: int
    prior: float
    pretrained: float
    scratch: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """IoU of one class of the semantic map; None where the class never occurs."""

    name: str
    group: Literal["thing", "stuff"]
    pretrained: float | None
    scratch: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """What one task came to.

    Args:
        name: Title.
        half: Which half of the run it belongs to.
        how: One sentence on how it was trained and scored.
        scores: The first is the headline.
        question_kinds: VQA kind by kind.
        classes: Segmentation class by class.
    """

    name: str
    half: Half
    how: str
    scores: tuple[Score, ...]
    question_kinds: tuple[QuestionKind, ...] = ()
    classes: tuple[ClassScore, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture as base64 text of a PNG file, with its label."""

    png: str
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """One word of a masked text; ``guess`` is what the model put in its place, None if it was not hidden."""

    text: str
    guess: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedExample:
    """A pair with hidden parts: pictures (whole, hidden, predicted tokens, true tokens) and its words.

    ``right`` of ``hidden`` patches were predicted rightly.
    """

    pictures: tuple[Picture, ...]
    words: tuple[Word, ...]
    right: int
    hidden: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer and the probability the model gives it."""

    text: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VqaExample:
    """A question about a picture, the true answer, and the model's best answers, best first."""

    picture: Picture
    question: str
    truth: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StatementExample:
    """A statement about two pictures, whether it is true, and how probable the model finds that."""

    left: Picture
    right: Picture
    statement: str
    truth: bool
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """One retrieved picture: its similarity to the query, and whether it is the right one."""

    picture: Picture
    similarity: float
    right: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchExample:
    """A text, the best pictures for it, best first, and the rank (from 1) of the right one."""

    query: str
    matches: tuple[Match, ...]
    rank: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionExample:
    """A caption beside the truth; ``named`` of ``things`` have their shape and colour named rightly."""

    picture: Picture
    caption: str
    truth: str
    named: int
    things: int
    scratch: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationExample:
    """A picture, its true class map and the predicted one, with the IoU averaged over the classes present."""

    picture: Picture
    truth: Picture
    prediction: Picture
    mean_iou: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionExample:
    """A picture with its true objects drawn, and with those found.

    ``right`` of the ``things`` were found, by the right name and with an IoU of at least a half; ``found`` is
    how many objects were named in all.
    """

    truth: Picture
    prediction: Picture
    right: int
    things: int
    found: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """The pictures of the report: the first samples of the validation split, not chosen by how they came out.

    ``class_colours`` has a colour like "#1f77b4" for each class of the maps.
    """

    masked: tuple[MaskedExample, ...] = ()
    vqa: tuple[VqaExample, ...] = ()
    statements: tuple[StatementExample, ...] = ()
    search: tuple[SearchExample, ...] = ()
    captions: tuple[CaptionExample, ...] = ()
    segmentation: tuple[SegmentationExample, ...] = ()
    detection: tuple[DetectionExample, ...] = ()
    class_colours: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoResults:
    """Everything the report shows.

    Args:
        command: The command line that makes the run again.
        date: Day of the run, such as "2026-11-21".
        commit: Commit of the code, or the version of the installed package.
        seed: Seed of the run.
        seconds: Wall time of the whole run, resumed parts included.
        settings: What the run was set to, from name (without dots) to value as text.
        machine: Where it ran.
        stages: In the order they ran.
        codebook: Of the visual tokenizer that half (a) trained.
        masked: Masked-token accuracies of half (a).
        tasks: Of both halves.
        gallery: Pictures.
    """

    command: str
    date: str
    commit: str
    seed: int
    seconds: float
    settings: dict[str, str]
    machine: Machine
    stages: tuple[Stage, ...]
    codebook: Codebook | None
    masked: tuple[MaskedAccuracy, ...]
    tasks: tuple[TaskResult, ...]
    gallery: Gallery = Gallery()
