"""Accessibility: keyboard, screen readers (axe), light and dark, wide and narrow windows."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

axe = pytest.importorskip("axe_core_python", reason="the accessibility test needs axe: pip install 'ladle[dev]'")

READY = {  # what each view shows once it has its answer
    "classify": ".bars li",
    "gradients": ".heat",
    "sentiment": ".read mark",
    "neighbours": ".bars li",
    "segment": ".stage .layer",
    "generate": ".grid img",
    "reconstruct": ".pair img",
    "filter": ".pair img",
    "explore": ".large img",
    "interpolate": ".way img",
    "regress": ".answer, .several",
    "minimise": ".contours",
    "try": ".output",
    "card": ".cardview h2",
}
VIEWS_OF_ALL = """
    const done = arguments[arguments.length - 1];
    (async () => {
      const { viewsOf } = await import("/static/views.js");
      const { models } = await (await fetch("/api/v1/models")).json();
      const whole = await Promise.all(models.map(async ({ name }) => (await fetch(`/api/v1/models/${name}`)).json()));
      return whole.flatMap((model) => viewsOf(model).map((view) => [model.name, view]));
    })().then(done, (error) => done(String(error)));"""
SETTLED = """
    const ends = (each) => Number.isFinite(each.effect.getComputedTiming().endTime);
    document.getAnimations().filter(ends).forEach((each) => each.finish());"""
CHECK = """
    const [rules, done] = arguments;
    const all = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const quicker = { resultTypes: ["violations"], selectors: false, iframes: false, preload: false };
    axe.run(document, { runOnly: rules ? { type: "rule", values: rules } : all, ...quicker })
      .then(({ violations }) => violations.filter(({ impact }) => ["serious", "critical"].includes(impact)))
      .then((found) => found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 99)).join(" | ")}`))
      .then(done, (error) => done([String(error)]));"""
IS_WIDE = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
WIDE, NARROW = 1280, 390
SMALL = """
    const kinds = "button, .button, nav a, summary, select, input[type=range], input[type=number]";
    return [...document.querySelectorAll(kinds)]
      .filter((node) => node.offsetParent && node.getBoundingClientRect().height < 43.5)
      .map((node) => `small: ${node.outerHTML.slice(0, 120)}`)"""


@pytest.fixture(scope="module")
def checker() -> str:
    return (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def faults(page: Any, width: int) -> list[str]:
    """What is wrong with the view on the page: complaints of the browser and of axe, its width, its targets."""
    page.size(width)
    page.run(SETTLED)
    found = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    found += page.run(SMALL)
    # No width changes the colours: the dark ones are checked once. The other rules see no colours.
    for theme, rules in ([("dark", ["color-contrast"])] if width == WIDE else []) + [("light", None)]:
        page.theme(theme)
        page.run(SETTLED)
        found += page.driver.execute_async_script(CHECK, rules)
    for way in page.all(".picker .choice input") or [None]:
        if way is not None:
            page.run("arguments[0].click()", way)
        if page.run(IS_WIDE):
            found.append(f"wider than the window {(way and way.get_attribute('value')) or ''}")
    return found


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_every_view_of_every_task_fits_and_is_accessible(page: Any, checker: str, width: int) -> None:
    page.size(width)
    page.open()
    page.run(checker)  # routes change the hash: the script stays
    views = page.driver.execute_async_script(VIEWS_OF_ALL)
    assert {view for _, view in views} == set(READY)
    routes = {"": ".preview img", "service": "svg.chart"}
    routes |= {f"models/{name}/{view}": READY[view] for name, view in views}
    wrong = {}
    for route, ready in routes.items():
        page.run("location.hash = arguments[0]", f"#/{route}")
        page.wait(lambda ready=ready: page.all(ready))
        if found := faults(page, width):
            wrong[route] = found
    page.size(0)
    assert not wrong


MODELS = """model_config_list { config { name: "half" base_path: "%s" model_platform: "tensorflow"
model_version_policy { all {} } version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }
} }"""


def test_the_traffic_view_shows_the_split_and_how_far_the_shadow_agrees(
    page: Any, site: Any, serve: Callable[..., Any], tiny: Any, tmp_path: Path, checker: str
) -> None:
    for version in (1, 2):
        tiny.half_plus(version).write(tmp_path / "models" / "half", version)
    (tmp_path / "models.config").write_text(MODELS % (tmp_path / "models" / "half"))
    traffic = {"half": {"split": {"default": {"stable": 100, "canary": 0}}, "shadow": "half/canary"}}
    (tmp_path / "traffic.json").write_text(json.dumps(traffic))
    files = [
        f"--{kind}_config_file={tmp_path / name}"
        for kind, name in (("model", "models.config"), ("traffic", "traffic.json"))
    ]
    server = serve(*files, "--allow_version_labels_for_unavailable_models", models=["half"])
    server.wait_for(lambda: set(server.states("half").values()) == {"AVAILABLE"})
    for _ in range(3):
        assert server.send("POST", "/v1/models/half:predict", b'{"instances": [[4.0]]}')[0] == 200
    server.wait_for(lambda: b'"different": 3' in server.get("/v2/models/half/config")[1].replace(b"\\", b""))
    command = [sys.executable, "-m", "ladle.clients.web", "--repository", str(tmp_path / "models"), "--server"]
    other = dataclasses.replace(site, command=[*command, f"grpc://127.0.0.1:{server.grpc_port}"], started=[])
    page.url = other.start_gateway(tiny.free_port())
    try:
        page.open("models/half/traffic")
        rows = page.one("section.card table", "stable").find_elements("css selector", "tbody tr")
        assert [row.text.split()[:5] for row in rows] == [
            ["stable", "1", "100", "%", "3"],
            ["canary", "2", "0", "%", "0"],
        ]
        page.one("section.card", "0 % of 3 answers are the same.")
        page.one("section.card", "Every request is copied to half/canary (version 2). Failed: 0. Dropped because")
        assert page.one("section.card table", "Largest").find_element("css selector", "tbody tr").text == "y 0 3 1"
        page.run(checker)
        assert not faults(page, WIDE)
        page.open("models/half")
        assert "Traffic" in page.one("nav.views", "Model card").text
    finally:
        page.driver.get("about:blank")  # the page would ask on, and complain that nobody answers
        other.stop_gateway()
    server.stop()


def test_the_page_of_the_api_fits_and_its_examples_can_be_sent(page: Any, checker: str) -> None:
    page.size(NARROW)
    page.driver.get("about:blank")
    page.driver.get(f"{page.url}docs")
    page.one("h1", "API")
    page.wait(lambda: len(page.all(".try > button")) == len(page.all(".operation")))
    page.run("document.querySelector('#classify details').open = true")
    page.run("document.querySelector('#classify .try > button').click()")
    page.one("#classify .try select")
    page.run("[...document.querySelectorAll('#classify option')].find((o) => o.text === 'classifier').selected = true")
    page.run("document.querySelector('#classify form button').click()")
    page.one("#classify .try pre", '"label": "boot"')  # a black image has the first class
    page.one("#classify .try .hint", "200 OK")
    page.run("document.querySelector('#models .try > button').click()")
    page.wait(lambda: page.all("#models form button"))
    page.run("document.querySelector('#models form button').click()")
    page.one("#models .try pre", '"ready": true')
    page.run(checker)
    assert not faults(page, NARROW) + faults(page, WIDE)
    assert page.all(".contents a[href='#classify']")
    assert "curl -s" in page.one("#classify pre").text


@pytest.mark.parametrize("width", [360, 768])
def test_no_view_is_wider_than_the_window(page: Any, width: int) -> None:
    page.size(width)
    page.open()
    wide = []
    for route, ready in {
        "": ".preview img",
        "service": "svg.chart",
        "models/classifier": READY["classify"],
        "models/classifier/card": ".reports img",
        "models/autoencoder/interpolate": READY["interpolate"],
        "models/mood": READY["sentiment"],
        "models/columns": READY["try"],
    }.items():
        page.run("location.hash = arguments[0]", f"#/{route}")
        page.wait(lambda ready=ready: page.all(ready))
        if page.run(IS_WIDE):
            wide.append(route)
    page.size(0)
    assert not wide


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
