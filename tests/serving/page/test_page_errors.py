"""Whatever goes wrong is told beside what caused it, and nothing of the visitor's is lost."""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import FilePayload, Page, Route, expect

from tests.serving.page.conftest import Visit
from tests.serving.tiny_server import Running, running, small_limits

pytestmark = pytest.mark.slow

TIMES = "\N{MULTIPLICATION SIGN}"


def picture(height: int, width: int, name: str = "noise.png") -> FilePayload:
    """Noise, which no format makes small."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def failure(page: Page, panel: str) -> str:
    told = page.locator(f"#{panel}-panel .failure p")
    expect(told).to_be_visible()
    return told.inner_text()


def look_at_a_sample(page: Page, number: int = 0) -> None:
    page.locator("#samples button").nth(number).click()
    expect(page.locator("#caption blockquote")).to_be_visible()


def test_files_that_are_no_pictures_are_refused_in_words(server: Running, visit: Visit) -> None:
    page, whole = visit(server.url), picture(64, 64)["buffer"]
    for name, content, words in [
        ("empty.png", b"", "empty.png: is empty"),
        ("notes.png", b"hello", "notes.png: the picture is no picture that is taken"),
        ("small.png", picture(2, 2)["buffer"], "small.png: the picture is 2 high and 2 wide"),
        ("cut.png", whole[: len(whole) // 2], "cut.png: the picture: does not decode"),
    ]:
        file: FilePayload = {"name": name, "mimeType": "image/png", "buffer": content}
        page.set_input_files("#file", files=[file])
        expect(
            page.locator("#intake-panel .failure, #look-panel .failure").filter(has_text=words)
        ).to_be_visible()


def test_a_picture_above_the_limit_is_made_smaller_and_that_is_said(runs: Path, visit: Visit) -> None:
    with running(runs / "captioning", limits=small_limits(bytes=60_000, pixels=30_000)) as server:
        page = visit(server.url)
        expect(page.locator("#samples button")).to_have_count(12)
        page.set_input_files("#file", files=[picture(150, 600)])
        expect(page.locator("#caption blockquote")).to_be_visible()
        note, name = page.locator("#picture-note"), page.locator("#picture-name")
        expect(note).to_contain_text(f"noise.png has 600 {TIMES} 150 pixels and 0.3 MB, more than the")
        width, height = (int(word) for word in name.inner_text().split(" · ")[1].split(f" {TIMES} "))
        assert width * height <= 30_000 and width / height == pytest.approx(4, rel=0.02)  # whole pixels
        page.set_input_files("#file", files=[picture(64, 64)])
        expect(name).to_contain_text(f"64 {TIMES} 64")
        assert not note.is_visible()


def test_a_file_that_the_browser_cannot_show_is_looked_at_all_the_same(server: Running, visit: Visit) -> None:
    page, buffer = visit(server.url), io.BytesIO()
    Image.fromarray(np.zeros((40, 80, 3), dtype=np.uint8)).save(buffer, "TIFF")
    scan: FilePayload = {"name": "scan.tiff", "mimeType": "image/tiff", "buffer": buffer.getvalue()}
    page.set_input_files("#file", files=[scan])
    expect(page.locator("#picture-note")).to_contain_text("cannot show the file")
    expect(page.locator("#caption blockquote")).to_be_visible()
    expect(page.locator("#look-panel .told")).to_contain_text("queued")
    assert page.locator("#marks").get_attribute("viewBox") == "0 0 80 40"
    assert not page.locator("#shown").is_visible()


def test_a_picture_that_a_camera_turned_is_upright_with_its_marks(server: Running, visit: Visit) -> None:
    page, buffer, turned = visit(server.url), io.BytesIO(), Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # to be shown turned by a quarter
    Image.fromarray(np.zeros((40, 80, 3), dtype=np.uint8)).save(buffer, "JPEG", exif=turned)
    photo: FilePayload = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    page.set_input_files("#file", files=[photo])
    expect(page.locator("#picture-name")).to_contain_text(f"40 {TIMES} 80")
    expect(page.locator("#caption blockquote")).to_be_visible()
    assert page.locator("#marks").get_attribute("viewBox") == "0 0 40 80"  # of the server


def test_a_network_that_is_gone_loses_nothing(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    look_at_a_sample(page)
    page.fill("#names", "a star, a fish")
    page.context.set_offline(True)
    page.press("#names", "Enter")
    assert "cannot be reached" in failure(page, "names")
    assert page.input_value("#names") == "a star, a fish" and page.locator("#caption blockquote").is_visible()
    page.locator("#samples button").nth(1).click()
    assert "cannot be reached" in failure(page, "look")
    expect(page.locator("#picture-name")).to_contain_text("world-02")
    assert page.locator("#shown").is_visible()
    page.context.set_offline(False)
    page.locator("#look-panel").get_by_role("button", name="Try again").click()
    expect(page.locator("#caption blockquote")).to_be_visible()
    page.press("#names", "Enter")
    expect(page.locator("#named li")).to_have_count(2)


def test_a_full_queue_asks_to_try_again(runs: Path, visit: Visit) -> None:
    with running(runs / "retrieval", limits=small_limits(queue=1)) as server:
        page = visit(server.url)
        page.locator("#samples button").first.click()
        page.fill("#names", "a star, a fish")
        with socket.create_connection(("127.0.0.1", server.port)) as other:  # a question that does not end
            other.sendall(
                b"POST /v1/embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            while not server.metric("imglish_requests_inside"):
                time.sleep(0.05)
            page.press("#names", "Enter")
            assert "Try again in 1 s." in failure(page, "names")
        page.locator("#names-panel").get_by_role("button", name="Try again").click()
        expect(page.locator("#named li")).to_have_count(2)


def test_a_token_is_asked_for_and_kept_for_the_tab_only(runs: Path, visit: Visit) -> None:
    with running(runs / "captioning", token="open-sesame") as server:
        page = visit(server.url)
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-wrong")).to_contain_text("token")
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("open-sesame")
        page.keyboard.press("Enter")
        look_at_a_sample(page)
        assert not page.locator("#token-form").is_visible()
        assert page.evaluate("Object.values(sessionStorage)") == ["open-sesame"]
        assert page.evaluate("localStorage.length") == 0 and page.context.cookies() == []
        page.reload()
        look_at_a_sample(page)


def test_a_newer_picture_outdates_the_answer_to_an_older_one(server: Running, visit: Visit) -> None:
    page, held = visit(server.url), list[Route]()
    page.route("**/v1/predict", lambda route: route.continue_() if held else held.append(route))
    expect(page.locator("#samples button")).to_have_count(12)
    with page.expect_event("requestfailed") as stopped:
        page.locator("#samples button").nth(0).click()
        expect(page.locator("#picture-name")).to_contain_text("world-01")
        page.locator("#samples button").nth(1).click()
    assert stopped.value.url.endswith("/v1/predict")
    expect(page.locator("#picture-name")).to_contain_text("world-02")
    expect(page.locator("#caption blockquote")).to_be_visible()
    assert page.locator("#look-panel .failure p").count() == 0


def test_escape_stops_what_runs_and_it_can_be_begun_again(server: Running, visit: Visit) -> None:
    page, held = visit(server.url), list[Route]()
    page.route("**/v1/predict", lambda route: route.continue_() if held else held.append(route))
    page.locator("#samples button").first.click()
    expect(page.locator("#look-panel .told")).to_contain_text("Escape stops")
    page.keyboard.press("Escape")
    assert failure(page, "look") == "Stopped."
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#caption blockquote")).to_be_visible()


NO_SENSE = {
    "no JSON": ("<html>", "The server's answer broke off or is no JSON."),
    "no mask": (
        '{"result": {"segment": {"names": ["sky"], '
        '"classes": [{"name": "sky", "share": 1, "mask": {"size": [2, 2], "counts": "5"}}]}}}',
        "The page could not show the answer: a mask does not have 2 x 2 pixels",
    ),
}


@pytest.mark.parametrize("kind", NO_SENSE)
def test_an_answer_that_makes_no_sense_is_told(server: Running, visit: Visit, kind: str) -> None:
    page, (body, words) = visit(server.url), NO_SENSE[kind]
    page.route("**/v1/predict", lambda route: route.fulfill(status=200, body=body))
    page.locator("#samples button").first.click()
    expect(page.locator("#look-panel .failure")).to_contain_text(words)
    assert page.locator("#shown").is_visible()


def test_names_of_files_and_words_of_the_server_stay_text(server: Running, visit: Visit) -> None:
    page, evil = visit(server.url), "<img src=x onerror=alert(1)>"
    mark = {"name": evil, "share": 1, "mask": {"size": [2, 2], "counts": "04"}}
    answer = {"caption": {"caption": evil}, "segment": {"names": [evil], "classes": [mark]}}
    page.route("**/v1/predict", lambda route: route.fulfill(json={"result": answer}))
    expect(page.locator("#samples button")).to_have_count(12)
    page.set_input_files("#file", files=[picture(64, 64, f"{evil}.png")])
    for place in ("#picture-name", "#caption", "#segment", "#tags"):
        expect(page.locator(place)).to_contain_text(evil)
    assert page.locator("img[src=x]").count() == 0


def test_a_dropped_or_pasted_picture_is_taken_and_a_link_is_not(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    give = """async ([type, event, kind]) => {
      const data = new DataTransfer();
      if (kind === "link") data.setData("text/uri-list", "http://example.invalid/a.png");
      else {
        const blob = await (await fetch("v1/samples/world-03.png")).blob();
        data.items.add(new File([blob], `${event}.png`, { type: "image/png" }));
      }
      const options = { bubbles: true, cancelable: true, [type]: data };
      const Kind = event === "paste" ? ClipboardEvent : DragEvent;
      document.body.dispatchEvent(new Kind(event, options));
    }"""
    page.evaluate(give, ["dataTransfer", "drop", "file"])
    expect(page.locator("#picture-name")).to_contain_text("drop.png")
    page.evaluate(give, ["clipboardData", "paste", "file"])
    expect(page.locator("#picture-name")).to_contain_text("paste.png")
    page.evaluate(give, ["dataTransfer", "drop", "link"])
    expect(page.locator("#intake-panel .failure")).to_contain_text("That was no file.")
    expect(page.locator("#picture-name")).to_contain_text("paste.png")
