"""Visual Genome's questions (Krishna et al. 2017), which VQA models take as additional training data.

question_answers.json: [{"id": 1, "qas": [{"qa_id", "image_id", "question", "answer"}]}]
"""

from __future__ import annotations

from pathlib import Path

from imglish.data.formats.json_entries import load_json_list
from imglish.data.formats.picture_folder import PictureFolder
from imglish.data.formats.vqa import Answer, AnsweredQuestion, VqaRecord
from imglish.errors import DataFormatError

_LAYOUT = "Visual Genome question_answers.json (a list of pictures with qas)"
_PEOPLE = 10  # its one answer counts as so many people agreeing, and so scores fully


def read_visual_genome(annotations: Path, images: Path) -> tuple[VqaRecord, ...]:
    """Read the questions of pictures that exist; Visual Genome has a few without a picture.

    Answers lose their capital and their full stop, which VQAv2's never have.

    Args:
        annotations: The json.
        images: The folder of pictures, named ``<image_id>.jpg``.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, or no picture exists.
    """
    folder = PictureFolder(images)
    records = []
    for picture in load_json_list(annotations, _LAYOUT):
        path = folder.find(f"{picture.integer('id')}.jpg")
        if path is None:
            continue
        for entry in picture.entries("qas"):
            answer = entry.text("answer").strip().removesuffix(".").lower()
            annotation = AnsweredQuestion(
                question_type="",
                answer_type="other",
                most_common=answer,
                answers=(Answer(answer, "yes"),) * _PEOPLE,
            )
            records.append(
                VqaRecord(
                    entry.integer("qa_id"), picture.integer("id"), path, entry.text("question"), annotation
                )
            )
    if not records:
        raise DataFormatError(f"{annotations}: none of its pictures is in {images}; expected <image_id>.jpg")
    return tuple(records)
