"""The predictor says what the models say, for one picture and for many, of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from imglish.data.transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD
from imglish.decoding.beam_search import BeamSearchConfig, beam_search
from imglish.errors import CheckpointError, ConfigError, DataFormatError
from imglish.hub.load import load_model
from imglish.hub.run import LoadedRun
from imglish.inference.pictures import Picture
from imglish.inference.predictor import Predictor
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForVqa
from imglish.text.tokenizer import BOS, EOS
from tests.hub.official_files import BEIT_FINE_TUNED, shrunk
from tests.inference.tiny_weights import NAMES, pixels, png, segmenter, write_files

TOLERANCE = 1e-5  # batches of another size sum in another order
SIDE = 16
QUESTIONS = ["what colour is the star?", "a fish", ""]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def runs(files: Path) -> dict[str, LoadedRun]:
    loaded = {path.stem: load_model(path) for path in files.glob("*.pth")}
    return loaded | {"semantic_segmentation": segmenter()}


@pytest.fixture(scope="module")
def ask(runs: dict[str, LoadedRun]) -> Callable[[str], Predictor]:
    """A predictor of a kind of weights, which computes two at once."""
    return lambda kind: Predictor(runs[kind], batch_size=2)


@pytest.fixture
def mixed(tmp_path: Path) -> list[Picture]:
    """Five different pictures of different kinds and sizes."""
    images = [pixels(20 + 7 * seed, 40 - 5 * seed, seed) for seed in range(5)]
    Image.fromarray(images[0]).save(tmp_path / "first.png")
    return [
        tmp_path / "first.png",
        png(Image.fromarray(images[1])),
        Image.fromarray(images[2]).convert("L"),
        images[3],
        torch.from_numpy(images[4]).permute(2, 0, 1),
    ]


def as_input(image: np.ndarray) -> Tensor:
    """What the official evaluation makes of a picture: (1, 3, SIDE, SIDE)."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 127.5 - 1


def ids_of(text: str, run: LoadedRun) -> Tensor:
    assert run.text is not None
    return torch.tensor([run.text.encode_for_model(text, run.settings["max_text_tokens"])])


# Many at once, one by one


def test_captions_of_many_are_those_of_each(ask: Callable[[str], Predictor], mixed: list[Picture]) -> None:
    predictor = ask("captioning")
    captions = predictor.caption(mixed)
    assert captions == [predictor.caption(picture) for picture in mixed]
    assert all(isinstance(caption, str) for caption in captions) and len(set(captions)) > 1
    assert predictor.caption([]) == [] and predictor.caption(mixed[:1]) == captions[:1]


def test_captions_are_searched_as_the_settings_of_the_weights_say(runs: dict[str, LoadedRun]) -> None:
    run = runs["captioning"]
    model, text, images = (
        run.model,
        run.text,
        torch.cat([as_input(pixels(30, 30, seed)) for seed in range(5)]),
    )
    assert isinstance(model, Beit3ForCaptioning) and text is not None
    pictures, found = [pixels(30, 30, seed) for seed in range(5)], []
    for changes in ({"num_beams": 1}, {"length_penalty": 3.0}, {"max_text_tokens": 6}, {}):
        settings = {**run.settings, **changes}
        names = ("num_beams", "length_penalty")
        config = BeamSearchConfig(
            max_tokens=settings["max_text_tokens"], **{name: settings[name] for name in names}
        )
        with torch.no_grad():
            expected = beam_search(
                lambda memory, words: model.step(memory, words, text.mask_id),
                model.start(images), batch_size=5, bos=BOS, eos=EOS, config=config, device="cpu",
            )  # fmt: skip
        found.append(Predictor(replace(run, settings=settings)).caption(pictures))
        assert found[-1] == [text.decode(one.words) for one in expected]
    assert all(other != found[-1] for other in found[:-1])  # each of the settings tells


def test_answers_are_the_models(ask: Callable[[str], Predictor], runs: dict[str, LoadedRun]) -> None:
    image, run = pixels(30, 20), runs["vqa"]
    assert isinstance(run.model, Beit3ForVqa)
    with torch.no_grad():
        expected = run.model(as_input(image), ids_of(QUESTIONS[0], run)).sigmoid()[0]
    best = ask("vqa").answer(image, QUESTIONS[0], num_answers=4)
    order = expected.argsort(descending=True)[:4].tolist()
    assert [answer.text for answer in best] == [f"#{index}" for index in order]
    np.testing.assert_allclose([answer.probability for answer in best], expected[order], rtol=TOLERANCE)


def test_answers_to_many_are_those_to_each(ask: Callable[[str], Predictor], mixed: list[Picture]) -> None:
    predictor = ask("vqa")
    every = [predictor.answer(p, q, 99) for p, q in zip(mixed[:3], QUESTIONS, strict=True)]
    together = predictor.answer(mixed[:3], QUESTIONS, 99)
    assert [[a.text for a in row] for row in together] == [[a.text for a in row] for row in every]
    np.testing.assert_allclose(
        [[a.probability for a in row] for row in together],
        [[a.probability for a in row] for row in every],
        rtol=TOLERANCE,
    )
    assert [len(predictor.answer(mixed[0], QUESTIONS)), len(predictor.answer(mixed, "what?"))] == [3, 5]
    assert predictor.answer(mixed[0], QUESTIONS)[2] == predictor.answer([mixed[0]], [""])[0]
    assert predictor.answer([], []) == [] and predictor.answer([], "what?") == []


def test_texts_are_cut_as_in_training(ask: Callable[[str], Predictor], runs: dict[str, LoadedRun]) -> None:
    run, image = runs["vqa"], pixels(30, 20)
    cut = ids_of("star " * 500, run)
    assert isinstance(run.model, Beit3ForVqa) and cut.shape == (1, run.settings["max_text_tokens"])
    with torch.no_grad():
        expected = run.model(as_input(image), cut).sigmoid().max()
    (best,) = ask("vqa").answer(image, "star " * 500, 1)
    assert best.probability == pytest.approx(float(expected), rel=TOLERANCE)
    assert ask("retrieval").embed_texts(["star " * 500, "", "\ud800", "a\0b"]).shape[0] == 4


def test_statements_are_judged_by_the_model(
    ask: Callable[[str], Predictor], runs: dict[str, LoadedRun], mixed: list[Picture]
) -> None:
    left, right, run = pixels(30, 20, 1), pixels(20, 30, 2), runs["nlvr2"]
    assert isinstance(run.model, Beit3ForNlvr2)
    with torch.no_grad():
        logits = run.model(as_input(left), as_input(right), ids_of("a red star", run))
    predictor = ask("nlvr2")
    probability = predictor.judge(left, right, "a red star")
    assert probability == pytest.approx(float(logits.softmax(dim=1)[0, 1]), rel=TOLERANCE)
    assert abs(probability - predictor.judge(right, left, "a red star")) > 100 * TOLERANCE
    several = predictor.judge(mixed[:3], mixed[2], QUESTIONS)
    each = [predictor.judge(p, mixed[2], q) for p, q in zip(mixed[:3], QUESTIONS, strict=True)]
    np.testing.assert_allclose(several, each, rtol=TOLERANCE)


# The dual encoder


def test_vectors_are_units_and_do_not_depend_on_the_batch(
    ask: Callable[[str], Predictor], runs: dict[str, LoadedRun], mixed: list[Picture]
) -> None:
    predictor = ask("retrieval")
    vision, text = predictor.embed_images(mixed), predictor.embed_texts(QUESTIONS)
    for vectors in (vision, text):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=TOLERANCE)
    alone = np.stack([predictor.embed_images(picture) for picture in mixed])
    np.testing.assert_allclose(vision, alone, atol=TOLERANCE)
    np.testing.assert_allclose(text, [predictor.embed_texts(q) for q in QUESTIONS], atol=TOLERANCE)
    width = runs["retrieval"].config.width
    assert predictor.embed_images([]).shape == predictor.embed_texts([]).shape == (0, width)
    cosines = predictor.match(mixed, QUESTIONS)
    np.testing.assert_allclose(cosines, vision @ text.T, atol=TOLERANCE)
    assert [predictor.match(mixed[0], QUESTIONS).shape, predictor.match(mixed, "a").shape] == [(3,), (5,)]
    assert isinstance(float(predictor.match(mixed[0], "a")), float)


def test_a_search_is_the_order_of_the_cosines(ask: Callable[[str], Predictor], mixed: list[Picture]) -> None:
    predictor = ask("retrieval")
    cosines = predictor.match(mixed, "a red star")
    found = predictor.search(mixed, "a red star", num_matches=9)
    assert [match.number for match in found] == np.argsort(-cosines).tolist()
    np.testing.assert_allclose([match.similarity for match in found], np.sort(cosines)[::-1], atol=TOLERANCE)
    assert predictor.search(mixed, "a red star", num_matches=2) == found[:2]
    assert predictor.search([], "a red star") == []
    assert predictor.search(mixed[0], "a red star") == [(0, pytest.approx(cosines[0], abs=TOLERANCE))]
    first, second = found[0].number, found[1].number
    same = predictor.search([mixed[first], mixed[second]] * 40, "a red star", num_matches=80)
    assert [match.number for match in same] == [*range(0, 80, 2), *range(1, 80, 2)]  # equal ones in order


def test_half_precision_gives_float32_of_length_one(files: Path, mixed: list[Picture]) -> None:
    run = load_model(files / "retrieval.pth")
    exact = Predictor(run).match(mixed, QUESTIONS)
    run.model.bfloat16()
    rough = Predictor(run)
    assert rough.embed_images(mixed).dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rough.embed_images(mixed), axis=1), 1, rtol=TOLERANCE)
    assert 0 < np.abs(rough.match(mixed, QUESTIONS) - exact).max() < 0.1


# Classes


def test_an_official_classifier_gets_imagenets_preparation(
    ask: Callable[[str], Predictor], runs: dict[str, LoadedRun]
) -> None:
    image, run = pixels(24, 50), runs["image_classification"]
    prepared = transforms.Compose(
        [
            transforms.Resize(SIDE, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )(Image.fromarray(image))
    assert isinstance(run.model, Beit3ForImageClassification)
    for settings, given in ((run.settings, prepared[None]), ({"pictures": "model"}, as_input(image))):
        with torch.no_grad():
            expected = run.model(given).softmax(dim=1)[0]
        best = Predictor(replace(run, settings=settings)).classify(image)
        order = expected.argsort(descending=True).tolist()
        assert [label.name for label in best] == [f"#{index}" for index in order]
        np.testing.assert_allclose([label.probability for label in best], expected[order], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "side", "resized", "mean", "deviation"),
    [
        ("beit_base_patch16_224_pt22k_ft22kto1k", 16, 18, (0.5,) * 3, (0.5,) * 3),
        ("beitv2_base_patch16_224_pt1k_ft21kto1k", 16, 18, IMAGENET_MEAN, IMAGENET_STD),
        ("beit_base_patch16_384_pt22k_ft22kto1k", 384, 384, (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_a_beit_gets_the_preparation_of_its_own_evaluation(
    name: str,
    side: int,
    resized: int,
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
    tmp_path: Path,
    mixed: list[Picture],
) -> None:
    """After build_transform of beit/datasets.py: 224/256 of the shorter side, or all from 384 pixels on."""
    torch.save(shrunk(BEIT_FINE_TUNED), tmp_path / f"{name}.pth")
    run, image = load_model(tmp_path / f"{name}.pth", side), pixels(24, 50)
    prepared = transforms.Compose(
        [
            transforms.Resize(resized, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(mean, deviation),
        ]
    )(Image.fromarray(image))
    with torch.no_grad():
        expected = run.model(prepared[None]).softmax(dim=1)[0]
    predictor = Predictor(run, batch_size=2)
    best = predictor.classify(image)
    order = expected.argsort(descending=True).tolist()
    assert [label.name for label in best] == [f"#{index}" for index in order]
    np.testing.assert_allclose([label.probability for label in best], expected[order], rtol=1e-4)
    if side == SIDE:
        together, alone = predictor.classify(mixed, num_classes=2), [predictor.classify(p) for p in mixed]
        assert [[label.name for label in row] for row in together] == [
            [label.name for label in row[:2]] for row in alone
        ]


def test_classes_of_many_are_those_of_each(ask: Callable[[str], Predictor], mixed: list[Picture]) -> None:
    for kind, classes in (("image_classification", None), ("retrieval", ["star", "fish", "dog"])):
        predictor = ask(kind)
        together = predictor.classify(mixed, classes, num_classes=2)
        alone = [predictor.classify(picture, classes, num_classes=2) for picture in mixed]
        assert [[label.name for label in row] for row in together] == [
            [label.name for label in row] for row in alone
        ]
        assert {len(row) for row in together} == {2}


def test_names_are_told_apart_by_the_mean_of_their_prompts(
    ask: Callable[[str], Predictor], runs: dict[str, LoadedRun], mixed: list[Picture]
) -> None:
    predictor, names = ask("retrieval"), ["star", "fish", "a {} {name} dog"]
    prompts = ["a red {name}", "what is a {}?"]
    text = sum(
        predictor.embed_texts([f"{before}{name}{after}" for name in names])
        for before, after in (("a red ", ""), ("what is a ", "?"))
    )
    assert isinstance(text, np.ndarray)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    scale = float(runs["retrieval"].model.logit_scale.detach().exp())  # type: ignore[operator, union-attr]
    logits = scale * predictor.embed_images(mixed) @ text.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for number, row in enumerate(predictor.classify(mixed, names, prompts=prompts)):
        assert [label.name for label in row] == [names[i] for i in np.argsort(-expected[number])]
        np.testing.assert_allclose(
            [label.probability for label in row], -np.sort(-expected[number]), rtol=1e-4
        )
    plain = predictor.classify(mixed[0], names)
    assert plain != predictor.classify(mixed[0], names, prompts=prompts)
    trained = replace(
        runs["retrieval"], labels=tuple(names), settings={"max_text_tokens": 20, "prompt": "{}"}
    )
    for label, same in zip(
        Predictor(trained).classify(mixed[0]),
        predictor.classify(mixed[0], names, prompts=["{}"]),
        strict=True,
    ):
        assert label.name == same.name and label.probability == pytest.approx(same.probability, rel=1e-4)


# Class maps


def test_class_maps_have_the_sizes_of_the_pictures(
    ask: Callable[[str], Predictor], mixed: list[Picture]
) -> None:
    predictor = ask("semantic_segmentation")
    maps = predictor.segment(mixed)
    assert [found.classes.shape for found in maps] == [(20, 40), (27, 35), (34, 30), (41, 25), (48, 20)]
    classes, names = predictor.segment(mixed[1])
    assert names == NAMES and classes.dtype == np.int64 and set(np.unique(classes)) <= {0, 1, 2}
    assert (classes == maps[1].classes).mean() > 0.99


# What does not fit


@pytest.mark.parametrize(
    ("use", "official"),
    [
        (lambda p: p.caption(pixels(9, 9)), "beit3_base_patch16_480_coco_captioning"),
        (lambda p: p.answer(pixels(9, 9), "what?"), "beit3_base_patch16_480_vqa"),
        (lambda p: p.classify(pixels(9, 9)), "beit3_base_patch16_224_in1k"),
        (lambda p: p.classify(pixels(9, 9), ["a", "b"]), "beit3_base_patch16_384_coco_retrieval"),
        (lambda p: p.embed_images(pixels(9, 9)), "beit3_base_patch16_384_coco_retrieval"),
        (lambda p: p.embed_texts("a"), "beit3_base_patch16_384_coco_retrieval"),
        (lambda p: p.match(pixels(9, 9), "a"), "beit3_base_patch16_384_coco_retrieval"),
        (lambda p: p.search([pixels(9, 9)], "a"), "beit3_base_patch16_384_coco_retrieval"),
        (lambda p: p.judge(pixels(9, 9), pixels(9, 9), "a"), "beit3_base_patch16_224_nlvr2"),
        (lambda p: p.segment(pixels(9, 9)), "runs/demo/segmentation"),
    ],
)
def test_weights_of_another_use_are_refused_with_those_that_would_do(
    use: Callable[[Predictor], object], official: str, ask: Callable[[str], Predictor]
) -> None:
    with pytest.raises(CheckpointError) as caught:
        use(ask("masked_data_modeling"))
    message = str(caught.value)
    assert "holds weights of masked_data_modeling" in message and official in message and "\n" not in message


@pytest.mark.parametrize(
    ("kind", "use", "error", "message"),
    [
        ("vqa", lambda p: p.answer([pixels(9, 9)] * 2, ["a"] * 3), ConfigError, "2 pictures and 3 questions"),
        ("vqa", lambda p: p.answer(pixels(9, 9), "a", 0), ConfigError, "num_answers must be"),
        ("vqa", lambda p: p.answer(pixels(9, 9), [1]), ConfigError, "1 is of type int; expected a text"),
        ("vqa", lambda p: p.answer(pixels(9, 9), None), ConfigError, "None is of type NoneType; expected a"),
        (
            "vqa",
            lambda p: p.answer(pixels(9, 9), b"what?"),
            ConfigError,
            "b'what?' is of type bytes; expected",
        ),
        ("vqa", lambda p: p.answer(None, "what?"), DataFormatError, "the picture: is of type NoneType"),
        ("captioning", lambda p: p.caption([None]), DataFormatError, "the picture: is of type NoneType"),
        (
            "captioning",
            lambda p: p.caption(7.5),
            DataFormatError,
            "the picture: is of type float; expected a",
        ),
        (
            "captioning",
            lambda p: p.caption(bytearray(9)),
            DataFormatError,
            "is of type bytearray; expected a",
        ),
        ("retrieval", lambda p: p.search([], ["a"]), ConfigError, "query is of type list; expected one text"),
        (
            "retrieval",
            lambda p: p.embed_texts(b"a" * 10**6),
            ConfigError,
            "is of type bytes; expected a text",
        ),
        ("vqa", lambda p: p.answer([pixels(9, 9), b""], "a"), DataFormatError, "picture 2: is empty"),
        ("nlvr2", lambda p: p.judge(pixels(9, 9), b"", "a"), DataFormatError, "the right picture: is empty"),
        ("retrieval", lambda p: p.classify(pixels(9, 9)), CheckpointError, "give it classes, or use weights"),
        ("retrieval", lambda p: p.classify(pixels(9, 9), "cat"), ConfigError, "expected a list of names"),
        (
            "retrieval",
            lambda p: p.classify(pixels(9, 9), "c" * 10**6),
            ConfigError,
            "expected a list of names",
        ),
        ("retrieval", lambda p: p.classify(pixels(9, 9), []), ConfigError, "names that are not empty"),
        ("retrieval", lambda p: p.classify(pixels(9, 9), ["a", "a"]), ConfigError, "differ from each other"),
        ("retrieval", lambda p: p.classify(pixels(9, 9), ["a", " "]), ConfigError, "that are not empty"),
        (
            "retrieval",
            lambda p: p.classify(pixels(9, 9), ["a"], prompts=["a photo"]),
            ConfigError,
            "each with {name}",
        ),
        (
            "image_classification",
            lambda p: p.classify(pixels(9, 9), ["a"]),
            CheckpointError,
            "need a dual encoder, such as beit3_base_patch16_384_coco_retrieval",
        ),
        (
            "image_classification",
            lambda p: p.classify(pixels(9, 9), prompts=["{}"]),
            ConfigError,
            "give classes as well",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(
    kind: str,
    use: Callable[[Predictor], object],
    error: type[Exception],
    message: str,
    ask: Callable[[str], Predictor],
) -> None:
    with pytest.raises(error) as caught:
        use(ask(kind))
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_the_limit_of_pixels_is_an_argument(runs: dict[str, LoadedRun]) -> None:
    predictor = Predictor(runs["captioning"], max_pixels=100)
    assert predictor.caption(pixels(10, 10))
    with pytest.raises(DataFormatError, match="picture 2: is 10 high and 11 wide; expected at most 100"):
        predictor.caption([pixels(10, 10), pixels(10, 11)])
    with pytest.raises(DataFormatError, match="the picture: is 10 high and 11 wide; expected at most 100"):
        predictor.look(pixels(10, 11))
    for size in (0, True):
        with pytest.raises(ConfigError, match="batch_size must be"):
            Predictor(runs["captioning"], batch_size=size)
