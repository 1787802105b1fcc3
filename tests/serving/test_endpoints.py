"""Each path answers what the predictor answers, to a form and to JSON."""

from __future__ import annotations

import base64
import inspect
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import imglish
from imglish.inference.predictor import Predictor
from imglish.serving.settings import MOST_TEXTS
from tests.inference.tiny_weights import write_run
from tests.serving.tiny_server import CLASSES, Running, black, form, picture, running, small_limits

TOLERANCE = 1e-5  # of sums in another order
PICTURE, OTHER = picture(), picture(26, 50, seed=1)

# Fields of a question, and what the predictor says to the same.
Expected = Callable[[Predictor], dict[str, Any]]
QUESTIONS: dict[str, tuple[str, dict[str, Any], Expected]] = {
    "caption": ("caption", {}, lambda p: {"caption": p.caption(PICTURE)}),
    "answer": (
        "answer",
        {"question": "what colour is the star?", "num_answers": 2},
        lambda p: {"answers": [a._asdict() for a in p.answer(PICTURE, "what colour is the star?", 2)]},
    ),
    "classes of training": (
        "classify",
        {},
        lambda p: {"classes": [label._asdict() for label in p.classify(PICTURE)]},
    ),
    "classes of one's own": (
        "classify",
        {"classes": ["red star", "fish", "dog"], "num_classes": 2},
        lambda p: {
            "classes": [label._asdict() for label in p.classify(PICTURE, ["red star", "fish", "dog"], 2)]
        },
    ),
    "embed": ("embed", {}, lambda p: {"vector": p.embed_images(PICTURE).tolist()}),
    "match": (
        "match",
        {"texts": ["a red star", "a blue fish"]},
        lambda p: {
            "matches": [
                {"text": text, "similarity": cosine}
                for text, cosine in zip(
                    ["a red star", "a blue fish"],
                    p.match(PICTURE, ["a red star", "a blue fish"]).tolist(),
                    strict=True,
                )
            ]
        },
    ),
    "segment": ("segment", {}, lambda p: p.segment(PICTURE).to_json()),
    "detect": (
        "detect",
        {"min_score": 0.5},
        lambda p: {"objects": p.detect(PICTURE, min_score=0.5).to_json()},
    ),
    "panoptic": ("panoptic", {}, lambda p: p.panoptic(PICTURE).to_json()),
}


def same(given: Any, expected: Any) -> None:
    """Equal but for the last digits of numbers."""
    if isinstance(expected, dict):
        assert list(given) == list(expected)
        for name, value in expected.items():
            same(given[name], value)
    elif isinstance(expected, list | tuple):
        assert len(given) == len(expected)
        for one, other in zip(given, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert given == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    else:
        assert given == expected and type(given) is type(expected)


def encoded(**fields: Any) -> dict[str, Any]:
    """Fields of a JSON body: bytes become base64."""
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in fields.items()
    }


def as_texts(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as a form has them."""
    texts = {name: value if isinstance(value, list) else str(value) for name, value in fields.items()}
    return texts | ({"classes": ", ".join(fields["classes"])} if "classes" in fields else {})


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_answered_as_the_predictor_answers_it(
    name: str, client: httpx.Client, predictor: Predictor
) -> None:
    path, fields, expected = QUESTIONS[name]
    told = expected(predictor)
    for asked in (
        client.post(f"/v1/{path}", **form(picture=PICTURE, **as_texts(fields))),
        client.post(f"/v1/{path}", json=encoded(picture=PICTURE, **fields)),
    ):
        assert asked.status_code == 200, asked.text
        answer = asked.json()
        same(answer["result"], json.loads(json.dumps(told)))
        assert answer["model"] == "runs" and answer["picture"] == {"width": 30, "height": 40}
        seconds = answer["seconds"]
        assert 0 < seconds["computed"] <= seconds["total"] and 0 <= seconds["queued"] <= seconds["total"]


def test_a_statement_is_about_left_and_right(client: httpx.Client, predictor: Predictor) -> None:
    expected = predictor.judge(PICTURE, OTHER, "a red star")
    assert abs(expected - predictor.judge(OTHER, PICTURE, "a red star")) > 100 * TOLERANCE
    for asked in (
        client.post("/v1/judge", **form(left=PICTURE, right=OTHER, statement="a red star")),
        client.post("/v1/judge", json=encoded(left=PICTURE, right=OTHER, statement="a red star")),
    ):
        same(asked.json()["result"], {"probability_true": expected})
        assert asked.json()["picture"] == {"width": 30, "height": 40}  # the left one's


def test_a_text_is_embedded_too(client: httpx.Client, predictor: Predictor) -> None:
    answer = client.post("/v1/embed", json={"text": "a red star"}).json()
    same(answer["result"], {"vector": predictor.embed_texts("a red star").tolist()})
    assert answer["picture"] is None


def test_several_questions_are_asked_about_one_picture(
    server: Running, client: httpx.Client, predictor: Predictor
) -> None:
    tasks = {QUESTIONS[name][0]: QUESTIONS[name][1] for name in QUESTIONS if name != "classes of training"}
    expected = {QUESTIONS[name][0]: QUESTIONS[name][2](predictor) for name in QUESTIONS}
    for asked in (
        client.post("/v1/predict", **form(picture=PICTURE, tasks=json.dumps(tasks))),
        client.post("/v1/predict", json=encoded(picture=PICTURE, tasks=tasks)),
    ):
        result = asked.json()["result"]
        assert set(result) == set(tasks)
        for task, found in result.items():
            same(found, json.loads(json.dumps(expected[task])))
    assert server.metric('imglish_batch_size_count{tasks="predict"}') >= 2


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_are_taken(kind: str, client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(PICTURE)).save(buffer, kind)
    assert client.post("/v1/caption", **form(picture=buffer.getvalue())).status_code == 200


@pytest.mark.parametrize("name", ["smallest", "longest", "most pixels", "most bytes"])
def test_what_is_just_within_the_limits_is_taken(name: str, client: httpx.Client) -> None:
    data = {
        "smallest": picture(8, 8),
        "longest": picture(8, 256),
        "most pixels": black(400, 1000),
        "most bytes": PICTURE + bytes(200_000 - len(PICTURE)),  # readers of PNG stop at its end
    }[name]
    assert client.post("/v1/caption", **form(picture=data)).status_code == 200
    assert client.post("/v1/caption", json=encoded(picture=data)).status_code == 200


def test_as_many_texts_as_the_limit_says_fit_into_a_form(client: httpx.Client) -> None:
    texts = [f"{number}" for number in range(MOST_TEXTS)]
    asked = client.post("/v1/match", **form(picture=PICTURE, texts=texts))
    assert [match["text"] for match in asked.json()["result"]["matches"]] == texts


def test_two_pictures_of_the_most_bytes_fit_into_a_body(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    limits = small_limits(bytes=1_000_000, bytes_in_flight=8_000_000)
    data = PICTURE + bytes(limits.bytes - len(PICTURE))
    with running(tmp_path / "run", limits=limits) as server, server.client() as client:
        asked = client.post("/v1/judge", json=encoded(left=data, right=data, statement="a"))
        assert asked.json()["error"]["code"] == "ability_missing"  # it was read, whatever its weights can do


def test_sizes_are_those_of_the_upright_picture(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    buffer = io.BytesIO()
    Image.open(io.BytesIO(PICTURE)).save(buffer, "JPEG", exif=exif)
    answer = client.post("/v1/segment", **form(picture=buffer.getvalue())).json()
    assert answer["picture"] == {"width": 40, "height": 30} and answer["result"]["size"] == [30, 40]


def test_empty_fields_of_a_form_are_none(client: httpx.Client) -> None:
    given = client.post("/v1/classify", **form(picture=PICTURE, classes="")).json()["result"]["classes"]
    assert {label["name"] for label in given} == set(CLASSES)


# What the server tells of itself


def test_health_and_the_model_are_told(client: httpx.Client, predictor: Predictor) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["model"], health["queue"]) == ("ok", "runs", 0)
    assert health["version"] == imglish.__version__ and health["uptime_seconds"] > 0
    model = client.get("/v1/model").json()
    assert sorted(model["abilities"]) == sorted(predictor.abilities()) == sorted(health["abilities"])
    assert len(model["abilities"]) == 9
    assert model["classes"] == {
        "classify": sorted(CLASSES),
        "segment": ["sky", "fish", "star"],
        "detect": ["dark", "light", "grass"],
    }
    assert model["index"] is None and model["limits"] == {"bytes": 200_000, "pixels": 400_000}


def test_samples_are_pictures_with_questions(client: httpx.Client) -> None:
    samples = client.get("/v1/samples").json()
    assert len(samples) == 12 and len({sample["name"] for sample in samples}) == 12
    for sample in samples:
        image = Image.open(io.BytesIO(client.get(sample["url"]).content))
        assert image.size == (64, 64) and np.asarray(image).std() > 5 and sample["question"]
    fields = form(picture=client.get(samples[0]["url"]).content, question=samples[0]["question"])
    assert client.post("/v1/answer", **fields).status_code == 200
    assert client.get("/v1/samples/world-99.png").status_code == 404


def test_requests_and_batches_are_counted(server: Running, client: httpx.Client) -> None:
    counted = 'imglish_requests_total{method="POST",path="/v1/caption",status="200"}'
    batches = 'imglish_batch_size_count{tasks="caption"}'
    before, before_batches = server.metric(counted), server.metric(batches)
    for _ in range(3):
        client.post("/v1/caption", **form(picture=PICTURE))
    assert server.metric(counted) == before + 3 and server.metric(batches) == before_batches + 3
    text = client.get("/metrics").text
    assert text.endswith("\n") and "\n# TYPE imglish_request_seconds histogram\n" in text
    for name in ("queue_length", "requests_inside", "body_bytes", "decoded_pixels"):
        assert f"\nimglish_{name} 0\n" in text  # nothing is held once all is answered


def test_the_documentation_has_every_question_with_an_example(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    names = "caption answer classify embed match judge segment detect panoptic predict search".split()
    for name in names:
        question = paths[f"/v1/{name}"]["post"]
        for body in question["requestBody"]["content"].values():
            assert body["schema"]["properties"]
        assert question["requestBody"]["content"]["application/json"]["example"]
        assert question["responses"]["200"]["content"]["application/json"]["example"]["result"]
        assert {"401", "413", "415", "422", "503", "504"} <= set(question["responses"])
    asked = paths["/v1/answer"]["post"]["requestBody"]["content"]["application/json"]
    assert asked["schema"]["required"] == ["picture", "question"]
    for name, field, method in (
        ("answer", "num_answers", Predictor.answer),
        ("classify", "num_classes", Predictor.classify),
        ("detect", "min_score", Predictor.detect),
    ):
        schema = paths[f"/v1/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        ours = inspect.signature(method).parameters[field].default
        assert schema["properties"][field]["default"] == ours
    assert client.get("/docs").status_code == 404  # its page would load scripts from elsewhere


@pytest.mark.parametrize("path", ["/", "/health", "/v1/model", "/nowhere", "/openapi.json"])
def test_browsers_are_told_to_load_nothing_from_elsewhere(path: str, client: httpx.Client) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "http" not in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff" and "server" not in headers
    assert headers["x-frame-options"] == "DENY" and headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["/page/../service.py", "/page/%2e%2e/service.py", "/page/..%2fservice.py", "/page//etc/passwd"]
)
def test_nothing_outside_the_page_is_served(path: str, server: Running) -> None:
    with httpx.Client(trust_env=False) as client:
        asked = httpx.Request("GET", server.url)
        asked.url = httpx.URL(server.url).copy_with(raw_path=path.encode())
        assert client.send(asked).status_code == 404
