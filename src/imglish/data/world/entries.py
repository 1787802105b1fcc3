"""What the json files of a World say about one scene, in the words of each published format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from faster_coco_eval.core import mask as coco_masks
from numpy.typing import NDArray

from imglish.data.world.annotate import CLASSES, Annotation
from imglish.data.world.files import KARPATHY_SPLITS, PICTURE_NAME
from imglish.data.world.questions import Question
from imglish.data.world.scene import STUFF, Scene
from imglish.data.world.statements import Statement

Entry = dict[str, object]

# Of the class with index c; 0 stays free, as in ADE20K's masks.
_FIRST_CATEGORY = 1
_YES_NO, _NUMBER = ("exists", "relation"), ("count",)


def categories(*, things_only: bool) -> list[Entry]:
    """COCO categories: the ids are those of the panoptic file and of the ADE20K masks."""
    return [
        {
            "id": class_id + _FIRST_CATEGORY,
            "name": name,
            "supercategory": "stuff" if name in STUFF else "thing",
            "isthing": int(name not in STUFF),
        }
        for class_id, name in enumerate(CLASSES)
        if not (things_only and name in STUFF)
    ]


def picture_name(image_id: int) -> str:
    """Name of a picture file in its split's folder."""
    return PICTURE_NAME.format(image_id=image_id)


def image(scene: Scene) -> Entry:
    """COCO's description of a picture; its id is the scene's number in the split."""
    return {
        "id": scene.index,
        "file_name": picture_name(scene.index),
        "height": scene.picture_size,
        "width": scene.picture_size,
    }


def instances(scene: Scene, annotation: Annotation) -> Iterator[Entry]:
    """COCO instances, one for each thing."""
    masks = np.asfortranarray(annotation.things_masks.transpose(1, 2, 0).astype(np.uint8))
    for number, run_lengths in enumerate(coco_masks.encode(masks), start=1):
        thing = scene.things[number - 1]
        yield {
            "id": scene.index * 100 + number,  # never 0, which pycocotools takes for "no match"
            "image_id": scene.index,
            "category_id": CLASSES.index(thing.shape) + _FIRST_CATEGORY,
            "bbox": _xywh(annotation.boxes_xyxy[number - 1].tolist()),
            "area": int(masks[..., number - 1].sum()),
            "iscrowd": 0,
            "segmentation": {
                "size": [scene.picture_size] * 2,
                "counts": run_lengths["counts"].decode("ascii"),
            },
        }


def captions(scene: Scene, texts: Sequence[str]) -> Iterator[Entry]:
    """COCO captions."""
    for number, text in enumerate(texts, start=1):
        yield {"id": scene.index * 100 + number, "image_id": scene.index, "caption": text}


def panoptic(scene: Scene, annotation: Annotation) -> Entry:
    """COCO panoptic annotation; the ids are the values of `panoptic_pixels`."""
    segments = []
    for segment in annotation.segments:
        mask = annotation.panoptic == segment.number
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        segments.append(
            {
                "id": segment.number,
                "category_id": segment.class_id + _FIRST_CATEGORY,
                "area": int(mask.sum()),
                "bbox": _xywh(box),
                "iscrowd": 0,
            }
        )
    return {
        "image_id": scene.index,
        "file_name": picture_name(scene.index),
        "segments_info": segments,
    }


def panoptic_pixels(annotation: Annotation) -> NDArray[np.uint8]:
    """Segment ids as red + 256 green + 65536 blue, (H, W, 3)."""
    channels = [annotation.panoptic >> shift & 255 for shift in (0, 8, 16)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def semantic_pixels(annotation: Annotation) -> NDArray[np.uint8]:
    """ADE20K's mask: class ids plus one, (H, W)."""
    return annotation.semantic + np.uint8(_FIRST_CATEGORY)


def vqa_questions(scene: Scene, asked: Sequence[Question]) -> Iterator[Entry]:
    """VQA v2 questions; ids as there, the image id and three more digits."""
    for number, question in enumerate(asked):
        yield {
            "image_id": scene.index,
            "question": question.text,
            "question_id": scene.index * 1000 + number,
        }


def vqa_annotations(scene: Scene, asked: Sequence[Question]) -> Iterator[Entry]:
    """VQA v2 annotations; who gives another answer than most is not quite sure."""
    for number, question in enumerate(asked):
        kind = question.kind
        yield {
            "question_id": scene.index * 1000 + number,
            "image_id": scene.index,
            "question_type": kind,
            "answer_type": "yes/no" if kind in _YES_NO else "number" if kind in _NUMBER else "other",
            "multiple_choice_answer": question.answer,
            "answers": [
                {
                    "answer_id": answer_id,
                    "answer": answer,
                    "answer_confidence": "yes" if answer == question.answer else "maybe",
                }
                for answer_id, answer in enumerate(question.answers, start=1)
            ],
        }


def pair_name(left: Scene) -> str:
    """NLVR2's name of the pair that a scene of even number begins."""
    return f"{left.split}-{left.index // 2}-0"


def nlvr2(left: Scene, said: Sequence[Statement]) -> Iterator[Entry]:
    """NLVR2 statements about the pair that a scene begins."""
    for number, statement in enumerate(said):
        yield {
            "identifier": f"{pair_name(left)}-{number}",
            "sentence": statement.text,
            "label": str(statement.label),
        }


def karpathy(scene: Scene, texts: Sequence[str], number: int) -> Entry:
    """An image of a Karpathy split.

    Args:
        scene: The scene.
        texts: Its captions.
        number: Of the image in the file, over all splits.
    """
    sentence_ids = [number * len(texts) + i for i in range(len(texts))]
    return {
        "filepath": scene.split,
        "filename": picture_name(scene.index),
        "split": KARPATHY_SPLITS[scene.split],
        "cocoid": scene.index,
        "imgid": number,
        "sentids": sentence_ids,
        "sentences": [
            {"raw": text, "tokens": re.findall(r"\w+", text.lower()), "sentid": sentence_id, "imgid": number}
            for text, sentence_id in zip(texts, sentence_ids, strict=True)
        ],
    }


def _xywh(box_xyxy: Sequence[float]) -> list[float]:
    left, top, right, bottom = box_xyxy
    return [left, top, right - left, bottom - top]
