"""A search finds what comparing with every picture would find, in the same order."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imglish.errors import CheckpointError, ConfigError, DataFormatError
from imglish.hub.run import load_run
from imglish.inference import index_vectors
from imglish.inference.contact_sheet import Section, thumbnail, write_contact_sheet
from imglish.inference.index import Found, SearchIndex, default_path
from imglish.inference.index_identity import ModelIdentity, model_identity, weights_hash
from imglish.inference.index_store import About, Content, IndexStore, Known
from imglish.inference.index_vectors import Engine, ExactVectors, FaissVectors, hold
from tests.inference.index_folders import CountingPredictor, indexed, write_picture, write_pictures
from tests.inference.tiny_weights import pixels, write_run

WIDTH = 24
ROUNDING = 2e-3  # of float16 in a cosine
ENGINES: tuple[Engine, ...] = ("exact", "faiss")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> CountingPredictor:
    run = write_run(tmp_path_factory.mktemp("weights") / "run", "retrieval")
    return CountingPredictor(load_run(run))


def units(count: int, seed: int, width: int = WIDTH) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def stored(path: Path, vectors: NDArray[np.float32], contents: list[int]) -> dict[str, NDArray[np.float64]]:
    """Write an index of pictures that have some of the vectors; returns each path's as it is stored."""
    folder = path.parent.as_posix()
    names = [f"{hashlib.sha1(b'%d' % number).hexdigest()[:6]}.png" for number in range(len(contents))]
    hashes = [hashlib.sha256(b"%d" % number).digest() for number in range(len(vectors))]
    with IndexStore(path, About(folder, "tiny", "00", vectors.shape[1])) as store:
        store.save(
            {name: Known(1, 1, hashes[content]) for name, content in zip(names, contents, strict=True)},
            {
                digest: Content((1, 1), vector)
                for number, (digest, vector) in enumerate(zip(hashes, vectors, strict=True))
                if number in set(contents)
            },
        )
    return {
        name: vectors[content].astype(np.float16).astype(np.float64)
        for name, content in zip(names, contents, strict=True)
    }


def brute_force(
    pictures: dict[str, NDArray[np.float64]], query: NDArray[np.float32], k: int
) -> list[tuple[str, float]]:
    """Every cosine by itself, sorted as plain Python sorts."""
    wide = (query / np.linalg.norm(query)).astype(np.float32).astype(np.float64)
    cosines = {path: float(np.clip((vector * wide).sum(), -1, 1)) for path, vector in pictures.items()}
    return sorted(cosines.items(), key=lambda item: (-item[1], item[0]))[:k]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_best_are_those_of_brute_force(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    contents = [*range(3000), *np.random.default_rng(1).integers(0, 3000, 500).tolist()]
    pictures = stored(path, units(3000, 0), contents)
    index = SearchIndex.open(path, engine=engine)
    assert len(index) == 3500 and list(index.paths) == sorted(pictures)
    for seed in range(10):
        query = units(1, 100 + seed)[0] * (seed + 1)
        for k in (1, 7, 100):
            found = index.search_vector(query, k)
            expected = brute_force(pictures, query, k)
            assert [one.path for one in found] == [path for path, _ in expected]
            assert [one.similarity for one in found] == pytest.approx([cosine for _, cosine in expected])
    assert len(index.search_vector(query, 10_000)) == 3500


@pytest.mark.parametrize("engine", ENGINES)
def test_none_of_the_best_is_lost_among_very_many_that_are_nearly_as_good(engine: Engine) -> None:
    """A product of matrices in float32 orders them otherwise than their exact sums."""
    near = (units(1, 1) + 1e-4 * units(3000, 2)).astype(np.float16)
    vectors = hold(near, engine)
    for query in units(3, 3):
        best = np.argsort(-(near.astype(np.float64) @ query.astype(np.float64)), kind="stable").tolist()
        for k in range(1, 400, 3):
            assert set(best[:k]) <= set(vectors.near(query, k).tolist())


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_are_broken_by_path(engine: Engine, tmp_path: Path) -> None:
    """A third of the pictures are equal, a third differ from them where the query is zero."""
    drawn = units(301, 5)
    drawn[:, 0] = 0
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    drawn[:101] = 0
    drawn[0, 0] = 1
    drawn[1:101, 0] = 0.5
    drawn[np.arange(1, 101), 1 + np.arange(100) % (WIDTH - 1)] = 0.75**0.5
    pictures = stored(tmp_path / "index.sqlite", drawn, [0] * 100 + list(range(1, 301)))
    query = np.eye(WIDTH, dtype=np.float32)[0]
    index = SearchIndex.open(tmp_path / "index.sqlite", engine=engine)
    for asked in (-query, query):  # at the opposite of the query 200 different contents are best
        for k in (1, 50, 99, 100, 130, 200):
            found = index.search_vector(asked, k)
            assert [one.path for one in found] == [path for path, _ in brute_force(pictures, asked, k)]
    assert [one.similarity for one in found] == [1.0] * 100 + [0.5] * 100


def test_texts_and_pictures_are_found_by_their_vectors(tmp_path: Path, predictor: CountingPredictor) -> None:
    folder = write_pictures(tmp_path / "pictures", 12)
    index = indexed(folder, predictor)
    files = [folder / path for path in index.paths]
    for text in ("a red star", "two blue fish", ""):
        cosines = predictor.match(files, text)
        found = index.search_text(predictor, text, 12)
        best = np.argsort(-cosines)
        assert [one.path for one in found[:3]] == [index.paths[number] for number in best[:3]]
        np.testing.assert_allclose([one.similarity for one in found], cosines[best], atol=ROUNDING)
    for number, file in enumerate(files):
        (best_match, *_) = index.search_picture(predictor, file, 3)
        assert best_match.path == index.paths[number] and best_match.similarity > 1 - ROUNDING
    array = np.asarray(Image.open(files[4]).convert("RGB"))
    assert index.search_picture(predictor, array, 2) == index.search_picture(predictor, files[4], 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_duplicates_and_near_duplicates_are_those_of_brute_force(engine: Engine, tmp_path: Path) -> None:
    """More vectors than two blocks, around centres, so that there are groups across blocks."""
    count = 2 * index_vectors._BLOCK + 700
    draw = np.random.default_rng(3)
    centres = units(900, 4)
    vectors = centres[draw.integers(0, 900, count)] + 0.05 * units(count, 5)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pictures = stored(tmp_path / "index.sqlite", vectors, [*range(count), 5, 5, 17, 5])
    index = SearchIndex.open(tmp_path / "index.sqlite", engine=engine)
    by_bytes: dict[bytes, list[str]] = {}
    for path in sorted(pictures):
        by_bytes.setdefault(pictures[path].tobytes(), []).append(path)
    assert index.duplicates() == [equal for equal in by_bytes.values() if len(equal) > 1]
    assert sorted(map(len, index.duplicates())) == [2, 4]

    left = [equal[0] for equal in by_bytes.values()]
    matrix, free = np.array([pictures[path] for path in left]), np.ones(len(left), bool)
    expected = []
    for number in range(len(left)):
        if free[number]:
            near = np.flatnonzero(
                free & (matrix @ matrix[number] >= 0.998) & (np.arange(len(left)) >= number)
            )
            free[near] = False
            expected += [[left[member] for member in near]] if len(near) > 1 else []
    groups = index.near_duplicates(0.998)
    assert len(expected) > 300 and [[one.path for one in group] for group in groups] == expected
    for group in groups[:50]:
        assert min(one.similarity for one in group) >= 0.998 - 1e-6
        first = pictures[group[0].path]
        assert [one.similarity for one in group] == pytest.approx(
            [min(1.0, float(pictures[one.path] @ first)) for one in group]
        )


def test_faiss_that_is_asked_for_and_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = units(5, 0).astype(np.float16)
    monkeypatch.setattr(index_vectors, "FAISS_FROM", 5)
    assert isinstance(hold(vectors, "auto"), FaissVectors)
    assert isinstance(hold(vectors[:4], "auto"), ExactVectors)
    assert isinstance(hold(vectors, "exact"), ExactVectors)
    monkeypatch.setitem(sys.modules, "faiss", None)  # as where it is not installed
    assert isinstance(hold(vectors, "auto"), ExactVectors)
    with pytest.raises(ConfigError, match=r"faiss is not installed; pip install 'imglish\[search\]'"):
        hold(vectors, "faiss")
    with pytest.raises(ConfigError, match="engine is 'hnsw'; expected auto, exact or faiss"):
        hold(vectors, "hnsw")  # type: ignore[arg-type]


def test_from_a_million_pictures_on_faiss_is_taken() -> None:
    assert index_vectors.FAISS_FROM == 1_000_000


@pytest.mark.parametrize(
    "vector", [np.zeros(WIDTH), np.full(WIDTH, np.nan), np.full(WIDTH, np.inf), np.ones(WIDTH + 1), 1.0]
)
def test_vectors_that_point_nowhere_are_refused(vector: NDArray[np.float32], tmp_path: Path) -> None:
    stored(tmp_path / "index.sqlite", units(3, 0), [0, 1, 2])
    index = SearchIndex.open(tmp_path / "index.sqlite")
    with pytest.raises(ConfigError, match=r"expected \(24,\) and a positive length"):
        index.search_vector(vector)
    with pytest.raises(ConfigError, match="k must be a whole number of at least 1; got 0"):
        index.search_vector(np.ones(WIDTH, np.float32), 0)
    for threshold in (0, -1, 1.01, True, float("nan")):
        with pytest.raises(ConfigError, match=r"threshold must lie in \(0, 1\]"):
            index.near_duplicates(threshold)


# Models do not mix


def test_an_index_of_another_model_is_refused(tmp_path: Path, predictor: CountingPredictor) -> None:
    folder = write_pictures(tmp_path / "pictures", 3)
    index = indexed(folder, predictor)
    other = CountingPredictor(write_run(tmp_path / "other", "retrieval", seed=1))
    before = index.path.read_bytes()
    for use in (
        lambda: index.search_text(other, "a red star"),
        lambda: index.search_picture(other, folder / "01.png"),
        lambda: index.update(other),
        lambda: SearchIndex.open(index.path, model_identity(other)),
        lambda: SearchIndex.create(index.path, folder, model_identity(other)),
    ):
        with pytest.raises(CheckpointError, match=r"models do not mix; .*--rebuild") as caught:
            use()
        assert all(word in str(caught.value) for word in (str(index.path), other.name, predictor.name))
    assert index.path.read_bytes() == before and other.num_encoded == 0
    anew = SearchIndex.create(index.path, folder, model_identity(other), rebuild=True)
    assert len(anew) == 0 and anew.update(other).encoded == 3
    assert SearchIndex.open(index.path, model_identity(other)).model.name == other.name


def test_the_same_weights_by_another_name_are_the_same(tmp_path: Path) -> None:
    first = CountingPredictor(write_run(tmp_path / "first", "retrieval"))
    second = CountingPredictor(write_run(tmp_path / "second", "retrieval"))
    index = indexed(write_pictures(tmp_path / "pictures", 3), first)
    assert first.name != second.name and index.search_text(first, "a") == index.search_text(second, "a")
    assert index.update(second).unchanged == 3


def test_one_changed_weight_or_another_preparation_is_another_model(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", "retrieval"))
    plain = model_identity(CountingPredictor(run)).weights
    assert len(plain) == 64 and plain == model_identity(CountingPredictor(run)).weights
    run.settings["pictures"] = "imagenet"  # type: ignore[index]
    assert model_identity(CountingPredictor(run)).weights != plain
    del run.settings["pictures"]  # type: ignore[attr-defined]
    assert model_identity(CountingPredictor(run)).weights == plain
    cropped = replace(run, settings={**run.settings, "crop_share": 0.9})
    smaller = replace(run, config=replace(run.config, image_size=(8, 8)))
    assert len({plain, weights_hash(cropped), weights_hash(smaller)}) == 3
    weight = run.model.state_dict()["vision_head.weight"]
    weight[0, 0] += 1e-6
    assert model_identity(CountingPredictor(run)).weights != plain
    run.model.bfloat16()
    assert model_identity(CountingPredictor(run)).weights != plain


def test_a_model_without_a_dual_encoder_cannot_index(tmp_path: Path) -> None:
    captioner = CountingPredictor(write_run(tmp_path / "captions", "captioning"))
    with pytest.raises(CheckpointError, match="beit3_base_patch16_384_coco_retrieval"):
        model_identity(captioner)


def test_identities_compare_by_weights_and_width(tmp_path: Path) -> None:
    stored(tmp_path / "index.sqlite", units(3, 0), [0, 1, 2])
    assert len(SearchIndex.open(tmp_path / "index.sqlite", ModelIdentity("other name", "00", WIDTH))) == 3
    for identity in (ModelIdentity("tiny", "01", WIDTH), ModelIdentity("tiny", "00", WIDTH + 1)):
        with pytest.raises(CheckpointError, match="models do not mix"):
            SearchIndex.open(tmp_path / "index.sqlite", identity)


# The contact sheet


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_contact_sheet_needs_no_other_file_and_escapes_everything(
    tmp_path: Path, predictor: CountingPredictor
) -> None:
    folder = tmp_path / "<i>pictures"
    evil = '<img src=x onerror=alert(1)>".png'
    for seed, name in enumerate((evil, os.fsdecode(b"\xff.png"), "big.png", "gone.png")):
        write_picture(folder / name, seed, height=300 if name == "big.png" else 20, width=600)
    index = indexed(folder, predictor)
    found = index.search_picture(predictor, folder / "big.png", 4)
    (folder / "gone.png").unlink()
    target = tmp_path / "sheet.html"
    write_contact_sheet(
        target, index, "<script>alert(1)</script> & \x1b", [Section("<b>", found)], folder / "big.png"
    )
    page = Page(target)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4 and {tag for tag, _ in page.tags} & {"script", "link", "b", "i", "a"} == set()
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in images)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {image["alt"] for image in images} == {
        "the picture to compare with", evil, "\\udcff.png", "big.png",
    }  # fmt: skip
    for words in (
        "<script>alert(1)</script> & \\x1b",
        "4 pictures in <i>pictures",
        evil,
        "not there any more",
    ):
        assert words in page.text
    assert [attributes["value"] for tag, attributes in page.tags if tag == "data"] == [
        str(one.similarity) for one in found
    ]
    style = target.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in style and "http:" not in style and "https:" not in style
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_a_contact_sheet_is_written_whole_or_not_at_all(tmp_path: Path, predictor: CountingPredictor) -> None:
    index = indexed(write_pictures(tmp_path / "pictures", 2), predictor)
    target = tmp_path / "sheet.html"
    target.write_text("the one before")
    with pytest.raises(DataFormatError, match="no such file"):
        write_contact_sheet(target, index, "", [Section("", [])], tmp_path / "nothing.png")
    assert target.read_text() == "the one before"
    with pytest.raises(DataFormatError, match=r"holiday.png: a contact sheet ends in .html"):
        write_contact_sheet(tmp_path / "holiday.png", index, "", [])
    write_contact_sheet(target, index, "nothing", [])
    assert "Nothing was found" in Page(target).text


def test_thumbnails_are_small_and_keep_their_shape() -> None:
    with Image.open(io.BytesIO(thumbnail(pixels(300, 600)))) as small:
        assert small.size == (256, 128) and small.format == "JPEG"
    with Image.open(io.BytesIO(thumbnail(pixels(3, 6)))) as small:
        assert small.size == (6, 3)


def test_found_pictures_are_plain_values(tmp_path: Path, predictor: CountingPredictor) -> None:
    index = indexed(write_pictures(tmp_path / "pictures", 2), predictor)
    (best,) = index.search_text(predictor, "a red star", 1)
    assert best == Found(best.path, best.similarity) and type(best.similarity) is float
    assert default_path(index.folder) == index.path
