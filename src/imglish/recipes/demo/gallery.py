"""The pictures of the demo's report: the first samples of the validation split, as they come."""

from __future__ import annotations

import base64
import colorsys
import io
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from imglish.data.collate import stack_images
from imglish.data.formats.instances import InstancesRecord
from imglish.data.formats.karpathy import KarpathyRecord
from imglish.data.formats.nlvr2 import Nlvr2Record
from imglish.data.formats.vqa import VqaRecord
from imglish.data.pictures import read_mask, read_picture
from imglish.data.pretraining import SPECIAL
from imglish.data.transforms.text import mask_words
from imglish.data.world.annotate import CLASSES
from imglish.data.world.files import WorldFiles
from imglish.data.world.grammar import named_things
from imglish.data.world.scene import Scene
from imglish.evaluation.results import (
    Answer,
    CaptionExample,
    DetectionExample,
    Gallery,
    MaskedExample,
    Match,
    Picture,
    SearchExample,
    SegmentationExample,
    StatementExample,
    VqaExample,
    Word,
)
from imglish.inference.drawing import draw_objects
from imglish.inference.predictor import Predictor
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling
from imglish.ops.block_masking import BlockMasking
from imglish.ops.boxes import pairwise_overlaps
from imglish.recipes.assembly.base import first
from imglish.recipes.assembly.pretraining import load_visual_tokenizer
from imglish.recipes.assembly.world_scores import scenes_of
from imglish.recipes.config import MaskedDataModelingTask
from imglish.recipes.data_config import FolderData
from imglish.recipes.detection_records import detection_files
from imglish.recipes.records import captioned, questions, statements
from imglish.recipes.run_folder import find_run
from imglish.structures.batches import IGNORE

_SCALE = 3  # pixels of the report for one of the World
_SEARCHED = 200
_SURE = 0.5  # objects that are less sure are not drawn
Box = tuple[float, float, float, float]


def make_gallery(out: Path, files: WorldFiles) -> Gallery:
    """Ask the demo's models about the first validation scenes."""
    ours, scratch = Predictor(out), Predictor(out / "captioning_scratch")
    data = FolderData(root=files.root)
    records, asked = captioned(data, "validation"), questions(data, "validation")
    scenes = scenes_of(files, "validation")
    found = detection_files(data, "validation")
    return Gallery(
        masked=tuple(_masked_examples(records[:4])),
        vqa=tuple(_vqa(ours, question) for question in asked[:24:3]),
        statements=tuple(_statement(ours, record) for record in statements(data, "validation")[:8]),
        search=tuple(_search(ours, records[:_SEARCHED], number) for number in range(4)),
        captions=tuple(_caption(ours, scratch, record, scenes[record.image_id]) for record in records[:8]),
        segmentation=tuple(_segmentation(ours, files, record) for record in records[:8]),
        detection=tuple(_detection(ours, record) for record in first(found.records, 8)),
        class_colours=tuple((name, f"#{bytes(_colour(index)).hex()}") for index, name in enumerate(CLASSES)),
    )


@torch.no_grad()
def _masked_examples(records: tuple[KarpathyRecord, ...]) -> list[MaskedExample]:
    """Hidden patches and words as the embedded World model fills them in."""
    folder = find_run("world", "encoder")
    task = folder.config().task
    assert isinstance(task, MaskedDataModelingTask)
    tokenizer, text = load_visual_tokenizer("world"), folder.text_tokenizer()
    model = Beit3ForMaskedDataModeling(task.model, codebook_size=tokenizer.config.codebook_size)
    model.load_state_dict(folder.weights())
    model.eval()
    rows, columns = task.model.grid_size
    masking = BlockMasking(
        grid_size=(rows, columns), num_masked=round(0.4 * rows * columns), min_block=task.min_block
    )
    examples = []
    for number, record in enumerate(records):
        rng = np.random.default_rng(number)
        image = read_picture(record.path)
        x = stack_images([image])
        hidden = torch.from_numpy(masking(rng).reshape(1, -1))
        ids = text.encode_for_model(record.sentences[1].text, task.max_text_tokens)
        masked = mask_words(ids, share=0.5, mask_id=text.mask_id, special=SPECIAL, rng=rng)
        encoded = model.encoder(x, torch.tensor([masked.token_ids]), corruption=hidden)
        true = tokenizer.encode(x).view(-1)
        guess = model.image_head(encoded.vision[0, 1:]).argmax(dim=1)
        words = model.text_head(encoded.text[0]).argmax(dim=1).tolist()
        filled = torch.where(hidden[0], guess, true)
        pixels = image.permute(1, 2, 0).numpy()
        examples.append(
            MaskedExample(
                pictures=(
                    _picture(pixels, "picture"),
                    _picture(_hide(pixels, hidden[0].view(rows, columns).numpy()), "40% hidden"),
                    _picture(_tokens(filled.view(rows, columns).numpy(), len(pixels)), "tokens predicted"),
                    _picture(
                        _tokens(true.view(rows, columns).numpy(), len(pixels)), "tokens of the tokenizer"
                    ),
                ),
                words=tuple(
                    Word(
                        text=piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip() or "_",
                        guess=None
                        if target == IGNORE
                        else text.pieces([word])[0].replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip(),
                    )
                    for piece, target, word in zip(text.pieces(ids), masked.targets, words, strict=True)
                    if piece not in ("<s>", "</s>")
                ),
                right=int((guess == true)[hidden[0]].sum()),
                hidden=int(hidden.sum()),
            )
        )
    return examples


def _vqa(predictor: Predictor, record: VqaRecord) -> VqaExample:
    assert record.annotation is not None, "validation questions are annotated"
    answers = predictor.answer(record.path, record.question)
    return VqaExample(
        picture=_file(record.path, ""),
        question=record.question,
        truth=record.annotation.most_common,
        answers=tuple(Answer(text=answer.text, probability=answer.probability) for answer in answers),
    )


def _statement(predictor: Predictor, record: Nlvr2Record) -> StatementExample:
    assert record.label is not None, "validation statements are labelled"
    return StatementExample(
        left=_file(record.left, "left"),
        right=_file(record.right, "right"),
        statement=record.sentence,
        truth=record.label,
        probability=predictor.judge(record.left, record.right, record.sentence),
    )


def _search(predictor: Predictor, records: tuple[KarpathyRecord, ...], number: int) -> SearchExample:
    query = records[number].sentences[0].text
    found = predictor.search([record.path for record in records], query, num_matches=len(records))
    rank = [match.number for match in found].index(number) + 1
    return SearchExample(
        query=query,
        matches=tuple(
            Match(
                picture=_file(records[match.number].path, ""),
                similarity=match.similarity,
                right=match.number == number,
            )
            for match in found[:5]
        ),
        rank=rank,
    )


def _caption(ours: Predictor, scratch: Predictor, record: KarpathyRecord, scene: Scene) -> CaptionExample:
    caption = ours.caption(record.path)
    things = Counter((thing.colour, thing.shape) for thing in scene.things)
    return CaptionExample(
        picture=_file(record.path, ""),
        caption=caption,
        truth=record.sentences[0].text,
        named=sum((Counter(named_things(caption)) & things).values()),
        things=len(scene.things),
        scratch=scratch.caption(record.path),
    )


def _segmentation(predictor: Predictor, files: WorldFiles, record: KarpathyRecord) -> SegmentationExample:
    image = read_picture(record.path)
    mask_path = files.masks("validation") / record.path.name
    truth = read_mask(mask_path, (image.shape[-2], image.shape[-1])).numpy().astype(np.int64) - 1
    prediction, _ = predictor.segment(record.path)
    ious = []
    for index in np.unique(truth):
        union = (truth == index) | (prediction == index)
        ious.append(float(((truth == index) & (prediction == index)).sum() / union.sum()))
    palette = np.array([_colour(index) for index in range(len(CLASSES))], dtype=np.uint8)
    return SegmentationExample(
        picture=_file(record.path, "picture"),
        truth=_picture(palette[truth], "truth"),
        prediction=_picture(palette[prediction], "prediction"),
        mean_iou=sum(ious) / len(ious),
    )


def _detection(predictor: Predictor, record: InstancesRecord) -> DetectionExample:
    image = read_picture(record.image.path).permute(1, 2, 0).numpy()
    detected = predictor.detect(record.image.path, min_score=_SURE)
    boxes = [instance.box_xyxy for instance in record.instances]
    labels = [instance.label for instance in record.instances]
    left = list(zip(boxes, labels, strict=True))
    for one in detected.objects:  # the surest first; each thing is found once
        same = [true for true in left if true[1] == one.label and _overlap(one.box, true[0]) >= 0.5]
        if same:
            left.remove(max(same, key=lambda true: _overlap(one.box, true[0])))
    return DetectionExample(
        truth=_drawn(draw_objects(image, boxes, labels, detected.names), "truth"),
        prediction=_drawn(detected.draw(record.image.path), "found"),
        right=len(boxes) - len(left),
        things=len(boxes),
        found=len(detected.objects),
    )


def _overlap(one: Box, other: Box) -> float:
    """IoU of two boxes."""
    return float(pairwise_overlaps(torch.tensor([one]), torch.tensor([other])))


def _hide(pixels: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> NDArray[np.uint8]:
    side = len(pixels) // len(hidden)
    mask = hidden.repeat(side, 0).repeat(side, 1)[..., None]
    return np.where(mask, np.uint8(235), pixels)


def _tokens(token_ids: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """One colour for each visual token, far apart on the colour wheel."""
    colours = [colorsys.hsv_to_rgb(i * 0.618 % 1, 0.45 + 0.5 * (i * 0.37 % 1), 0.95) for i in token_ids.flat]
    grid = (np.array(colours).reshape(*token_ids.shape, 3) * 255).astype(np.uint8)
    side = size // len(token_ids)
    return grid.repeat(side, 0).repeat(side, 1)


def _colour(index: int) -> list[int]:
    """A colour for each class: muted for stuff, bright for things."""
    stuff = index < 6
    value = colorsys.hsv_to_rgb(index * 0.381 % 1, 0.25 if stuff else 0.75, 0.8 if stuff else 0.9)
    return [int(255 * part) for part in value]


def _file(path: Path, label: str) -> Picture:
    return _picture(read_picture(path).permute(1, 2, 0).numpy(), label)


def _picture(pixels: NDArray[np.uint8], label: str) -> Picture:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _drawn(
        image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.NEAREST), label
    )


def _drawn(image: Image.Image, label: str) -> Picture:
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return Picture(png=base64.b64encode(data.getvalue()).decode(), label=label)
