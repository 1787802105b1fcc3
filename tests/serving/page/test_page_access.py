"""The page by keyboard alone, on a narrow screen, in light and dark, and without motion."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.serving.page.conftest import Visit
from tests.serving.tiny_server import Running

pytestmark = pytest.mark.slow

# The contrast of each visible text with what lies behind it, names on the picture among them, in the formula
# of WCAG 2.2.
_CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const drawing = canvas.getContext("2d", { willReadFrequently: true });
  const over = (colour, ground) => {
    drawing.fillStyle = `rgb(${ground})`;
    drawing.fillRect(0, 0, 1, 1);
    drawing.fillStyle = colour;
    drawing.fillRect(0, 0, 1, 1);
    return [...drawing.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (c) => (c <= 0.04045 * 255 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => element
    ? over(getComputedStyle(element).backgroundColor, ground(element.parentElement)) : [255, 255, 255];
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const unseen = !element.checkVisibility({ visibilityProperty: true });
    if (!node.data.trim() || unseen || element.closest("script, noscript, option")) continue;
    const behind = ground(element);
    const lights = [light(over(getComputedStyle(element).color, behind)) + 0.05, light(behind) + 0.05];
    found.push([node.data.trim(), Math.max(...lights) / Math.min(...lights)]);
  }
  return found;
}"""


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until something has the focus; what has it on the way must show it."""
    for _ in range(200):
        page.keyboard.press("Tab")
        shown = page.evaluate(
            """() => [document.activeElement, ...document.querySelectorAll(":focus-within")].some(
              (element) => getComputedStyle(element).outlineStyle !== "none")"""
        )
        assert shown, page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never comes to {selector}")


def test_everything_is_done_by_keyboard(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    expect(page.locator("#samples button")).to_have_count(12)
    tab_to(page, "#open-card, .choose")
    tab_to(page, "#samples button")
    page.keyboard.press("Enter")
    expect(page.locator("#caption blockquote")).to_be_visible()
    expect(page.locator("#live")).not_to_be_empty()

    tab_to(page, "#segment input")
    mark = page.locator("[data-layer=segment] .mark.lit")
    expect(mark).to_have_count(1)  # the row that has the focus lights its region
    page.keyboard.press("Space")
    assert not page.locator("#segment input").first.is_checked()
    page.keyboard.press("Escape")
    expect(mark).to_have_count(0)

    tab_to(page, "#names")
    page.keyboard.press("Enter")
    expect(page.locator("#names-panel .failure")).to_contain_text("at least two names")
    page.keyboard.type("a star, a fish")
    page.keyboard.press("Enter")
    expect(page.locator("#named li")).to_have_count(2)
    expect(page.locator("#live")).to_contain_text("Most like")


def test_controls_have_names(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.locator("#samples button").first.click()
    expect(page.locator("#segment li").first).to_be_visible()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([hidden]), select")].filter((element) =>
          !(element.labels?.length || element.getAttribute("aria-label") || element.textContent.trim()
            || element.title)).map((element) => element.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_screen(server: Running, visit: Visit, width: int) -> None:
    page = visit(server.url, viewport={"width": width, "height": 740}, has_touch=True, is_mobile=True)
    page.locator("#samples button").first.tap()
    expect(page.locator("#segment li").first).to_be_visible()
    page.fill("#names", "a star, " + "w" * 60)
    page.press("#names", "Enter")
    expect(page.locator("#named li")).to_have_count(2)
    wide = page.evaluate(
        """() => [...document.body.querySelectorAll("*")].filter((element) =>
          element.checkVisibility() && !element.closest(".unseen, #tags, .skip")
          && element.getBoundingClientRect().right > innerWidth + 1).map((element) => element.outerHTML)"""
    )
    assert wide == [] and page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("checkbox", name="Regions", exact=True).check()
    page.locator("#shown").scroll_into_view_if_needed()
    place = page.locator("#shown").bounding_box()
    assert place is not None
    page.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    expect(page.locator("#tags .lit")).to_have_count(1)  # no mouse hovers here


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_grounds(server: Running, visit: Visit, scheme: str) -> None:
    page = visit(server.url, color_scheme=scheme, reduced_motion="reduce")
    page.locator("#samples button").first.click()
    expect(page.locator("#segment li").first).to_be_visible()
    page.press("#names", "Enter")
    expect(page.locator("#names-panel .failure p")).to_be_visible()
    page.evaluate("document.getElementById('token-form').hidden = false")
    found = page.evaluate(_CONTRAST)
    assert len(found) > 30
    assert [(text, ratio) for text, ratio in found if ratio < 4.5] == []  # AA for texts of any size
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(c) for c in ground[4:-1].split(",")) < 200) is (scheme == "dark")


def test_nothing_moves_for_those_who_want_it_so(server: Running, visit: Visit) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        page = visit(server.url, reduced_motion=motion)
        page.route("**/v1/predict", lambda route: None)  # never answered: the page waits
        page.locator("#samples button").first.click()
        expect(page.locator("#answers[aria-busy=true]")).to_have_count(1)
        assert (page.evaluate("document.getAnimations().length") > 0) is moves
