"""Pictures and words in, plain Python out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from imglish.data.transforms.image import to_model_range
from imglish.decoding.beam_search import BeamSearchConfig, beam_search
from imglish.errors import CheckpointError, DataFormatError
from imglish.hub.load import LoadedRun, load_run
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.text.tokenizer import BOS, EOS, PAD, TextTokenizer

Picture = Path | str | Image.Image

# Where a demo keeps the run of each task.
_FOLDERS = {
    "vqa": "vqa",
    "retrieval": "retrieval",
    "captioning": "captioning",
    "semantic_segmentation": "segmentation",
}


class Answer(NamedTuple):
    """An answer and its probability (each answer is judged alone, so they need not sum to one)."""

    text: str
    probability: float


class Match(NamedTuple):
    """A picture by its number and its cosine similarity to the query."""

    number: int
    similarity: float


class Predictor:
    """Caption, answer, search and segment with the runs of one folder.

    Args:
        folder: A run folder, or a folder of several such as the demo's.
        device: Where the models compute.

    Raises:
        CheckpointError: The folder holds no run.
    """

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu") -> None:
        self._folder, self._device = Path(folder), torch.device(device)
        self._runs: dict[str, LoadedRun] = {}
        if not self._folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder; expected a finished run, such as runs/demo")

    @torch.no_grad()
    def caption(self, picture: Picture) -> str:
        """Say in a sentence what is to be seen."""
        run = self._run("captioning")
        model, text = run.model, _text(run)
        assert isinstance(model, Beit3ForCaptioning)
        config = BeamSearchConfig(
            num_beams=run.settings["num_beams"],
            max_tokens=run.settings["max_text_tokens"],
            length_penalty=run.settings["length_penalty"],
        )
        found = beam_search(
            lambda memory, words: model.step(memory, words, text.mask_id),
            model.start(self._image(picture, run)),
            batch_size=1,
            bos=BOS,
            eos=EOS,
            config=config,
            device=self._device,
        )
        return text.decode(found[0].words)

    @torch.no_grad()
    def answer(self, picture: Picture, question: str, *, num_answers: int = 3) -> list[Answer]:
        """The most probable answers to a question, best first."""
        run = self._run("vqa")
        assert isinstance(run.model, Beit3ForVqa)
        ids = self._ids([question], run)
        logits = run.model(self._image(picture, run), ids, ids == PAD)[0]
        best = logits.sigmoid().topk(min(num_answers, len(run.labels)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [Answer(run.labels[index], value) for index, value in pairs]

    @torch.no_grad()
    def search(self, pictures: Sequence[Picture], query: str, *, num_matches: int = 5) -> list[Match]:
        """The pictures that a text describes best, best first."""
        run = self._run("retrieval")
        assert isinstance(run.model, Beit3ForRetrieval)
        ids = self._ids([query], run)
        text = run.model.encode_texts(ids, ids == PAD)
        vision = torch.cat([run.model.encode_images(self._image(picture, run)) for picture in pictures])
        best = (vision @ text[0]).topk(min(num_matches, len(pictures)))
        return [Match(*pair) for pair in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    @torch.no_grad()
    def segment(self, picture: Picture) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The class of each pixel of the picture, (H, W), as an index into the names returned beside it."""
        run = self._run("semantic_segmentation")
        size = _open(picture).size
        logits = run.model(self._image(picture, run))
        logits = F.interpolate(logits, size=(size[1], size[0]), mode="bilinear", align_corners=False)
        return logits[0].argmax(dim=0).cpu().numpy(), run.labels

    def _run(self, kind: str) -> LoadedRun:
        if kind not in self._runs:
            inner = self._folder / _FOLDERS[kind]
            folder = inner if inner.is_dir() else self._folder
            run = load_run(folder, self._device)
            if run.kind != kind:
                raise CheckpointError(
                    f"{self._folder} is a run of {run.kind}; this needs one of {kind}, "
                    f"such as runs/demo/{inner.name}"
                )
            if run.text is None and kind != "semantic_segmentation":
                raise CheckpointError(
                    f"{folder} has no text.spm, the text tokenizer it was trained with: put it back, or "
                    "train the run anew"
                )
            self._runs[kind] = run
        return self._runs[kind]

    def _image(self, picture: Picture, run: LoadedRun) -> Tensor:
        height, width = run.config.image_size
        image = _open(picture).resize((width, height), Image.Resampling.BICUBIC)
        array = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
        return to_model_range(array)[None].to(self._device)

    def _ids(self, texts: Sequence[str], run: LoadedRun) -> Tensor:
        ids = [_text(run).encode_for_model(text, run.settings["max_text_tokens"]) for text in texts]
        return torch.tensor(ids, device=self._device)


def _text(run: LoadedRun) -> TextTokenizer:
    assert run.text is not None  # _run has looked
    return run.text


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return _rgb(ImageOps.exif_transpose(picture), "the picture")
    try:
        with Image.open(picture) as file:
            image = ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise DataFormatError(f"{picture}: no such file; expected a picture: check the path") from None
    except UnidentifiedImageError:
        raise DataFormatError(
            f"{picture}: is no picture that can be decoded; expected PNG, JPEG or the like: get it again"
        ) from None
    except Exception as error:  # on damaged data decoders raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataFormatError(
            f"{picture}: does not decode ({reason}); expected a picture: get it again"
        ) from None
    return _rgb(image, str(picture))


def _rgb(image: Image.Image, name: str) -> Image.Image:
    """A picture as the models were trained on them: `imglish.data.pictures.decode_picture`."""
    if image.mode in ("I", "F"):
        raise DataFormatError(
            f"{name}: has 32 bits a channel, whose range is not known; expected 8 or 16: convert it to 8 bits"
        )
    if image.mode.startswith("I;16"):  # Pillow would clip instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
