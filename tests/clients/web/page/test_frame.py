"""Gallery, card, service, and what the page does when a server goes and comes back."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = [
    "autoencoder",
    "bowl",
    "classifier",
    "columns",
    "filters",
    "flowers",
    "half_plus_two",
    "mood",
    "painter",
    "perceptron",
    "threshold",
    "triple",
]


def test_the_gallery_shows_each_model_with_its_state(page: Any) -> None:
    page.open()
    page.one("#server", f"{len(NAMES)} models are served")
    tiles = {tile.find_element("tag name", "h2").text: tile for tile in page.all(".tile")}
    assert list(tiles) == NAMES
    assert "version 1" in tiles["classifier"].text
    assert "87.5 % accuracy on 8 examples of the test set" in tiles["classifier"].text
    told = tiles["classifier"].find_element("css selector", ".headline").get_attribute("title")
    assert told.startswith("accuracy: share of right answers; higher is better. Measured on 8 examples of the test set")
    assert "corners, synthetic" in tiles["classifier"].text
    assert "Classify" in tiles["classifier"].text
    for name, pictures in {"classifier": 3, "painter": 10, "threshold": 2}.items():
        page.wait(lambda name=name, n=pictures: len(tiles[name].find_elements("css selector", ".preview img")) == n)
    page.wait(lambda: "a good film" in tiles["mood"].text)
    # A classifier's pictures carry its own answers.
    assert {caption.text for caption in tiles["classifier"].find_elements("css selector", "figcaption")} == {
        "boot",
        "coat",
        "shirt",
    }
    page.wait(lambda: tiles["half_plus_two"].find_elements("css selector", ".scatter circle"))
    tiles["painter"].click()
    page.one("h1", "painter")


def test_a_model_that_appears_or_goes_shows_by_itself(page: Any, site: Any, tiny: Any) -> None:
    page.open()
    page.one("#server", f"{len(NAMES)} models are served")
    classifier = page.one(".tile", "classifier")
    tiny.half_plus(3).write(site.repository / "newcomer", 1)
    page.one(".tile", "newcomer")
    page.one(".tile .state[data-state=AVAILABLE]")
    page.one("#server", f"{len(NAMES) + 1} models are served")
    shutil.rmtree(site.repository / "newcomer")
    page.one("#server", f"{len(NAMES)} models are served")
    page.wait(lambda: len(page.all(".tile")) == len(NAMES))
    assert classifier.is_displayed()  # still the same element: nothing else was drawn again


def test_the_card_shows_figures_data_pictures_and_signatures(page: Any) -> None:
    page.open("models/classifier/card")
    page.one(".notice.warn", "generated data")
    assert "87.5 %" in page.one("table", "accuracy").text
    facts = page.one(".facts", "corners").text
    assert "train 12, test 8" in facts
    assert "MIT" in facts
    page.wait(lambda: len(page.all(".reports img")) == 2)
    assert page.one(".paper .lens", "Enlarge")
    assert "share of right answers; higher is better" in page.one("table", "accuracy").text
    assert [image.get_attribute("alt") for image in page.all(".reports img")] == [
        "Training curves of classifier",
        "Confusion matrix of classifier",
    ]
    assert "image_bytes string [·]" in page.one("table", "serving_bytes").text
    page.all(".paper")[1].click()
    page.one("dialog img")
    page.one("dialog button", "Close").click()
    page.wait(lambda: not page.all("dialog"))


def test_the_card_of_every_task_opens(page: Any) -> None:
    for name in NAMES:
        page.open(f"models/{name}/card")
        page.one(".cardview h2", "Signatures")
        assert not page.all("[role=alert]"), name


def test_the_service_shows_what_is_asked(page: Any) -> None:
    page.open("models/half_plus_two")
    page.one(".answer", "2.5")
    page.one(".top nav a", "Service").click()
    page.one("h1", "Service")
    row = page.one("tbody tr", "half_plus_two")
    assert "version 1" in row.text
    page.wait(lambda: int(page.one("tbody tr", "half_plus_two").find_elements("css selector", "td")[1].text) >= 1)
    page.wait(lambda: any("ms" in number.text for number in page.all(".number")))
    charts = [chart.get_attribute("aria-label") for chart in page.all("svg.chart")]
    assert [label.partition(":")[0] for label in charts[:2]] == ["Requests per second", "Latency, milliseconds"]
    assert "model server" in charts[0]
    page.wait(lambda: re.search(r"-\d+ s", page.one(".plot").text))  # the axis is time before now


@pytest.fixture(scope="module")
def breakable(
    serve: Callable[..., Any], tiny: Any, site: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A site whose servers a test may stop, and starts again."""
    home = tmp_path_factory.mktemp("breakable") / "models"
    shutil.copytree(site.repository / "classifier", home / "classifier")
    server = serve("--repository", home, models=["classifier"])
    command = [*site.command[:3], "--repository", str(home), "--server", f"grpc://127.0.0.1:{server.grpc_port}"]
    other = type(site)("", server, home, [*command, "--timeout", "5"], home.parent / "gateway.log")
    try:
        other.url = other.start_gateway(tiny.free_port())
        yield other
    finally:
        while other.started:
            other.stop_gateway()


@pytest.fixture
def other(page: Any, breakable: Any) -> Any:
    page.forgiven += ["503", "ERR_CONNECTION", "504"]
    page.url = breakable.url
    return breakable


def test_a_question_is_asked_again_when_the_model_server_is_back(
    page: Any, other: Any, serve: Callable[..., Any]
) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    other.server.stop(signal.SIGKILL)
    page.one("#server", "The model server does not answer")
    page.all(".sample")[1].click()
    page.one(".result [role=alert]", "start it with `ladle serve`")
    port = other.server.grpc_port
    other.server = serve("--repository", other.repository, f"--port={port}", models=["classifier"])
    other.server.grpc_port = port
    page.one("#server", "1 model is served")
    page.one(".answer", "coat")


def test_the_page_works_where_the_browser_keeps_nothing(page: Any) -> None:
    blocked = """for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, name, { get() { throw new DOMException("blocked", "SecurityError"); } });
    }"""
    script = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": blocked})
    try:
        page.open("models/classifier")
        page.one(".answer", "boot")
        page.one("#theme", "auto").click()
        page.one("#theme", "light")
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_page_says_that_the_gateway_is_away_and_goes_on_when_it_is_back(page: Any, other: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    port = int(other.url.rpartition(":")[2].strip("/"))
    other.stop_gateway()
    page.one("#server", "The gateway does not answer")
    page.all(".sample")[2].click()
    page.one(".result [role=alert]", "The gateway does not answer. Start it with “ladle gateway”.")
    other.start_gateway(port)
    page.one(".answer", "shirt")


def test_the_page_sends_the_key_that_the_reader_enters(page: Any, other: Any, tiny: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("reader a-long-secret-of-thirty-two-letters\n")
    page.url = other.start_gateway(tiny.free_port(), "--api-keys", str(keys))
    page.forgiven.append("401")
    page.open("models/classifier")
    page.one("#key").send_keys("a-long-secret-of-thirty-two-letters")
    page.one("form.key button").click()
    page.one(".answer", "boot")
    page.wait(lambda: page.run("return [...document.querySelectorAll('.sample img')].every((i) => i.naturalWidth)"))
    page.run("sessionStorage.clear()")
