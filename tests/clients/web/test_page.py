"""The page in a real browser, with the gateway and the model server as processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

selenium = pytest.importorskip("selenium", reason="the browser tests need selenium: pip install 'ladle[dev]'")
from selenium import webdriver  # noqa: E402
from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WAIT_S = 30
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
)

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="the browser tests need Chromium: apt-get install chromium chromium-driver",
)


def painter(models: Any) -> Any:
    """Images of 4×4 pixels out of noise; the same seed paints the same."""
    z = {"z": ("float32", [-1, 16])}
    images = {"images": ("uint8", [-1, 4, 4, 1])}
    nodes = [
        helper.make_node("Mul", ["z", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "middle"], ["moved"]),
        helper.make_node("Clip", ["moved", "low", "high"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "shape"], ["square"]),
        helper.make_node("Cast", ["square"], ["images"], to=2),
    ]
    weights = {
        "scale": np.float32(60),
        "middle": np.float32(128),
        "low": np.float32(0),
        "high": np.float32(255),
        "shape": np.array([-1, 4, 4, 1]),
    }
    noise = {"op": "normal_noise", "count": "n", "seed": "seed", "output": "z", "dim": 16, "limit": 64}
    generate = models.Signature({"n": ("int32", []), "seed": ("int64", [])}, images, before=[noise])
    graph = models.onnx_model(nodes, z, images, weights)
    return models.Model({"serving_default": models.Signature(z, images), "generate": generate}, {"model.onnx": graph})


def threshold(models: Any) -> Any:
    """Class 1 where the image is light."""
    given = {"image": ("float32", [-1, -1, -1, 1])}
    answer = {"class_map": ("int64", [-1, -1, -1])}
    nodes = [
        helper.make_node("Greater", ["image", "half"], ["light"]),
        helper.make_node("Cast", ["light"], ["ids"], to=7),
        helper.make_node("Squeeze", ["ids", "channel"], ["class_map"]),
    ]
    graph = models.onnx_model(nodes, given, answer, {"half": np.float32(0.5), "channel": np.array([3])})
    decode = {
        "op": "decode_image",
        "input": "image_bytes",
        "output": "image",
        "height": None,
        "width": None,
        "channels": 1,
    }
    bytes_in = models.Signature({"image_bytes": ("string", [-1])}, answer, before=[decode])
    return models.Model(
        {"serving_default": models.Signature(given, answer), "serving_bytes": bytes_in}, {"model.onnx": graph}
    )


def describe(
    folder: Path, samples: list[dict[str, str]], pictures: dict[str, np.ndarray[Any, Any]], **card: Any
) -> None:
    """Complete an exported version with what its card and its samples tell."""
    path = folder / "assets.extra" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **card}))
    home = folder / "assets.extra" / "samples"
    home.mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(home / name)
    (home / "samples.json").write_text(json.dumps(samples))


@dataclass
class Site:
    """The running gateway and the model server behind it."""

    url: str
    gateway: subprocess.Popen[bytes]
    server: Any
    repository: Path


@pytest.fixture(scope="module")
def site(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    models = sys.modules[serve.__module__]  # the makers of tiny models, as the fixture `models` gives them to a test
    home = tmp_path_factory.mktemp("site")
    labels = ["boot", "coat", "shirt"]
    corners = {
        f"{label}.png": (np.arange(4) == i).reshape(2, 2).astype(np.uint8) * 255 for i, label in enumerate(labels)
    }
    describe(
        models.image_classifier().write(home / "classifier", 1),
        [{"file": f"{label}.png", "label": label} for label in labels],
        corners,
        task="classify",
        description="Which pixel is the brightest.",
        labels=labels,
        metrics={"test": {"accuracy": 0.875}},
        data={"name": "corners", "synthetic": True},
    )
    describe(painter(models).write(home / "painter", 1), [], {}, task="generate", description="Noise.")
    half = np.zeros((16, 16), np.uint8)
    half[:, 8:] = 255
    describe(
        threshold(models).write(home / "threshold", 1),
        [{"file": "half.png"}],
        {"half.png": half},
        task="segment",
        labels=["background", "light"],
    )
    server = serve("--repository", home, models=["classifier", "painter", "threshold"])
    port = models.free_port()
    command = [sys.executable, "-m", "clients.web", "--port", str(port), "--repository", str(home)]
    log = (home.parent / "gateway.log").open("wb")
    gateway = subprocess.Popen(
        [*command, "--server", f"grpc://127.0.0.1:{server.grpc_port}", "--timeout", "5"],
        cwd=ROOT,
        stdout=log,
        stderr=log,
    )
    try:
        listening(port, gateway)
        yield Site(f"http://127.0.0.1:{port}/", gateway, server, home)
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(20)
        log.close()


def listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens at {port}")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """What a person does with the page, by what it says."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, route: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#/{route}")

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def wait(self, reached: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException

        return WebDriverWait(self.driver, WAIT_S, 0.02, [StaleElementReferenceException]).until(lambda _: reached())

    def one(self, selector: str, text: str = "") -> Any:
        """The first visible element of that selector, once it is there and holds that text."""
        return self.wait(lambda: next((e for e in self.all(selector) if e.is_displayed() and text in e.text), None))


@pytest.fixture
def page(chromium: webdriver.Chrome, site: Site) -> Iterator[Page]:
    chromium.get_log("browser")
    yield Page(chromium, site.url)
    faults = [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    faults = [entry for entry in faults if "503" not in entry["message"]]  # a server that was killed
    assert not faults


def test_the_gallery_shows_each_model_with_its_state(page: Page) -> None:
    page.open()
    page.one("#server", "3 models are served")
    tiles = {tile.find_element(By.TAG_NAME, "h2").text: tile for tile in page.all(".tile")}
    assert list(tiles) == ["classifier", "painter", "threshold"]
    assert "version 1" in tiles["classifier"].text
    assert "87.5 % accuracy, test set" in tiles["classifier"].text
    assert "synthetic data" in tiles["classifier"].text
    page.wait(lambda: len(page.all(".tile .strip img")) == 3 + 4 + 1)
    tiles["painter"].click()
    page.one("h1", "painter")


def test_a_sample_is_classified_and_compared_with_the_truth(page: Page) -> None:
    page.open("classifier")
    page.one(".answer", "boot")
    page.all(".sample")[2].click()
    page.one(".answer", "shirt")
    page.one(".truth.right", "shirt")
    assert page.one(".bars .label").text == "shirt"
    page.one(".latency", "Round trip")


def test_the_curl_line_on_the_page_gives_the_same_answer(page: Page) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    page.open("classifier")
    page.one(".truth.right", "boot")
    command = page.one(".curl code").text
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert json.loads(done.stdout)["results"][0]["label"] == "boot"


def test_a_drawing_is_classified(page: Page) -> None:
    page.open("classifier")
    page.one(".answer")
    page.one(".choice label", "Draw").click()
    canvas = page.one("canvas.draw")
    width = canvas.size["width"]
    actions = ActionChains(page.driver).move_to_element_with_offset(canvas, width // 8, -width // 4).click_and_hold()
    for step in range(1, 8):
        actions.move_to_element_with_offset(canvas, width // 8 + step * width // 25, -width // 4)
    actions.release().perform()
    page.one(".answer", "coat")
    assert not page.all(".truth")


def test_an_uploaded_file_is_classified_and_can_be_inverted(page: Page, tmp_path: Path) -> None:
    Image.fromarray(np.array([[255, 255], [0, 255]], np.uint8)).save(tmp_path / "dark.png")
    page.open("classifier")
    page.one(".choice label", "Upload").click()
    page.wait(lambda: page.all("input[type=file]"))[0].send_keys(str(tmp_path / "dark.png"))
    page.wait(lambda: "dark.png" in page.one(".curl code").text)
    page.one(".answer", "boot")
    page.one(".check").click()
    page.one(".answer", "shirt")
    assert page.one(".bars li").text.split()[1] != "0"


def test_a_file_that_is_no_image_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    page.open("classifier")
    page.one(".choice label", "Upload").click()
    page.wait(lambda: page.all("input[type=file]"))[0].send_keys(str(tmp_path / "notes.txt"))
    page.one("[role=alert]", "PNG, JPEG or WebP is wanted")


def test_generated_images_follow_the_seed(page: Page) -> None:
    page.open("painter")

    def sources() -> list[str]:
        return [str(image.get_attribute("src")) for image in page.all(".grid img")]

    first = page.wait(lambda: sources() if len(sources()) == 16 else None)
    page.one("button", "Another seed").click()
    page.wait(lambda: len(sources()) == 16 and sources() != first)
    seed = page.one("#seed")
    seed.clear()
    seed.send_keys("7\n")
    page.one("button.main", "Generate").click()
    page.wait(lambda: sources() == first)


def test_a_mask_lies_over_its_image_with_the_opacity_chosen(page: Page) -> None:
    page.open("threshold")
    layer = page.one(".stage .layer")
    assert [row.text.split() for row in page.all(".legend li")] == [["background", "50.0", "%"], ["light", "50.0", "%"]]
    before = layer.value_of_css_property("opacity")
    slider = page.one("#opacity")
    slider.send_keys("\ue012" * 20)  # arrow left
    assert float(layer.value_of_css_property("opacity")) < float(before)
    mask = page.one("a[download]").get_attribute("href")
    data = subprocess.run(
        ["base64", "-d"], input=mask.partition(",")[2].encode(), capture_output=True, check=True
    ).stdout
    assert np.unique(np.asarray(Image.open(io.BytesIO(data)))).tolist() == [0, 1]


def test_the_keyboard_reaches_a_sample_and_the_theme(page: Page) -> None:
    page.open("classifier")
    page.one(".truth.right", "boot")
    page.driver.execute_script("document.querySelectorAll('.sample')[1].focus()")
    page.driver.switch_to.active_element.send_keys("\ue007")  # enter
    page.one(".answer", "coat")
    page.one("#theme").send_keys("\ue007")
    assert page.driver.execute_script("return document.documentElement.dataset.theme") == "light"
    page.one("#theme").send_keys("\ue007")
    assert page.driver.execute_script("return document.documentElement.dataset.theme") == "dark"
    page.one("#theme").send_keys("\ue007")


def test_the_page_says_that_the_server_is_away_and_goes_on_when_it_is_back(
    page: Page, site: Site, serve: Callable[..., Any]
) -> None:
    page.open("classifier")
    page.one(".answer", "boot")
    site.server.stop(signal.SIGKILL)
    page.one("#server", "does not answer")
    page.all(".sample")[1].click()
    page.one("[role=alert]", "model server does not answer")
    serve("--repository", site.repository, f"--port={site.server.grpc_port}", models=["classifier"])
    page.one("#server", "models are served")
    page.all(".sample")[1].click()
    page.one(".answer", "coat")
