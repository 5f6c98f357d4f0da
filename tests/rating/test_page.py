"""The real page in a headless browser, by real key presses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saliency_gan.config import RateConfig
from tests.rating.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is driven in Chromium, which is not installed")

SHOWN = "document.getElementById('{}').checkVisibility()"


def shown(browser: Browser, part: str) -> bool:
    return browser.evaluate(SHOWN.format(part))


def text(browser: Browser, part: str) -> str:
    return browser.evaluate(f"document.getElementById('{part}').textContent")


def looking_at(browser: Browser, position: int) -> None:
    """Waits until the sheet of a position is on the screen."""
    browser.wait(f"typeof ready === 'boolean' && ready && position === {position}")


def answers(config: RateConfig, rater: str) -> list[dict[str, Any]]:
    return json.loads((config.run / "rating" / "raters" / f"{rater}.json").read_text())["answers"]


def told(answer: dict[str, Any]) -> tuple[bool, bool, str]:
    return answer["consistent"], answer["one_factor"], answer["name"]


def test_a_person_rates_with_the_keyboard(serve, config: RateConfig, tmp_path: Path) -> None:
    config = replace(config, learned=2, random=1, coordinate=1)
    with Browser(tmp_path / "profile") as browser:
        browser.open(serve(config).url)
        browser.wait("document.readyState === 'complete'")
        browser.wait(SHOWN.format("welcome"))
        assert text(browser, "total") == "4" and not shown(browser, "study")

        browser.press(*"a/n", "Enter")
        browser.wait(SHOWN.format("error"))
        assert "letters, digits" in text(browser, "error")
        browser.press("Backspace", "Backspace", *"nn", "Enter")

        looking_at(browser, 0)
        assert not shown(browser, "error") and text(browser, "count") == "0 of 4 answered"
        axis = browser.evaluate("[...document.querySelectorAll('#axis span')].map((one) => one.textContent)")
        assert axis == ["\u22128", "\u22126", "\u22124", "\u22122", "0", "+2", "+4", "+6", "+8"]
        assert browser.evaluate("[sheet.naturalWidth, sheet.naturalHeight]") == [9 * 18 - 2, 3 * 18 - 2]
        browser.press(" ")
        looking_at(browser, 1)
        browser.press("1", "2", "2", " ")
        looking_at(browser, 2)
        assert not shown(browser, "naming")
        browser.press("1", "2")
        assert shown(browser, "naming")
        browser.press("n", *"size 12", "Enter")
        looking_at(browser, 3)
        assert browser.evaluate("[isYes('consistent'), isYes('one_factor'), label.value]") == [False, False, ""]
        assert [told(answer) for answer in answers(config, "ann")] == [
            (False, False, ""), (True, False, ""), (True, True, "size 12")
        ]  # fmt: skip

        browser.press("Backspace")
        looking_at(browser, 2)
        assert browser.evaluate("[isYes('consistent'), isYes('one_factor'), label.value]") == [True, True, "size 12"]
        browser.press("2", " ")
        looking_at(browser, 3)
        assert told(answers(config, "ann")[2]) == (True, False, ""), "a name needs two yes"

        browser.call("Page.reload")
        browser.wait("document.readyState === 'complete'")
        looking_at(browser, 3)
        assert text(browser, "count") == "3 of 4 answered", "a reload goes on"

        browser.evaluate("document.getElementById('one_factor').click()")
        browser.evaluate("document.getElementById('one_factor').focus()")
        browser.press(" ")
        browser.wait(SHOWN.format("done"))
        assert told(answers(config, "ann")[3]) == (False, True, ""), "space saves, whatever has the focus"
        assert text(browser, "count") == "4 of 4 answered"
        browser.press("Backspace")
        looking_at(browser, 3)

        gone = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        browser.call("Network.enable")
        browser.call("Network.emulateNetworkConditions", **gone)
        browser.press("1", " ")
        browser.wait(SHOWN.format("error"))
        assert "still running" in text(browser, "error") and shown(browser, "study")
        browser.call("Network.emulateNetworkConditions", **gone | {"offline": False})
        browser.press(" ")
        browser.wait(SHOWN.format("done"))
        assert not shown(browser, "error")
        assert told(answers(config, "ann")[3]) == (True, True, ""), "nothing was lost meanwhile"


def test_the_next_sheets_are_drawn_ahead_and_all_fits_on_a_small_screen(
    serve, config: RateConfig, tmp_path: Path
) -> None:
    server = serve(replace(config, rater="bob", samples=10))
    asked: list[int] = []
    sheet = server.session.sheet
    server.session.sheet = lambda rater, position: asked.append(position) or sheet(rater, position)
    with Browser(tmp_path / "profile") as browser:
        browser.open(server.url)
        browser.wait("document.readyState === 'complete'")
        looking_at(browser, 0)
        browser.wait("prefetched.length === 2 && prefetched.every((image) => image.complete)")
        assert asked == [0, 1, 2]
        browser.press(" ")
        looking_at(browser, 1)
        browser.wait("prefetched.length === 2 && prefetched.every((image) => image.complete)")
        assert asked == [0, 1, 2, 3], "what was drawn ahead is not asked for again"
        browser.press("1", "2")
        width, height = browser.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert width <= 1280 and height <= 800, "no scrolling"
        for theme in ("light", "dark"):
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            colours = browser.evaluate(
                "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])"
            )
            page, ink = (sum(int(part) for part in colour[4:-1].split(",")) for colour in colours)
            assert abs(page - ink) > 500 and (page > ink) == (theme == "light")
