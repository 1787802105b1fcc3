"""Whatever cannot be answered is refused with a reason, and the server goes on."""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from imglish.cli.serve import own_names
from imglish.serving.run import bind
from imglish.serving.settings import MOST_CLASSES, MOST_TEXTS
from tests.inference.tiny_weights import write_run
from tests.serving.tiny_server import PATIENCE, Running, black, form, picture, running, small_limits

PICTURE = picture()
LONG = "a" * 1001


def headed(height: int, width: int) -> bytes:
    """A PNG file whose header promises pixels that never come."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b""), b"IEND")
    written = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


PICTURES: dict[str, tuple[bytes, int, str, str]] = {
    "empty": (b"", 422, "picture_empty", "the picture is empty"),
    "a text": (b"Dear Sir or Madam", 415, "picture_type", "expected PNG, JPEG"),
    "a PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "picture_type", "expected"),
    "cut short": (PICTURE[: len(PICTURE) // 2], 422, "picture_damaged", "does not decode"),
    "damaged": (PICTURE[:60] + b"x" * 20 + PICTURE[80:], 422, "picture_damaged", "does not decode"),
    "header only": (headed(40, 40), 422, "picture_damaged", "does not decode"),
    "half a header": (PICTURE[:20], 422, "picture_damaged", "is damaged"),
    "half a WebP": (b"RIFF\x24\0\0\0WEBPVP8 ", 422, "picture_damaged", "is damaged"),
    "one pixel": (picture(1, 1), 422, "picture_small", "1 high and 1 wide; expected at least 8"),
    "a line": (picture(8, 300), 422, "picture_long", "8 high and 300 wide"),
    "too many pixels": (black(600, 700), 413, "picture_pixels", "600 high and 700 wide; expected at most"),
    "a bomb": (black(9000, 9000), 413, "picture_pixels", "9000 high and 9000 wide"),
    "200 megapixels": (headed(10_000, 20_000), 413, "picture_pixels", "far too many pixels"),
    "too many bytes": (b"\x89PNG" + bytes(200_001), 413, "too_large", "may have 200,000 bytes"),
}  # fmt: skip


def refused(asked: httpx.Response, status: int, code: str, message: str) -> None:
    """Check that an answer is an error with one clear sentence."""
    assert asked.status_code == status, asked.text
    error = asked.json()["error"]
    assert set(asked.json()) == {"error"} and set(error) == {"code", "message"}
    assert error["code"] == code and message in error["message"], error
    assert "\n" not in error["message"] and len(error["message"]) < 400 and "Traceback" not in asked.text


def fine(client: httpx.Client) -> None:
    """Check that the server lives."""
    assert client.post("/v1/caption", **form(picture=PICTURE)).status_code == 200


@pytest.mark.parametrize("name", PICTURES)
def test_bad_pictures_are_refused(name: str, client: httpx.Client) -> None:
    data, *expected = PICTURES[name]
    refused(client.post("/v1/caption", **form(picture=data)), *expected)
    if data:
        body = {"picture": base64.b64encode(data).decode()}
        refused(client.post("/v1/detect", json=body), *expected)
    asked = client.post("/v1/judge", **form(left=PICTURE, right=data, statement="a"))
    refused(asked, expected[0], expected[1], expected[2].replace("the picture", "the right picture"))
    fine(client)


FIELDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no question": ("answer", {}, "the field 'question' is missing"),
    "an empty question": ("answer", {"question": "  "}, "the field 'question' is wrong"),
    "a long question": ("answer", {"question": LONG}, "is wrong: string should have at most"),
    "no number": ("answer", {"question": "a", "num_answers": "x"}, "the field 'num_answers' is wrong"),
    "no answers": ("answer", {"question": "a", "num_answers": 0}, "greater than or equal to 1"),
    "many answers": ("answer", {"question": "a", "num_answers": 101}, "less than or equal to 100"),
    "true": ("answer", {"question": "a", "num_answers": True}, "the field 'num_answers' is wrong"),
    "a list": ("answer", {"question": ["a", "b"]}, "the field 'question' is wrong"),
    "unknown": ("caption", {"prompt": "a"}, "there is no field 'prompt' here"),
    "equal classes": ("classify", {"classes": ["a", "a"]}, "the field 'classes' is wrong"),
    "an empty class": ("classify", {"classes": ["a", ""]}, "the field 'classes.1' is wrong"),
    "many classes": ("classify", {"classes": [f"{n}" for n in range(MOST_CLASSES + 1)]}, "'classes'"),
    "no texts": ("match", {"texts": []}, "the field 'texts' is wrong"),
    "many texts": ("match", {"texts": ["a"] * (MOST_TEXTS + 1)}, "the field 'texts' is wrong"),
    "a long text": ("match", {"texts": ["a", LONG]}, "the field 'texts.1' is wrong"),
    "true as a score": ("detect", {"min_score": True}, "the field 'min_score' is wrong"),
    "score of 2": ("detect", {"min_score": 2}, "the field 'min_score' is wrong"),
    "picture and text": ("embed", {"text": "a"}, "there is no field 'text' here"),
    "no tasks": ("predict", {"tasks": {}}, "the field 'tasks' is wrong"),
    "unknown task": ("predict", {"tasks": {"paint": {}}}, "there is no task 'paint' here"),
    "two pictures": ("predict", {"tasks": {"judge": {"statement": "a"}}}, "there is no task 'judge' here"),
    "a task's field": ("predict", {"tasks": {"answer": {}}}, "the field 'answer.question' is missing"),
    "tasks as a list": ("predict", {"tasks": ["caption"]}, "the field 'tasks' is wrong"),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_bad_fields_are_refused(name: str, client: httpx.Client) -> None:
    path, fields, message = FIELDS[name]
    body = {"picture": base64.b64encode(PICTURE).decode(), **fields}
    refused(client.post(f"/v1/{path}", json=body), 422, "field_wrong", message)


BODIES: dict[str, tuple[bytes, str, int, str, str]] = {
    "nothing": (b"", "application/json", 422, "json_wrong", "the request is not JSON"),
    "no JSON": (b'{"picture": ', "application/json", 422, "json_wrong", "the request is not JSON"),
    "no UTF-8": (b'{"picture": "\xff"}', "application/json", 422, "json_wrong", "the request is not JSON"),
    "not a number": (b'{"min_score": NaN}', "application/json", 422, "json_wrong", "the request is not JSON"),
    "nested": (b"[" * 100_000, "application/json", 422, "json_wrong", "nested too deep"),
    "a list": (b"[]", "application/json", 422, "json_wrong", "no JSON object"),
    "no picture": (b"{}", "application/json", 422, "picture_missing", "the picture is missing"),
    "a number": (b'{"picture": 7}', "application/json", 422, "field_wrong", "expected a text in base64"),
    "a path": (b'{"picture": "/etc/passwd"}', "application/json", 422, "picture_", ""),
    "an address": (b'{"picture": "http://a.b/c.png"}', "application/json", 422, "field_wrong", "not base64"),
    "no boundary": (b"--a\r\n", "multipart/form-data", 422, "form_wrong", "boundary"),
    "no form": (b"hello", "multipart/form-data; boundary=a", 422, "form_wrong", "cannot be read"),
    "a half form": (
        b'--a\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\nabc',
        "multipart/form-data; boundary=a", 422, "picture_missing", "the picture is missing",
    ),
    "a text for a file": (
        b'--a\r\nContent-Disposition: form-data; name="picture"\r\n\r\n/etc/passwd\r\n--a--\r\n',
        "multipart/form-data; boundary=a", 422, "field_wrong", "expected one file",
    ),
    "another type": (b"a=b", "application/x-www-form-urlencoded", 415, "body_type", "multipart/form-data"),
    "a bare picture": (PICTURE, "image/png", 415, "body_type", "multipart/form-data"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_are_refused(name: str, client: httpx.Client) -> None:
    data, kind, status, code, message = BODIES[name]
    asked = client.post("/v1/detect", content=data, headers={"Content-Type": kind})
    if name == "a path":  # happens to be base64, of no picture; nothing of the file is told
        assert asked.status_code in (415, 422) and "root" not in asked.text
        return
    refused(asked, status, code, message)
    fine(client)


def test_files_where_there_should_be_none_are_refused(client: httpx.Client) -> None:
    given = form(picture=PICTURE, question=PICTURE)
    refused(client.post("/v1/answer", **given), 422, "form_wrong", "Too many files")
    given = form(question=PICTURE)
    refused(client.post("/v1/answer", **given), 422, "field_wrong", "'question' takes no file")
    twice = [("picture", ("a", PICTURE)), ("picture", ("b", PICTURE))]
    refused(client.post("/v1/judge", files=twice), 422, "field_wrong", "no file here")
    left_twice = [("left", ("a", PICTURE)), ("left", ("b", PICTURE))]
    refused(client.post("/v1/judge", files=left_twice), 422, "field_wrong", "expected one file")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/caption", 405), ("POST", "/v1/paint", 404)]
)
def test_other_paths_are_refused(method: str, path: str, status: int, client: httpx.Client) -> None:
    code = {404: "not_found", 405: "method_wrong"}[status]
    refused(client.request(method, path), status, code, "see /openapi.json")


def test_search_without_an_index_is_refused(client: httpx.Client) -> None:
    refused(client.post("/v1/search", json={"text": "a"}), 404, "no_index", "--index")
    refused(client.get("/v1/search/picture", params={"path": "a.png"}), 404, "no_index", "--index")


# Bodies without an end


def read_answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the answer; the server closes the connection after it."""
    data = b""
    while part := connection.recv(65_536):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
def connection(server: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as opened:
        yield opened


POST = b"POST /v1/caption HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=a\r\n"


def test_a_body_that_says_it_is_too_large_is_refused_unread(connection: socket.socket) -> None:
    connection.sendall(POST + b"Content-Length: 100000000000\r\n\r\n")
    status, answer = read_answer(connection)  # though nothing of it was sent
    assert status == 413 and answer["error"]["code"] == "too_large"


def test_a_body_without_an_end_is_refused_while_it_comes(server: Running, connection: socket.socket) -> None:
    connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    head = b'--a\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
    connection.sendall(b"%x\r\n%s\r\n" % (len(head), head))
    chunk = b"%x\r\n%s\r\n" % (65_536, bytes(65_536))
    sent = 0
    connection.setblocking(False)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and sent < 500_000_000:
        try:
            sent += connection.send(chunk * 4)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            break  # the server has closed the connection
    assert sent < 500_000_000 and time.monotonic() < until
    seen = 'imglish_requests_total{method="POST",path="/v1/caption",status="413"}'
    assert server.metric(seen) >= 1 and server.metric("imglish_body_bytes") == 0


def test_who_goes_away_leaves_nothing_behind(server: Running, connection: socket.socket) -> None:
    connection.sendall(POST + b"Content-Length: 1000\r\n\r\n--a\r\n")
    while not server.metric("imglish_body_bytes"):
        time.sleep(0.01)
    connection.close()
    until = time.monotonic() + PATIENCE
    while server.metric("imglish_requests_inside") and time.monotonic() < until:
        time.sleep(0.02)
    assert server.metric("imglish_requests_inside") == server.metric("imglish_body_bytes") == 0
    assert server.metric('imglish_requests_total{method="POST",path="/v1/caption",status="499"}') >= 1


@contextmanager
def unfinished(server: Running, size: int) -> Iterator[None]:
    """A question of which so many bytes have come, and the rest does not."""
    head = b'--a\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
    before = server.metric("imglish_body_bytes")
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as opened:
        opened.sendall(POST + b"Content-Length: 1000000\r\n\r\n" + head + bytes(size))
        wait_for(lambda: server.metric("imglish_body_bytes") == before + len(head) + size)
        yield
    wait_for(lambda: server.metric("imglish_body_bytes") == before)


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_as_many_are_inside_as_the_queue_takes_and_no_more_bytes_than_may_be_held(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    limits = small_limits(queue=2, bytes_in_flight=400_000)
    heavy = form(picture=b"\x89PNG" + bytes(160_000))
    with running(tmp_path / "run", limits=limits) as server, server.client() as client:
        with unfinished(server, 10):
            fine(client)  # the second of two
            with unfinished(server, 10):
                asked = client.post("/v1/caption", **form(picture=PICTURE))
                refused(asked, 503, "busy", "as many questions as the server takes")
                assert asked.headers["retry-after"] == "1"
            fine(client)
        with unfinished(server, 250_000):
            fine(client)
            refused(client.post("/v1/caption", **heavy), 503, "busy", "as many pictures as it can")
        refused(client.post("/v1/caption", **heavy), 422, "picture_damaged", "is damaged")


# What a server is told when it starts


def test_weights_that_cannot_do_it_are_named_with_others_that_could(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    with running(tmp_path / "run") as server, server.client() as client:
        assert client.get("/v1/model").json()["abilities"] == ["caption"]
        fine(client)
        for path, fields, weights in (
            ("answer", {"question": "a"}, "beit3_base_patch16_480_vqa"),
            ("classify", {}, "beit3_base_patch16_224_in1k"),
            ("classify", {"classes": "a,b"}, "beit3_base_patch16_384_coco_retrieval"),
            ("detect", {}, "detection"),
        ):
            asked = client.post(f"/v1/{path}", **form(picture=PICTURE, **fields))
            refused(asked, 422, "ability_missing", weights)
            assert str(tmp_path) not in asked.text  # strangers need not know where weights lie


def test_a_token_is_asked_for_below_v1(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    with running(tmp_path / "run", token="s3cret-token") as server, server.client() as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret-token"},
                        {"Authorization": "s3cret-token"}, {"Authorization": "Bearer s3cret-token2"},
                        {"Authorization": "Bearer"}):  # fmt: skip
            for path in ("/v1/model", "/v1/samples", "/v1/samples/world-01.png", "/v1/nowhere"):
                asked = client.get(path, headers=headers)
                refused(asked, 401, "token_wrong", "Authorization: Bearer TOKEN")
                assert asked.headers["www-authenticate"] == "Bearer"
            asked = client.post("/v1/caption", headers=headers, **form(picture=PICTURE))
            refused(asked, 401, "token_wrong", "Authorization: Bearer TOKEN")
        assert client.get("/health").status_code == client.get("/").status_code == 200
        right = {"Authorization": "bearer s3cret-token"}
        assert client.post("/v1/caption", headers=right, **form(picture=PICTURE)).status_code == 200


def test_a_strangers_name_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    with (
        running(tmp_path / "run", hosts=("localhost", "127.0.0.1", "::1")) as server,
        server.client() as client,
    ):
        for name in ("localhost", "LOCALHOST:8000", "127.0.0.1:80", "[::1]:8000", "[::1]"):
            assert client.get("/health", headers={"Host": name}).status_code == 200
        for name in (
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "[::2]:8000",
            "1:[::1]",
            "",
        ):
            refused(client.get("/v1/model", headers={"Host": name}), 421, "host_unknown", "--hosts")
            asked = client.post("/v1/caption", headers={"Host": name}, **form(picture=PICTURE))
            refused(asked, 421, "host_unknown", "--hosts")
        fine(client)


@pytest.mark.parametrize(
    ("host", "names"), [("127.0.0.1", ("localhost", "127.0.0.1")), ("0.0.0.0", ()), ("localhost", None)]
)
def test_a_server_of_this_machine_alone_has_its_own_names(host: str, names: tuple[str, ...] | None) -> None:
    with bind(host, 0) as bound:
        assert own_names(bound) == names or (names is None and own_names(bound)[0] == "localhost")


def test_what_comes_too_slowly_or_takes_too_long_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    limits = small_limits(seconds=0.3)
    with running(tmp_path / "run", limits=limits) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(POST + b"Content-Length: 100\r\n\r\n--a\r\n")
            status, answer = read_answer(connection)
            assert status == 408 and answer["error"]["code"] == "too_slow"
