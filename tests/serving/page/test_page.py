"""The page from end to end in a few seconds, with tiny weights behind a real server."""

from __future__ import annotations

from playwright.sync_api import FilePayload, expect

from tests.serving.page.conftest import Visit
from tests.serving.tiny_server import Running


def test_a_picture_is_looked_at_and_asked_about(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    expect(page.locator("#model-name")).to_have_text("Answers come from runs")
    page.locator("#samples button").first.click()
    expect(page.locator("#caption blockquote")).to_be_visible()
    expect(page.locator("#picture-name")).to_contain_text("world-01 · 64")
    expect(page.locator("#look-panel .told")).to_contain_text("runs · queued")
    marks = page.locator("[data-layer=detect] .mark:not(.off)")
    count = marks.count()
    assert count >= 1 and page.locator("#detect li:visible").count() == count
    page.locator("#detect input").first.uncheck()
    expect(marks).to_have_count(count - 1)

    page.press("#question", "Enter")  # the sample brought a question
    expect(page.locator("#answer li")).to_have_count(3)
    shares = [float(text.strip(" <>%")) for text in page.locator("#answer .value").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)

    notes: FilePayload = {"name": "<i>notes</i>.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.set_input_files("#file", files=[notes])
    expect(page.locator("#intake-panel .failure")).to_contain_text(
        "<i>notes</i>.txt: the picture is no picture"
    )
    expect(page.locator("#picture-name")).to_contain_text("world-01")  # the picture before it stays
    assert page.locator("#caption blockquote").is_visible()
