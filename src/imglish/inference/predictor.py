"""Pictures and words in, plain Python out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.decoding.beam_search import BeamSearchConfig, beam_search
from imglish.decoding.masks import class_scores
from imglish.errors import ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.batches import Batches, list_texts, pair, positive, text_tokenizer
from imglish.inference.class_map import largest_at_size
from imglish.inference.class_names import choose_classes, write_prompts
from imglish.inference.computing import DTYPES, Precision, computing
from imglish.inference.detection import (
    Detected,
    Panoptic,
    detect_picture,
    detect_seen,
    panoptic_picture,
    plain_objects,
    shown_views,
)
from imglish.inference.look import Look
from imglish.inference.pictures import MAX_PIXELS, Picture, Pictures, list_pictures, open_picture
from imglish.inference.segmentation import Segmentation, segment_picture, segment_seen, shown_pictures
from imglish.inference.sources import (
    ABILITIES,
    ANSWERS,
    CAPTIONS,
    DUAL,
    OBJECTS,
    PANOPTIC,
    PICTURE_VECTORS,
    SEGMENTS,
    STATEMENTS,
    Source,
)
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.models.vit.model import ViTForClassification
from imglish.text.tokenizer import BOS, EOS, PAD

Vectors = NDArray[np.float32]
M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")
TopK = torch.return_types.topk


class Answer(NamedTuple):
    """An answer and its probability (each answer is judged alone, so they need not sum to one)."""

    text: str
    probability: float


class Label(NamedTuple):
    """A class and its probability among all of them."""

    name: str
    probability: float


class Match(NamedTuple):
    """A picture by its number and its cosine similarity to the query."""

    number: int
    similarity: float


class Predictor:
    """Everything that BEiT-3 answers, with weights of any origin, and the classes of BEiT and BEiT v2.

    `caption` pictures, `answer` questions about them, `classify` them (the classes of training, or names of
    your own), `embed_images` and `embed_texts` as vectors, `match` and `search` pictures by texts, `judge`
    statements about two of them, `segment` them, `detect` objects in them, and cut them into `panoptic`
    segments.

    Methods take one picture and return one plain result, or take a sequence and return as many. A picture is
    a path, encoded bytes, a PIL image, a NumPy array uint8 (H, W, 3) or (H, W), a tensor uint8 (3, H, W), or
    what `look` returned; kinds and sizes may differ within a call. Texts longer than those of training are
    cut as there; an empty text is one without words.

    Each method needs weights that were trained for it. It raises `CheckpointError` where the source has none,
    `DataFormatError` where a picture cannot be used, and `ConfigError` where arguments do not fit together.

    Args:
        source: A name of `list_models` (``world`` ships in the package), a ``.pth`` or ``.safetensors`` file,
            a run folder, a folder of several runs such as the demo's, the id of a Hugging Face Hub
            repository, or what `load_model` returned.
        device: Where the models compute; what is loaded already stays where it is.
        batch_size: How many pictures or texts are computed at once.
        max_pixels: Larger pictures are refused, files among them before they are decoded.
        precision: Of matrix products and convolutions; weights stay in fp32.
        compiled: True compiles blocks when they are first run, which takes minutes and, on CPUs, a compiler.

    Raises:
        CheckpointError: There is no such source, or its weights are damaged.
        ConfigError: A number is not positive, or there is no such precision.
    """

    def __init__(
        self,
        source: Path | str | LoadedRun,
        device: torch.device | str = "cpu",
        *,
        batch_size: int = 16,
        max_pixels: int = MAX_PIXELS,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        if precision not in DTYPES:
            raise ConfigError(f"precision must be one of {', '.join(DTYPES)}; got {precision!r}")
        self._batch_size = positive("batch_size", batch_size)
        self._max_pixels = positive("max_pixels", max_pixels)
        self._source = Source(source, device, compiled=compiled)
        self.precision, self.device_type = precision, self._source.device.type
        self._named: tuple[tuple[tuple[str, ...], ...], Tensor] | None = None  # the last zero-shot classes

    @property
    def name(self) -> str:
        """What the source is called."""
        return self._source.name

    def abilities(self) -> tuple[str, ...]:
        """What the weights can do, found out without loading all of them.

        Returns:
            Some of caption, answer, classify (trained classes), classify_by_names, embed (`embed_images`,
            `embed_texts`, `match`, `search`), judge, segment, detect, panoptic.
        """
        return tuple(name for name, use in ABILITIES.items() if self._source.offers(use))

    # mypy warns below that a path, being a str, could also be a sequence of paths; it is never taken as one.
    @overload
    def look(self, pictures: Picture) -> Look: ...  # type: ignore[overload-overlap]
    @overload
    def look(self, pictures: Sequence[Picture]) -> list[Look]: ...
    def look(self, pictures: Pictures) -> Look | list[Look]:
        """Open pictures once, to ask several things about them.

        A `Look` is taken wherever a picture is. What an encoder sees of it, it sees once: captions, answers,
        classes, vectors, class maps and objects of a joint model share it.
        """
        listed, single = list_pictures(pictures)
        looks = [
            open_picture(
                picture,
                f"picture {number}" if len(listed) > 1 else "the picture",
                max_pixels=self._max_pixels,
            )
            for number, picture in enumerate(listed, start=1)
        ]
        return _one_or_all([Look(image) for image in looks], single)

    @overload
    def caption(self, pictures: Picture) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def caption(self, pictures: Sequence[Picture]) -> list[str]: ...
    @computing
    def caption(self, pictures: Pictures) -> str | list[str]:
        """Say in a sentence what is to be seen."""
        run = self._source.get(CAPTIONS)
        model, text = _model(run, Beit3ForCaptioning), text_tokenizer(run)
        listed, single = list_pictures(pictures)
        config = BeamSearchConfig(
            num_beams=run.settings["num_beams"],
            max_tokens=run.settings["max_text_tokens"],
            length_penalty=run.settings["length_penalty"],
        )
        batches, captions = self._batches(run), []
        if model.picture_alone:
            starts = (model.remember(seen.features) for seen in batches.seen(listed, model.encoder))
        else:
            starts = (model.start(images) for images in batches.images(listed))
        for memory in starts:
            found = beam_search(
                lambda memory, words: model.step(memory, words, text.mask_id),
                memory,
                batch_size=len(memory.owners),
                bos=BOS,
                eos=EOS,
                config=config,
                device=memory.owners.device,
            )
            captions += [text.decode(hypothesis.words) for hypothesis in found]
        return _one_or_all(captions, single)

    @overload
    def answer(self, pictures: Picture, questions: str, num_answers: int = 3) -> list[Answer]: ...  # type: ignore[overload-overlap]
    @overload
    def answer(
        self, pictures: Pictures, questions: str | Sequence[str], num_answers: int = 3
    ) -> list[list[Answer]]: ...
    @computing
    def answer(
        self, pictures: Pictures, questions: str | Sequence[str], num_answers: int = 3
    ) -> list[Answer] | list[list[Answer]]:
        """The most probable answers to questions, best first.

        Args:
            pictures: One or several.
            questions: One for each picture; a single one is asked about every picture, and a single picture
                is asked every question.
            num_answers: How many answers, at most.
        """
        run = self._source.get(ANSWERS)
        model = _model(run, Beit3ForVqa)
        num_best = min(positive("num_answers", num_answers), len(run.labels))
        (listed, asked), single = pair(pictures=list_pictures(pictures), questions=list_texts(questions))
        batches = self._batches(run)
        texts = batches.token_ids(asked)
        if model.picture_alone:
            looks = zip(batches.seen(listed, model.encoder), texts, strict=True)
            logits = [model.answer(seen.features, ids, ids == PAD) for seen, ids in looks]
        else:
            every = zip(batches.images(listed), texts, strict=True)
            logits = [model(images, ids, ids == PAD) for images, ids in every]
        best = [batch.float().sigmoid().topk(num_best) for batch in logits]
        return _one_or_all(_named(Answer, run.labels, best), single)

    @overload
    def classify(  # type: ignore[overload-overlap]
        self,
        pictures: Picture,
        classes: Sequence[str] | None = None,
        num_classes: int = 5,
        *,
        prompts: Sequence[str] | None = None,
    ) -> list[Label]: ...
    @overload
    def classify(
        self,
        pictures: Sequence[Picture],
        classes: Sequence[str] | None = None,
        num_classes: int = 5,
        *,
        prompts: Sequence[str] | None = None,
    ) -> list[list[Label]]: ...
    @computing
    def classify(
        self,
        pictures: Pictures,
        classes: Sequence[str] | None = None,
        num_classes: int = 5,
        *,
        prompts: Sequence[str] | None = None,
    ) -> list[Label] | list[list[Label]]:
        """The most probable classes, best first.

        Args:
            pictures: One or several.
            classes: Names of your own, among which a dual encoder chooses without training; None takes the
                classes that a classifier was trained for.
            num_classes: How many classes, at most.
            prompts: What the dual encoder reads of a class: ``{name}`` (or ``{}``) is its name. The vectors
                of several prompts are averaged. None takes the prompt of training where there was one, else
                the bare name and "a photo of a {name}."
        """
        num_best = positive("num_classes", num_classes)
        if classes is None and prompts is not None:
            raise ConfigError("prompts are for classes of your own; give classes as well")
        run, names = choose_classes(self._source, classes)
        listed, single = list_pictures(pictures)
        batches = self._batches(run)
        if isinstance(run.model, Beit3ForImageClassification):
            looks = batches.seen(listed, run.model.encoder)
            logits = [run.model.classify(seen.features).float() for seen in looks]
        elif isinstance(run.model, ViTForClassification):
            logits = [run.model(images).float() for images in batches.images(listed)]
        else:
            vectors = self._encode_classes(write_prompts(names, prompts, run), run)
            scale = _model(run, Beit3ForRetrieval).logit_scale.exp()
            logits = [(scale * self._encode_images(listed, run) @ vectors.T).float()]
        best = [batch.softmax(dim=1).topk(min(num_best, len(names))) for batch in logits]
        return _one_or_all(_named(Label, names, best), single)

    @computing
    def embed_images(self, pictures: Pictures) -> Vectors:
        """Unit vectors of the dual encoder: (C,) of one picture, (B, C) of several."""
        run = self._source.get(PICTURE_VECTORS)
        listed, single = list_pictures(pictures)
        vectors = _numpy(self._encode_images(listed, run))
        return vectors[0] if single else vectors

    @computing
    def embed_texts(self, texts: str | Sequence[str]) -> Vectors:
        """Unit vectors in the space of `embed_images`: (C,) of one text, (B, C) of several."""
        run = self._source.get(DUAL)
        listed, single = list_texts(texts)
        vectors = _numpy(self._encode_texts(listed, run))
        return vectors[0] if single else vectors

    def dual_encoder(self) -> LoadedRun:
        """The weights behind `embed_images`, which a search index knows its model by."""
        return self._source.get(PICTURE_VECTORS)

    @computing
    def match(self, pictures: Pictures, texts: str | Sequence[str]) -> Vectors:
        """Cosines in [-1, 1] of every picture with every text.

        Returns:
            (pictures, texts); a side that is a single picture or text has no dimension.
        """
        vision, text = self.embed_images(pictures), self.embed_texts(texts)
        cosines: Vectors = np.asarray(np.clip(vision @ text.T, -1, 1), dtype=np.float32)
        return cosines

    @computing
    def search(self, pictures: Pictures, query: str, num_matches: int = 5) -> list[Match]:
        """The pictures that a text describes best, best first."""
        num_best = positive("num_matches", num_matches)
        if not isinstance(query, str):
            raise ConfigError(f"query is of type {type(query).__name__}; expected one text")
        cosines = np.atleast_1d(self.match(pictures, query))
        order = np.argsort(-cosines, kind="stable")[:num_best]
        return [Match(int(number), float(cosines[number])) for number in order]

    @overload
    def judge(self, left: Picture, right: Picture, statements: str) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def judge(self, left: Pictures, right: Pictures, statements: str | Sequence[str]) -> list[float]: ...
    @computing
    def judge(self, left: Pictures, right: Pictures, statements: str | Sequence[str]) -> float | list[float]:
        """The probability that a statement about two pictures is true.

        Args:
            left: The left picture, or several.
            right: The right picture of each.
            statements: One for each pair; whatever is single goes with all of the others.
        """
        run = self._source.get(STATEMENTS)
        model = _model(run, Beit3ForNlvr2)
        (lefts, rights, said), single = pair(
            left=list_pictures(left), right=list_pictures(right), statements=list_texts(statements)
        )
        batches = self._batches(run)
        every = zip(
            batches.images(lefts, "left picture"),
            batches.images(rights, "right picture"),
            batches.token_ids(said),
            strict=True,
        )
        true = [model(*images, ids, ids == PAD).float().softmax(dim=1)[:, 1] for *images, ids in every]
        return _one_or_all([probability for batch in true for probability in batch.tolist()], single)

    @overload
    def segment(  # type: ignore[overload-overlap]
        self, pictures: Picture, *, scales: Sequence[float] | None = None, flip: bool | None = None
    ) -> Segmentation: ...
    @overload
    def segment(
        self, pictures: Sequence[Picture], *, scales: Sequence[float] | None = None, flip: bool | None = None
    ) -> list[Segmentation]: ...
    @computing
    def segment(
        self, pictures: Pictures, *, scales: Sequence[float] | None = None, flip: bool | None = None
    ) -> Segmentation | list[Segmentation]:
        """The class of each pixel of the picture, (H, W), as an index into the names returned beside it.

        Pictures of any size and shape are shown as the weights were scored in training: in the same range,
        fitted into the same size, through the same windows. Released segmenters have the settings of their
        published test at one scale.

        Args:
            pictures: One or several.
            scales: Factors of the size at which pictures are shown, whose answers are averaged, such as (0.5,
                0.75, 1.0, 1.25, 1.5, 1.75); None shows them as in training's evaluation.
            flip: True averages with flipped pictures, False does not; None does as training's evaluation.
        """
        run = self._source.get(SEGMENTS)
        listed, single = list_pictures(pictures)
        shown, batches = shown_pictures(run, scales, flip), self._batches(run)
        if shown is not None:
            maps = [segment_picture(run, picture, shown) for picture in batches.opened(listed)]
        elif run.is_part:
            maps = segment_seen(run, batches, listed)
        else:
            maps = [
                largest_at_size(logits, size)
                for images, sizes in batches.sized_images(listed)
                for logits, size in zip(class_scores(run.model(images)), sizes, strict=True)
            ]
        return _one_or_all([Segmentation(classes, run.labels) for classes in maps], single)

    @overload
    def detect(  # type: ignore[overload-overlap]
        self,
        pictures: Picture,
        *,
        min_score: float = 0.3,
        scales: Sequence[float] | None = None,
        flip: bool | None = None,
    ) -> Detected: ...
    @overload
    def detect(
        self,
        pictures: Sequence[Picture],
        *,
        min_score: float = 0.3,
        scales: Sequence[float] | None = None,
        flip: bool | None = None,
    ) -> list[Detected]: ...
    @computing
    def detect(
        self,
        pictures: Pictures,
        *,
        min_score: float = 0.3,
        scales: Sequence[float] | None = None,
        flip: bool | None = None,
    ) -> Detected | list[Detected]:
        """The objects in pictures: names, scores, boxes, and masks where the detector draws them.

        Pictures of any size are shown as the weights were scored in training.

        Args:
            pictures: One or several.
            min_score: Objects that are less sure are left out; 0 gives all that evaluation scores.
            scales: Factors of the (first) size at which pictures are shown, whose answers are merged, such as
                (0.75, 1.0, 1.25); None shows them as in training's evaluation.
            flip: True merges with flipped pictures, False does not; None does as training's evaluation.
        """
        run = self._source.get(OBJECTS)
        listed, single = list_pictures(pictures)
        if isinstance(min_score, bool) or not isinstance(min_score, int | float) or not 0 <= min_score <= 1:
            raise ConfigError(f"min_score must lie in [0, 1]; got {min_score!r}")
        shown = shown_views(run, scales, flip)
        batches = self._batches(run)
        if run.is_part:
            found = detect_seen(run, batches, listed, shown, min_score)
        else:
            found = (detect_picture(run, one, shown, min_score) for one in batches.opened(listed))
        return _one_or_all([plain_objects(one, run.labels, min_score) for one in found], single)

    @overload
    def panoptic(self, pictures: Picture) -> Panoptic: ...  # type: ignore[overload-overlap]
    @overload
    def panoptic(self, pictures: Sequence[Picture]) -> list[Panoptic]: ...
    @computing
    def panoptic(self, pictures: Pictures) -> Panoptic | list[Panoptic]:
        """The segments of things and stuff that pictures are cut into."""
        run = self._source.get(PANOPTIC)
        listed, single = list_pictures(pictures)
        shown, batches = shown_views(run, None, None), self._batches(run)
        maps = [panoptic_picture(run, picture, shown) for picture in batches.opened(listed)]
        return _one_or_all(maps, single)

    def _encode_classes(self, texts: tuple[tuple[str, ...], ...], run: LoadedRun) -> Tensor:
        """Unit vectors (classes, C), averaged over prompts; those of the last call are kept."""
        known = self._named  # read once: another thread may ask for other classes meanwhile
        if known is None or known[0] != texts:
            vectors = torch.stack([self._encode_texts(prompt, run) for prompt in texts])
            known = self._named = texts, F.normalize(vectors.mean(dim=0), dim=1)
        return known[1]

    def _encode_images(self, pictures: list[Picture], run: LoadedRun) -> Tensor:
        """Unit vectors (B, C)."""
        model = _model(run, Beit3ForRetrieval)
        looks = self._batches(run).seen(pictures, model.encoder)
        batches = [model.project(seen.features) for seen in looks]
        return torch.cat(batches) if batches else model.vision_head.weight.new_zeros(0, run.config.width)

    def _encode_texts(self, texts: Sequence[str], run: LoadedRun) -> Tensor:
        """Unit vectors (B, C)."""
        model = _model(run, Beit3ForRetrieval)
        batches = [model.encode_texts(ids, ids == PAD) for ids in self._batches(run).token_ids(texts)]
        return torch.cat(batches) if batches else model.text_head.weight.new_zeros(0, run.config.width)

    def _batches(self, run: LoadedRun) -> Batches:
        return Batches(run, self._batch_size, self._max_pixels)


def _model(run: LoadedRun, expected: type[M]) -> M:
    assert isinstance(run.model, expected)  # its kind says so
    return run.model


def _named(make: Callable[[str, float], R], names: Sequence[str], batches: Iterable[TopK]) -> list[list[R]]:
    """The best of each row, (B, K) of each batch, with their names."""
    rows = [row for best in batches for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    return [[make(names[index], value) for index, value in zip(*row, strict=True)] for row in rows]


def _one_or_all(results: list[R], single: bool) -> R | list[R]:
    return results[0] if single else results


def _numpy(vectors: Tensor) -> Vectors:
    """Unit vectors as float32, also where the model computes in half precision."""
    array: Vectors = F.normalize(vectors.float(), dim=1).cpu().numpy()
    return array
