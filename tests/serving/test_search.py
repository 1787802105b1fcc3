"""A folder is searched by texts and pictures, and nothing but its indexed pictures is shown."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from imglish.errors import CheckpointError, DataFormatError
from imglish.inference.index import SearchIndex
from imglish.inference.index_identity import model_identity
from imglish.inference.predictor import Predictor
from imglish.serving.settings import Batching
from tests.inference.tiny_weights import write_run
from tests.serving.test_refusals import refused
from tests.serving.tiny_server import black, form, picture, running

ODD = "naïve & odd?.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search") / "pictures"
    (root / "beach").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "beach/c.png", ODD)):
        (root / name).write_bytes(picture(300 + number, 500 - number, seed=number))
    (root / "notes.txt").write_text("secret")
    (root.parent / "outside.png").write_bytes(picture())
    return root


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor(write_run(folder.parent / "run", "retrieval"))


@pytest.fixture(scope="module")
def index(folder: Path, predictor: Predictor) -> Path:
    path = folder.parent / "index.sqlite"
    SearchIndex.create(path, folder, model_identity(predictor)).update(predictor)
    return path


@pytest.fixture(scope="module")
def client(folder: Path, index: Path) -> Iterator[httpx.Client]:
    batching = Batching(wait=0.001)
    with running(folder.parent / "run", index=index, batching=batching) as server, server.client() as opened:
        yield opened


def test_pictures_are_found_by_a_text_as_the_index_finds_them(
    client: httpx.Client, index: Path, predictor: Predictor
) -> None:
    expected = SearchIndex.open(index).search_vector(predictor.embed_texts("a red star"), 3)
    answer = client.post("/v1/search", json={"text": "a red star", "num_matches": 3}).json()
    found = answer["result"]["matches"]
    assert [one["path"] for one in found] == [one.path for one in expected]
    assert [one["similarity"] for one in found] == pytest.approx(
        [one.similarity for one in expected], abs=1e-5
    )
    assert answer["picture"] is None


def test_pictures_are_found_by_another(client: httpx.Client, folder: Path) -> None:
    like = (folder / "beach" / "c.png").read_bytes()
    found = client.post("/v1/search", **form(like=like)).json()["result"]["matches"]
    assert len(found) == 4 and found[0]["path"] == "beach/c.png" and found[0]["similarity"] > 0.999


def test_found_pictures_are_shown_small(client: httpx.Client) -> None:
    found = client.post("/v1/search", json={"text": "fish"}).json()["result"]["matches"]
    assert {one["path"] for one in found} == {"a.png", "b.png", "beach/c.png", ODD}
    for one in found:
        shown = client.get(one["url"])
        assert shown.headers["content-type"] == "image/jpeg"
        image = Image.open(io.BytesIO(shown.content))
        assert max(image.size) == 256 and image.width > image.height


def test_a_photograph_is_shown_as_small_as_others(client: httpx.Client, folder: Path) -> None:
    kept = (folder / "a.png").read_bytes()
    Image.new("RGB", (800, 480), "red").save(folder / "a.png", "JPEG")  # which can be decoded smaller
    shown = client.get("/v1/search/picture", params={"path": "a.png"})
    (folder / "a.png").write_bytes(kept)
    assert Image.open(io.BytesIO(shown.content)).size == (256, 154)


def test_the_folder_is_told_by_its_name_only(client: httpx.Client) -> None:
    assert client.get("/v1/model").json()["index"] == {"folder": "pictures", "count": 4}


def test_nothing_else_is_shown(client: httpx.Client, folder: Path) -> None:
    outside = folder.parent / "outside.png"
    for path in (
        "notes.txt", "../outside.png", "beach/../a.png", "./a.png", str(outside), str(folder / "a.png"), "",
        "beach", "a.png\0", "/etc/passwd", "%2e%2e/outside.png", "\udcff.png",
    ):  # fmt: skip
        query = httpx.QueryParams({"path": path.encode("utf-8", "surrogateescape").decode("latin-1")})
        refused(client.get(f"/v1/search/picture?{query}"), 404, "not_found", "no such picture in the index")
    refused(client.get("/v1/search/picture"), 404, "not_found", "no such picture in the index")
    for name, change in (
        ("a.png", lambda path: (path.unlink(), os.symlink(outside, path))),  # a link out of the folder
        ("b.png", lambda path: path.unlink()),
        ("beach/c.png", lambda path: path.write_text("no picture any more")),
        ("b.png", lambda path: path.write_bytes(black(1300, 1300))),  # more pixels than may be held
    ):
        kept = (folder / name).read_bytes()
        change(folder / name)
        refused(client.get("/v1/search/picture", params={"path": name}), 404, "not_found", "no such picture")
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(kept)
        assert client.get("/v1/search/picture", params={"path": name}).status_code == 200


def test_bad_searches_are_refused(client: httpx.Client) -> None:
    both = form(like=picture(), text="fish")
    refused(client.post("/v1/search", **both), 422, "field_wrong", "one of the fields 'text' and 'like'")
    refused(client.post("/v1/search", json={}), 422, "field_wrong", "one of the fields 'text' and 'like'")
    refused(
        client.post("/v1/search", json={"text": "a", "num_matches": 0}), 422, "field_wrong", "num_matches"
    )
    refused(client.post("/v1/search", **form(like=b"no")), 415, "picture_type", "expected PNG")


def test_an_index_of_other_weights_or_none_is_refused(index: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", "retrieval", seed=5)
    with pytest.raises(CheckpointError, match="index"), running(tmp_path / "run", index=index):
        pass
    with pytest.raises(DataFormatError, match=r"none\.sqlite"):
        with running(tmp_path / "run", index=tmp_path / "none.sqlite"):
            pass
