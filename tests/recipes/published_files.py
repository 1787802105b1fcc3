"""Small data sets in the layouts in which the real ones are published, with pictures of the World in them.

And weights in the official layout, shrunk, for a model of the sizes in ``SIZES``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from imglish.data.world.language import captions
from imglish.data.world.render import render
from imglish.data.world.scene import Scene, WorldConfig, draw_scene
from imglish.text.training import train_tokenizer
from tests.hub.official_files import (
    CAPTIONING,
    CLASSIFICATION,
    DEPTH,
    GRID,
    NLVR2,
    NUM_TEXT_POSITIONS,
    NUM_WORDS,
    PATCH,
    RETRIEVAL,
    VQA,
    WIDTH,
    shrunk,
)

WEIGHTS = {
    "captioning": CAPTIONING,
    "retrieval": RETRIEVAL,
    "vqa": VQA,
    "nlvr2": NLVR2,
    "image_classification": CLASSIFICATION,
}
# Options that make any recipe's model that of the shrunk weights.
SIZES = (
    f"--task.model.image-size {GRID * PATCH} {GRID * PATCH} --task.model.patch-size {PATCH} "
    f"--task.model.vocab-size {NUM_WORDS} --task.model.max-text-tokens {NUM_TEXT_POSITIONS} "
    f"--task.model.width {WIDTH} --task.model.depth {DEPTH} --task.model.num-heads {WIDTH // 64} "
    f"--task.model.feed-forward-width {4 * WIDTH}"
).split()
ON_CPU = "--train.device cpu --train.num-workers 0 --train.no-tensorboard".split()
# A training of two steps from nothing.
SHORT = (
    "--init= --task.batch-size 4 --train.num-epochs 0 --train.num-steps 2 --schedule.warmup-epochs 0".split()
)
SYNSETS = ("n01440764", "n01443537", "n02012849", "n03126707", "n02123045")
ANSWERS = ("yes", "no", "red", "blue", "two", "star", "fish")
DOMAINS = ("in-domain", "near-domain", "out-domain")
WORLD = WorldConfig()


def scene(number: int) -> Scene:
    """Scene ``number`` of the World."""
    return draw_scene(WORLD, "train", number)


def picture(path: Path, number: int) -> Path:
    """Write the picture of a scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(scene(number))).save(path)
    return path


def write(path: Path, value: object) -> Path:
    """Write a json file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_weights(folder: Path) -> Path:
    """A ``.pth`` file of each task, named after it, and a text tokenizer beside them."""
    folder.mkdir(parents=True)
    texts = [text for number in range(20) for text in captions(scene(number))]
    train_tokenizer(texts, folder / "text.spm", vocab_size=45)
    for kind, key_list in WEIGHTS.items():
        torch.save(shrunk(key_list), folder / f"{kind}.pth")
    return folder


def write_karpathy(root: Path, name: str, splits: Sequence[str], *, folders: bool) -> Path:
    """A picture for each of some splits: COCO's (``folders``: train2014 and val2014) or Flickr30k's."""
    images = []
    for number, split in enumerate(splits):
        folder = ("train2014" if split == "train" else "val2014") if folders else "flickr30k-images"
        said = captions(scene(number))[:5]
        entry: dict[str, object] = {
            "filename": f"{number}.png",
            "split": split,
            "imgid": number,
            "sentences": [{"raw": text, "sentid": 5 * number + i} for i, text in enumerate(said)],
        }
        images.append(entry | ({"filepath": folder, "cocoid": 1000 + number} if folders else {}))
        picture(root / folder / f"{number}.png", number)
    write(root / name, {"images": images})
    return root


def write_nocaps(root: Path, *, num_pictures: int = 6) -> Path:
    """NoCaps: domains in turn; the test split without captions."""
    for split, file in (("val", "nocaps_val_4500_captions.json"), ("test", "nocaps_test_image_info.json")):
        numbers = range(num_pictures)
        images = [
            {
                "id": number,
                "file_name": f"{number:016x}.png",
                "open_images_id": f"{number:016x}",
                "domain": DOMAINS[number % 3],
                "width": 64,
                "height": 64,
            }
            for number in numbers
        ]
        for number in numbers:
            picture(root / split / f"{number:016x}.png", number)
        said = [(number, text) for number in numbers for text in captions(scene(number))]
        annotations = [{"id": i, "image_id": n, "caption": text} for i, (n, text) in enumerate(said)]
        more = {"annotations": annotations} if split == "val" else {}
        write(root / file, {"images": images, **more})
    return root


def write_vqa_v2(root: Path, *, num_pictures: int = 4) -> Path:
    """VQAv2: each of ANSWERS occurs in both splits, in another order in each."""
    for split, order in (("train2014", ANSWERS), ("val2014", ANSWERS[::-1])):
        asked, answered = [], []
        for image_id in range(num_pictures):
            picture(root / split / f"COCO_{split}_{image_id:012d}.jpg", image_id)
            for number, answer in enumerate(order):
                question_id = 100 * image_id + number
                asked.append({"question_id": question_id, "image_id": image_id, "question": "what is it?"})
                answered.append(
                    {
                        "question_id": question_id,
                        "image_id": image_id,
                        "question_type": "what is",
                        "answer_type": "other",
                        "multiple_choice_answer": answer,
                        "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": 1}] * 10,
                    }
                )
        questions = {"data_subtype": split, "questions": asked}
        write(root / "vqa" / f"v2_OpenEnded_mscoco_{split}_questions.json", questions)
        write(root / "vqa" / f"v2_mscoco_{split}_annotations.json", {"annotations": answered})
    for name, image_ids in (("test-dev2015", (0,)), ("test2015", (0, 1))):
        asked = [{"question_id": i, "image_id": i, "question": "what is it?"} for i in image_ids]
        questions = {"data_subtype": name, "questions": asked}
        write(root / "vqa" / f"v2_OpenEnded_mscoco_{name}_questions.json", questions)
        for image_id in image_ids:
            picture(root / "test2015" / f"COCO_test2015_{image_id:012d}.jpg", image_id)
    return root


def write_visual_genome(root: Path) -> Path:
    """Visual Genome's questions, two with an answer that VQAv2 does not have; returns the json."""
    asked = [
        {"qa_id": 1, "image_id": 3, "question": "what is it?", "answer": "A Star."},
        {"qa_id": 2, "image_id": 3, "question": "what else?", "answer": "Zebra."},
        {"qa_id": 3, "image_id": 3, "question": "and what?", "answer": "Zebra."},
    ]
    picture(root / "images" / "3.jpg", 3)
    return write(root / "question_answers.json", [{"id": 3, "qas": asked}])


def write_imagenet(root: Path, splits: Sequence[str] = ("train", "val"), *, per_class: int = 3) -> Path:
    """ImageNet with the classes SYNSETS."""
    for split in splits:
        for label, synset in enumerate(SYNSETS):
            for number in range(per_class):
                picture(root / split / synset / f"{number}.png", 10 * label + number)
    return root
