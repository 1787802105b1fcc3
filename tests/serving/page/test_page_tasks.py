"""Every task that a server offers is done on the page, on pictures of the World."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from imglish.inference.index import SearchIndex
from imglish.inference.index_identity import model_identity
from imglish.inference.predictor import Predictor
from imglish.inference.samples import draw_samples
from tests.serving.page.conftest import Visit
from tests.serving.tiny_server import Running, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def searching(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The tiny runs, which do everything, with the index of a folder."""
    with running(runs, index=indexed(runs, tmp_path_factory.mktemp("index"))) as found:
        yield found


def indexed(source: Path | str, root: Path) -> Path:
    """The index of a folder of the World's pictures."""
    (root / "scenes").mkdir()
    for sample in draw_samples(20, seed=1):
        (root / "scenes" / f"{sample.name}.png").write_bytes(sample.png)
    predictor = Predictor(source)
    index = SearchIndex.create(root / "scenes.sqlite", root / "scenes", model_identity(predictor))
    index.update(predictor)
    return root / "scenes.sqlite"


def look_at(page: Page, name: str) -> None:
    page.locator("#samples").get_by_role("button", name=name).click()
    expect(page.locator("#picture-name")).to_contain_text(name)
    expect(page.locator("#look-panel .told")).to_contain_text("queued")


def ask(page: Page, field: str, words: str, answers: str) -> None:
    page.fill(field, words)
    page.press(field, "Enter")
    expect(page.locator(answers).first).to_be_visible()


def test_one_request_brings_all_that_is_asked_of_every_picture(searching: Running, visit: Visit) -> None:
    page = visit(searching.url)
    expect(page.locator("#intro li")).to_have_count(8)
    with page.expect_response("**/v1/predict") as answered:
        look_at(page, "world-03")
    result = answered.value.json()["result"]
    assert set(result) == {"caption", "classify", "detect", "segment", "panoptic"}
    assert page.locator("#caption blockquote").inner_text() == result["caption"]["caption"]
    best = result["classify"]["classes"][0]["name"]
    assert page.locator("#classify .name").all_inner_texts()[0] == best
    for task, found in (
        ("segment", result["segment"]["classes"]),
        ("panoptic", result["panoptic"]["segments"]),
    ):
        assert found and page.locator(f"#{task} li").count() == len(found)
        assert page.locator(f"[data-layer={task}] .mark").count() == len(found)


def test_objects_below_the_least_score_are_put_away(searching: Running, visit: Visit) -> None:
    page = visit(searching.url)
    with page.expect_response("**/v1/predict") as answered:
        look_at(page, "world-03")
    scores = sorted(one["score"] for one in answered.value.json()["result"]["detect"]["objects"])
    assert scores and scores[0] >= 0.1
    rows = page.locator("#detect li:visible")
    marks = page.locator("[data-layer=detect] .mark:not(.off)")
    for least in (0.1, 0.3, 0.95):
        page.locator("#min-score").fill(str(least))
        expect(page.locator("#min-score-told")).to_have_text(f"{least:.2f}")
        left = sum(score >= least for score in scores)
        expect(rows).to_have_count(left)
        expect(marks).to_have_count(left)


def test_layers_and_marks_are_switched_and_lit(searching: Running, visit: Visit) -> None:
    page = visit(searching.url)
    look_at(page, "world-03")
    shown = page.locator("[data-layer=segment] .mark:not(.off)")
    lit, tag = page.locator("[data-layer=segment] .mark.lit"), page.locator("#tags .lit")
    assert shown.count() == 0  # objects are shown first
    page.locator("#segment li").first.hover()
    assert lit.is_visible()  # but what is lit is shown
    expect(tag).to_contain_text(page.locator("#segment .name").first.inner_text())
    page.mouse.move(0, 0)
    expect(lit).to_have_count(0)
    rows = page.locator("#segment li").count()
    page.get_by_role("checkbox", name="Regions", exact=True).check()
    assert shown.count() == rows
    page.get_by_role("checkbox", name="Objects", exact=True).uncheck()
    assert page.locator("[data-layer=detect] .mark:not(.off)").count() == 0
    page.locator("#shown").scroll_into_view_if_needed()
    place = page.locator("#shown").bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    expect(page.locator("#segment li.lit")).to_have_count(1)  # every pixel has a class
    page.locator("#segment input").first.uncheck()
    assert shown.count() == rows - 1


def test_everything_that_is_asked_in_words(searching: Running, visit: Visit) -> None:
    page = visit(searching.url)
    look_at(page, "world-02")
    ask(page, "#question", "what colour is the star?", "#answer li")
    expect(page.locator("#answer-panel .told")).to_contain_text("computed")
    ask(page, "#names", "a red star, a blue fish, a dog", "#named li")
    assert page.locator("#named li").count() == 3
    page.fill("#statement", "Both pictures show a star.")
    page.press("#statement", "Enter")
    expect(page.locator("#judge-panel .failure")).to_contain_text("Choose the right picture.")
    page.select_option("#right-sample", "world-05")
    expect(page.locator("#right-thumb img")).to_be_visible()
    ask(page, "#statement", "Both pictures show a star.", "#judged b")
    assert page.locator("#judged b").inner_text() in ("True", "False")


def test_the_folder_is_searched_by_words_and_by_the_picture(searching: Running, visit: Visit) -> None:
    page = visit(searching.url)
    expect(page.locator("#search-folder")).to_have_text("scenes · 20 pictures")
    page.click("#search-like")
    expect(page.locator("#search-panel .failure")).to_contain_text("Choose a picture first.")
    ask(page, "#search-text", "a red star", "#found img")
    expect(page.locator("#found li")).to_have_count(12)
    look_at(page, "world-02")
    with page.expect_response("**/v1/search") as answered:
        page.click("#search-like")
    paths = [match["path"] for match in answered.value.json()["result"]["matches"]]
    expect(page.locator("#found .name").first).to_have_text(paths[0])
    page.locator("#found button").first.click()  # a match becomes the picture
    expect(page.locator("#picture-name")).to_contain_text(paths[0])
    expect(page.locator("#look-panel .told")).to_contain_text("queued")


def test_what_the_weights_cannot_do_is_not_offered(runs: Path, visit: Visit) -> None:
    with running(runs / "retrieval") as server:
        page = visit(server.url)
        expect(page.locator("#absent li")).to_have_count(8)  # all but words of your own, and no index
        expect(page.locator("#absent")).to_contain_text("Questions: these weights have no head for answers.")
        expect(page.locator("#absent")).to_contain_text("imglish serve --index")
        page.locator("#samples button").first.click()
        expect(page.locator("#picture-name")).to_contain_text("world-01")
        assert page.locator(".right .card:visible h3").all_inner_texts() == ["Words of your own"]
        assert not page.locator("#search").is_visible()


def test_the_world_model_answers_about_its_world(visit: Visit, tmp_path: Path) -> None:
    with running("world", index=indexed("world", tmp_path)) as server:
        abilities = httpx.get(f"{server.url}/v1/model", trust_env=False).json()["abilities"]
        page = visit(server.url)
        expect(page.locator("#notice")).to_contain_text("World")
        page.click("#open-card")
        expect(page.locator("#card h3").first).to_have_text("The World model")
        page.keyboard.press("Escape")
        expect(page.locator("#card")).to_be_hidden()
        assert {"caption", "answer", "classify", "embed", "segment", "detect"} <= set(abilities)
        look_at(page, "world-01")
        assert page.locator("#caption blockquote").inner_text().split()
        expect(page.locator("#detect li").filter(visible=True).first).to_be_visible()
        expect(page.locator("#segment li").first).to_be_visible()
        expect(page.locator("#classify li")).to_have_count(5)
        page.click("#answer-form button")
        expect(page.locator("#answer li")).to_have_count(3)
        ask(page, "#names", "a fish, a star, a house", "#named li")
        ask(page, "#search-text", "a red star", "#found img")
