"""Questions about pictures as training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imglish.data.collate import pad_ids, padding_of, stack_images
from imglish.data.formats.vqa import VqaRecord
from imglish.data.pictures import read_picture
from imglish.data.transforms.image import ImageTransform
from imglish.data.vocabulary import AnswerVocabulary
from imglish.errors import DataFormatError
from imglish.structures.batches import VqaBatch
from imglish.text.tokenizer import TextTokenizer

TypesFrom = Literal["question_type", "answer_type"]  # which field of an annotation tells the kind


class VqaSample(NamedTuple):
    """Picture uint8 (3, H, W), question ids, soft scores (num_answers,), type and id of the question."""

    image: Tensor
    token_ids: list[int]
    answers: NDArray[np.float32]
    question_type: int
    sample_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VqaDataset:
    """Answered questions.

    Args:
        records: With annotations.
        transform: Of the pictures.
        tokenizer: Of the questions.
        vocabulary: Of the answers.
        question_types: Their names in the order of their numbers.
        types_from: The field of the annotation that names a question's type.
        max_tokens: Questions are cut to this length.
        use_pictures: False shows a grey picture instead, for the baseline that knows the question only.
        needs_answer: True refuses a question none of whose answers is in the vocabulary, so that training
            leaves it out; False scores it zero whatever is answered.
    """

    records: Sequence[VqaRecord]
    transform: ImageTransform
    tokenizer: TextTokenizer
    vocabulary: AnswerVocabulary
    question_types: Sequence[str]
    max_tokens: int
    use_pictures: bool = True
    needs_answer: bool = True
    types_from: TypesFrom = "question_type"

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> VqaSample:
        """Sample ``index``; raises DataFormatError where the picture is damaged or no answer is known."""
        record = self.records[index]
        if record.annotation is None:
            raise DataFormatError(
                f"question {record.question_id} has no answers; expected an annotated split"
            )
        given = [answer.text for answer in record.annotation.answers]
        scores = self.vocabulary.scores(given)
        if self.needs_answer and not scores.any():
            raise DataFormatError(
                f"question {record.question_id} ({record.question!r}): none of its answers, such as "
                f"{given[0]!r}, is in the vocabulary of {len(self.vocabulary)}; it is left out"
            )
        if self.use_pictures:
            image = self.transform(read_picture(record.path), rng)
        else:
            image = torch.full((3, *self.transform.size), 128, dtype=torch.uint8)
        kind = getattr(record.annotation, self.types_from)
        return VqaSample(
            image=image,
            token_ids=self.tokenizer.encode_for_model(record.question, self.max_tokens),
            answers=scores,
            question_type=self.question_types.index(kind) if kind in self.question_types else -1,
            sample_id=record.question_id,
        )


def collate_vqa(samples: Sequence[VqaSample]) -> VqaBatch:
    """Stack pictures and pad questions."""
    texts = [sample.token_ids for sample in samples]
    return VqaBatch(
        images=stack_images([sample.image for sample in samples]),
        token_ids=pad_ids(texts),
        padding=padding_of(texts),
        answers=torch.from_numpy(np.stack([sample.answers for sample in samples])),
        question_types=torch.tensor([sample.question_type for sample in samples]),
        sample_ids=torch.tensor([sample.sample_id for sample in samples]),
    )
