"""Accessibility: keyboard, screen readers (axe), light and dark, wide and narrow windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

axe = pytest.importorskip("axe_core_python", reason="the accessibility test needs axe: pip install 'ladle[dev]'")

VIEWS = {  # and what has to be there before it is looked at
    "": ".preview img",
    "models/classifier": ".bars li",
    "models/classifier/card": ".reports img",
    "models/half_plus_two/card": "dl.facts",
    "models/mood": ".read mark",
    "models/painter/generate": ".grid img",
    "models/autoencoder/explore": ".large img",
    "models/autoencoder/interpolate": ".way img",
    "models/autoencoder": ".pair img",
    "models/threshold": ".stage .layer",
    "models/half_plus_two": "svg.chart",
    "models/bowl": ".contours",
    "service": "svg.chart",
}
SETTLED = """
    const ends = (each) => Number.isFinite(each.effect.getComputedTiming().endTime);
    document.getAnimations().filter(ends).forEach((each) => each.finish());"""
CHECK = """
    const done = arguments[arguments.length - 1];
    axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
      .then(({ violations }) => violations.filter(({ impact }) => ["serious", "critical"].includes(impact)))
      .then((found) => found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 99)).join(" | ")}`))
      .then(done, (error) => done([String(error)]));"""


@pytest.fixture(scope="module")
def checker() -> str:
    return (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, checker: str, theme: str) -> None:
    page.theme(theme)
    page.open()
    page.run(checker)  # routes change the hash: the script stays
    found = {}
    for route, ready in VIEWS.items():
        page.run("location.hash = arguments[0]", f"#/{route}")
        page.wait(lambda ready=ready: page.all(ready))
        page.run(SETTLED)
        violations = page.driver.execute_async_script(CHECK)
        if violations:
            found[route] = violations
    page.theme("light")
    assert not found


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_view_is_wider_than_the_window_and_every_target_is_large_enough_for_a_finger(page: Any, width: int) -> None:
    page.size(width)
    page.open()
    wide, small = [], []
    for route, ready in VIEWS.items():
        page.run("location.hash = arguments[0]", f"#/{route}")
        page.wait(lambda ready=ready: page.all(ready))
        for way in page.all(".picker .choice input") or [None]:
            if way is not None:
                page.run("arguments[0].click()", way)
            if page.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                wide.append((route, way and way.get_attribute("value")))
        small += page.run(
            """const kinds = "button, .button, nav a, summary, input[type=range], input[type=number]";
            return [...document.querySelectorAll(kinds)]
            .filter((node) => node.offsetParent && node.getBoundingClientRect().height < 43.5)
            .map((node) => `${arguments[0]}: ${node.outerHTML.slice(0, 120)}`)""",
            route,
        )
    page.size(0)
    assert not wide
    assert not small


def test_dark_and_light_follow_the_system_and_the_readers_choice(page: Any) -> None:
    page.theme("dark")
    page.open()
    light = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part > 128)"
    page.wait(lambda: not page.run(light))
    button = page.one("#theme")
    assert button.get_attribute("aria-label") == "Theme: auto"
    button.send_keys(Keys.ENTER)
    page.wait(lambda: page.run(light))
    page.open("service")
    page.wait(lambda: page.run(light))  # it is remembered
    page.one("#theme", "light").send_keys(Keys.ENTER)
    page.theme("light")
    page.wait(lambda: not page.run(light))
    page.one("#theme", "dark").send_keys(Keys.ENTER)
    page.wait(lambda: page.run(light))


def test_a_model_is_found_drawn_for_and_asked_by_keys_alone(page: Any) -> None:
    page.open()
    page.one(".tile", "classifier")
    assert page.tab_to(".skip").text == "Skip to the content"
    page.press(Keys.ENTER)
    page.wait(lambda: page.run("return document.activeElement.id") == "main")
    page.tab_to(".tile[href$=classifier]")
    page.press(Keys.ENTER)
    page.one(".answer", "boot")
    page.wait(lambda: page.run("return document.activeElement.id") == "main")
    page.tab_to("input[value=samples]")
    page.press(Keys.ARROW_RIGHT)  # to Draw
    page.one("canvas.draw")
    page.tab_to("canvas.draw")
    page.press(*[Keys.ARROW_RIGHT] * 4, *[Keys.ARROW_UP] * 8, " ", *[Keys.ARROW_RIGHT] * 6, " ")
    page.one(".answer", "coat")
    assert "coat" in page.one(".out").find_element("css selector", "[role=status]").get_attribute("textContent")
    page.press("u")
    page.one(".blank", "Draw something")
    page.press(" ", *[Keys.ARROW_LEFT] * 6, " ")
    page.one(".answer", "coat")
    page.tab_to("input[value=curl]")
    page.press(Keys.ARROW_RIGHT)
    page.one(".code code", "from ladle import Client")


def test_the_focus_can_be_seen(page: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    hidden = []
    for _ in range(24):
        page.press(Keys.TAB)
        outline = """const at = document.activeElement, next = at.nextElementSibling;
            const shown = (node) => getComputedStyle(node).outlineStyle !== "none";
            return shown(at) || (next && shown(next)) ? "" : at.outerHTML.slice(0, 120);"""
        hidden.append(page.run(outline))
    assert not [each for each in hidden if each and not each.startswith("<body")]
