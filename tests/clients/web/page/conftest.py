"""The page in a real browser, with the gateway and the model server as processes of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

selenium = pytest.importorskip("selenium", reason="the browser tests need selenium: pip install 'ladle[dev]'")
from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from tests.clients.web import own_models  # noqa: E402

ROOT = Path(__file__).resolve().parents[4]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WAIT_S = 25
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
LABELS = ["boot", "coat", "shirt"]
WORDS = {"good": 2.0, "bad": -2.0, "film": 0.0, "a": 0.0}
LONGEST = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not (CHROMIUM and DRIVER):
        skip = pytest.mark.skip(reason="the browser tests need Chromium: apt-get install chromium chromium-driver")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


# Models whose answers are known


def painter(tiny: Any) -> Any:
    """Images of 4×4 pixels out of noise; the same seed paints the same."""
    z, images = {"z": ("float32", [-1, 16])}, {"images": ("uint8", [-1, 4, 4, 1])}
    noise = {"op": "normal_noise", "count": "n", "seed": "seed", "output": "z", "dim": 16, "limit": 64}
    generate = tiny.Signature({"n": ("int32", []), "seed": ("int64", [])}, images, before=[noise])
    nodes, weights = drawn("z", 60, 128, [-1, 4, 4, 1])
    graph = tiny.onnx_model(nodes, z, images, weights)
    return tiny.Model({"serving_default": tiny.Signature(z, images), "generate": generate}, {"model.onnx": graph})


def drawn(source: str, scale: float, middle: float, shape: Sequence[int]) -> Any:
    """Nodes and weights that turn numbers into uint8 images: scale · x + middle."""
    nodes = [
        helper.make_node("Mul", [source, "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "middle"], ["moved"]),
        helper.make_node("Clip", ["moved", "low", "high"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "shape"], ["square"]),
        helper.make_node("Cast", ["square"], ["images"], to=2),
    ]
    numbers = {"scale": scale, "middle": middle, "low": 0, "high": 255}
    return nodes, {**{key: np.float32(value) for key, value in numbers.items()}, "shape": np.array(shape)}


def autoencoder(tiny: Any) -> Any:
    """The code of a 2×2 image is its four pixels, each 0 to 1; an image is drawn from four numbers."""
    image, code = {"image": ("float32", [-1, 2, 2, 1])}, {"code": ("float32", [-1, 4])}
    images, copy = {"images": ("uint8", [-1, 2, 2, 1])}, {"reconstruction": ("float32", [-1, 2, 2, 1])}
    decode = {"op": "decode_image", "input": "image_bytes", "output": "image", "height": 2, "width": 2, "channels": 1}
    noise = {"op": "normal_noise", "count": "n", "seed": "seed", "output": "code", "dim": 4, "limit": 64}
    nodes, weights = drawn("code", 255, 0, [-1, 2, 2, 1])
    return tiny.Model(
        {
            "serving_default": tiny.Signature(image, copy),
            "reconstruct_bytes": tiny.Signature({"image_bytes": ("string", [-1])}, copy, before=[decode]),
            "encode": tiny.Signature(image, code, "encode.onnx"),
            "decode": tiny.Signature(code, images, "decode.onnx"),
            "generate": tiny.Signature(
                {"n": ("int32", []), "seed": ("int64", [])}, images, "decode.onnx", before=[noise]
            ),
        },
        {
            "model.onnx": tiny.onnx_model([helper.make_node("Identity", ["image"], ["reconstruction"])], image, copy),
            "encode.onnx": tiny.onnx_model([helper.make_node("Flatten", ["image"], ["code"])], image, code),
            "decode.onnx": tiny.onnx_model(nodes, code, images, weights),
        },
    )


def threshold(tiny: Any) -> Any:
    """Class 1 where the image is light."""
    given, answer = {"image": ("float32", [-1, -1, -1, 1])}, {"class_map": ("int64", [-1, -1, -1])}
    nodes = [
        helper.make_node("Greater", ["image", "half"], ["light"]),
        helper.make_node("Cast", ["light"], ["ids"], to=7),
        helper.make_node("Squeeze", ["ids", "channel"], ["class_map"]),
    ]
    graph = tiny.onnx_model(nodes, given, answer, {"half": np.float32(0.5), "channel": np.array([3])})
    size = {"height": None, "width": None, "channels": 1}
    decode = {"op": "decode_image", "input": "image_bytes", "output": "image", **size}
    bytes_in = tiny.Signature({"image_bytes": ("string", [-1])}, answer, before=[decode])
    default = tiny.Signature(given, answer)
    return tiny.Model({"serving_default": default, "serving_bytes": bytes_in}, {"model.onnx": graph})


def mood(tiny: Any) -> Any:
    """Positive by the words: "good" counts 2, "bad" −2."""
    tokens, text = {"tokens": ("int32", [-1, LONGEST])}, {"text": ("string", [-1])}
    core = {"probability": ("float32", [-1]), "class_id": ("int64", [-1])}
    answer = {**core, "label": ("string", [-1])}
    nodes = [
        helper.make_node("Gather", ["worth", "tokens"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axis"], ["sum"], keepdims=0),
        helper.make_node("Sigmoid", ["sum"], ["probability"]),
        helper.make_node("Greater", ["sum", "zero"], ["up"]),
        helper.make_node("Cast", ["up"], ["class_id"], to=7),
    ]
    worth = np.array([0, 0, 0, *WORDS.values()], np.float32)  # padding, start, unknown, then the words
    graph = tiny.onnx_model(nodes, tokens, core, {"worth": worth, "axis": np.array([1]), "zero": np.float32(0)})
    label = {"op": "lookup_label", "input": "class_id", "output": "label", "labels": "labels.txt"}
    words = {"op": "tokenize", "input": "text", "output": "tokens", "vocabulary": "words.txt", "max_length": LONGEST}
    near = {"op": "nearest_words", "input": "similarities", "neighbours": "neighbours", "similarity": "similarity"}
    near |= {"vocabulary": "words.txt", "count": 2}
    found = {"neighbours": ("string", [-1, 2]), "similarity": ("float32", [-1, 2]), "known": ("bool", [-1])}
    inner = {"similarities": ("float32", [-1, len(WORDS)]), "known": found["known"]}
    last = [
        helper.make_node("Gather", ["tokens", "end"], ["word"], axis=1),
        helper.make_node("Gather", ["worth", "word"], ["own"]),
        helper.make_node("Unsqueeze", ["own", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "all"], ["similarities"]),
        helper.make_node("Greater", ["word", "two"], ["known"]),
    ]
    constants = {"worth": worth / 2, "all": worth[None, 3:] / 2, "end": np.array(-1), "axis": np.array([1])}
    return tiny.Model(
        {
            "serving_default": tiny.Signature(tokens, answer, after=[label]),
            "text": tiny.Signature(text, answer, before=[words], after=[label]),
            "neighbours": tiny.Signature(
                {"word": ("string", [-1])}, found, "near.onnx", before=[{**words, "input": "word"}], after=[near]
            ),
        },
        {
            "model.onnx": graph,
            "near.onnx": tiny.onnx_model(last, tokens, inner, {**constants, "two": np.int32(2)}),
        },
        {"words.txt": list(WORDS), "labels.txt": ["negative", "positive"]},
    )


def bowl(tiny: Any) -> Any:
    """x² + y², and one step from a start to (0, 0)."""
    starts, value = {"x": ("float32", [-1, 2])}, {"value": ("float32", [-1])}
    answer = {"minimum": ("float32", [-1, 2]), **value, "path": ("float32", [-1, 2, 2])}
    weights = {"zero": np.float32(0), "along": np.array([1]), "pair": np.array([-1, 2, 2])}
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["minimum"]),
        helper.make_node("ReduceSumSquare", ["minimum", "along"], ["value"], keepdims=0),
        helper.make_node("Concat", ["x", "minimum"], ["both"], axis=1),
        helper.make_node("Reshape", ["both", "pair"], ["path"]),
    ]
    height = [helper.make_node("ReduceSumSquare", ["x", "along"], ["value"], keepdims=0)]
    return tiny.Model(
        {
            "serving_default": tiny.Signature(starts, answer),
            "value": tiny.Signature(starts, value, "value.onnx"),
        },
        {
            "model.onnx": tiny.onnx_model(nodes, starts, answer, weights),
            "value.onnx": tiny.onnx_model(height, starts, value, {"along": weights["along"]}),
        },
    )


def perceptron(tiny: Any) -> Any:
    """Its outputs O are the first three pixels; E = ½Σ(O - t)², δ = O - t, ∂E/∂w = x·δ, ∂E/∂x = W·δ."""
    image, target = {"image": ("float32", [-1, 2, 2, 1])}, {"target": ("int64", [-1])}
    answers = {
        "output": ("float32", [-1, 3]),
        "error": ("float32", [-1]),
        "delta1": ("float32", [-1, 3]),
        "weight_gradient1": ("float32", [-1, 2, 2, 1, 3]),
        "image_gradient": ("float32", [-1, 2, 2, 1]),
    }
    weights = np.eye(4, 3, dtype=np.float32)
    constants = {
        "w": weights,
        "w_t": weights.T.copy(),
        "half": np.float32(0.5),
        "depth": np.array(3),
        "off_on": np.array([0, 1], np.float32),
        "last": np.array([1]),
        "middle": np.array([1]),
        "image_shape": np.array([-1, 2, 2, 1]),
        "weight_shape": np.array([-1, 2, 2, 1, 3]),
        "pixels_shape": np.array([-1, 4, 1]),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["output"]),
        helper.make_node("OneHot", ["target", "depth", "off_on"], ["t"]),
        helper.make_node("Sub", ["output", "t"], ["delta1"]),
        helper.make_node("ReduceSumSquare", ["delta1", "last"], ["twice"], keepdims=0),
        helper.make_node("Mul", ["twice", "half"], ["error"]),
        helper.make_node("MatMul", ["delta1", "w_t"], ["flat"]),
        helper.make_node("Reshape", ["flat", "image_shape"], ["image_gradient"]),
        helper.make_node("Reshape", ["x", "pixels_shape"], ["column"]),
        helper.make_node("Unsqueeze", ["delta1", "middle"], ["row"]),
        helper.make_node("MatMul", ["column", "row"], ["outer"]),
        helper.make_node("Reshape", ["outer", "weight_shape"], ["weight_gradient1"]),
    ]
    classes = {"probabilities": ("float32", [-1, 3])}
    classify = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    return tiny.Model(
        {
            "serving_default": tiny.Signature(image, classes),
            "gradients": tiny.Signature({**image, **target}, answers, "gradients.onnx"),
        },
        {
            "model.onnx": tiny.onnx_model(classify, image, classes, {"w": weights}),
            "gradients.onnx": tiny.onnx_model(nodes, {**image, **target}, answers, constants),
        },
    )


def filters(tiny: Any) -> Any:
    """Half of an image, and its negative."""
    image = {"image": ("float32", [-1, 2, 2, 1])}
    answer = {"half": image["image"], "negative": image["image"]}
    nodes = [
        helper.make_node("Mul", ["image", "share"], ["half"]),
        helper.make_node("Sub", ["one", "image"], ["negative"]),
    ]
    graph = tiny.onnx_model(nodes, image, answer, {"share": np.float32(0.5), "one": np.float32(1)})
    return tiny.Model({"serving_default": tiny.Signature(image, answer)}, {"model.onnx": graph})


def describe(folder: Path, samples: list[dict[str, Any]], pictures: dict[str, Any] | None = None, **card: Any) -> None:
    """Complete an exported version with what its card and its samples tell."""
    path = folder / "assets.extra" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **card}))
    home = folder / "assets.extra" / "samples"
    home.mkdir()
    for name, pixels in (pictures or {}).items():
        Image.fromarray(pixels).save(home / name)
    (home / "samples.json").write_text(json.dumps(samples))


def fill(home: Path, tiny: Any) -> None:
    """A model for each panel."""
    corners = {f"{label}.png": np.zeros((2, 2), np.uint8) for label in LABELS}
    for i, pixels in enumerate(corners.values()):
        pixels.flat[i] = 255
    labelled = [{"file": f"{label}.png", "label": label} for label in LABELS]
    classifier = tiny.image_classifier().write(home / "classifier", 1)
    describe(
        classifier,
        labelled,
        corners,
        task="classify",
        description="Which pixel is the brightest.",
        labels=LABELS,
        metrics={"test": {"accuracy": 0.875, "loss": 0.25}},
        data={"name": "corners", "synthetic": True, "licence": "MIT", "splits": {"train": 12, "test": 8}},
        parameters=12,
    )
    report = classifier / "assets.extra" / "report"
    report.mkdir()
    for name in ("curves.png", "confusion.png"):
        Image.fromarray(np.full((40, 60), 200, np.uint8)).save(report / name)
    described = {"task": "classify", "labels": LABELS, "data": {"name": "corners"}}
    describe(perceptron(tiny).write(home / "perceptron", 1), labelled, corners, **described)
    describe(painter(tiny).write(home / "painter", 1), [], task="generate", description="Noise.")
    describe(autoencoder(tiny).write(home / "autoencoder", 1), labelled, corners, task="reconstruct")
    describe(filters(tiny).write(home / "filters", 1), labelled, corners, task="filter")
    half, left = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    half[:, 8:], left[:, 4:] = 255, 1
    samples, labels = [{"file": "half.png", "mask": "mask.png"}], ["background", "light"]
    pictures = {"half.png": half, "mask.png": left}
    describe(threshold(tiny).write(home / "threshold", 1), samples, pictures, task="segment", labels=labels)
    review = [{"text": "a good film", "label": "positive"}]
    describe(mood(tiny).write(home / "mood", 1), review, task="sentiment", config={"max_length": LONGEST})
    rows = [{"x": [x], "y": y, "columns": ["size"]} for x, y in ((1.0, 2.5), (6.0, 4.0))]
    nothing: dict[str, Any] = {"labels": None, "metrics": None, "config": None}  # a regression has no labels
    column = {"name": "size", "about": "floor area", "unit": "m²", "low": 1.0, "high": 6.0}
    target = {"name": "y", "about": "rent", "unit": "euros", "low": 2.0, "high": 5.0}
    nothing["data"] = {"name": "flats", "columns": [column], "target": target}
    describe(tiny.half_plus(2).write(home / "half_plus_two", 1), rows, task="regress", **nothing)
    describe(bowl(tiny).write(home / "bowl", 1), [{"x": [3.0, 1.0], "y": 0.0}], task="regress")
    own_models.write(home, tiny, "columns", "flowers", "triple")


# Servers and browser


@dataclass
class Site:
    """The running gateway and the model server behind it."""

    url: str
    server: Any
    repository: Path
    command: list[str]
    log: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_gateway(self, port: int, *more: str) -> str:
        """A gateway at that port; its address, once it listens."""
        with self.log.open("ab") as log:
            command = [*self.command, "--port", str(port), *more]
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        self.started.append(process)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return f"http://127.0.0.1:{port}/"
            time.sleep(0.02)
        raise AssertionError(f"nothing listens at {port}:\n{self.log.read_text()}")

    def stop_gateway(self) -> None:
        """Stop the one that was started last."""
        process = self.started.pop()
        process.send_signal(signal.SIGINT)  # gunicorn: at once, without waiting for open connections
        process.wait(20)


def start(repository: Path, tiny: Any, serve: Callable[..., Any], models: Sequence[str]) -> Site:
    """A server of the repository and a gateway before it."""
    server = serve("--repository", repository, "--enable_metrics=true", models=models)
    ask = ["--server", f"grpc://127.0.0.1:{server.grpc_port}", "--rest", f"http://127.0.0.1:{server.rest_port}"]
    command = [sys.executable, "-m", "ladle.clients.web", "--repository", str(repository), *ask, "--timeout", "20"]
    site = Site("", server, repository, command, repository.parent / f"{repository.name}.log")
    site.url = site.start_gateway(tiny.free_port())
    return site


@pytest.fixture(scope="session")
def site(serve_throughout: Callable[..., Any], tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site") / "models"
    home.mkdir()
    fill(home, tiny)
    running = start(home, tiny, serve_throughout, sorted(child.name for child in home.iterdir()))
    yield running
    while running.started:
        running.stop_gateway()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path_factory.mktemp("downloads"))})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """What a person does with the page, by what it says."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url
        self.forgiven: list[str] = []  # parts of the browser's complaints that a test provokes

    def open(self, route: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#/{route}")

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def wait(self, reached: Callable[[], Any]) -> Any:
        waiting = WebDriverWait(self.driver, WAIT_S, 0.05, [StaleElementReferenceException])
        try:
            return waiting.until(lambda _: reached())
        except TimeoutException:
            said = self.run("return document.body.innerText")
            raise AssertionError(f"not reached; the page says:\n{said}\n{self.driver.get_log('browser')}") from None

    def one(self, selector: str, text: str = "") -> Any:
        """The first visible element of that selector, once it is there and holds that text."""
        return self.wait(lambda: next((e for e in self.all(selector) if e.is_displayed() and text in e.text), None))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def sources(self, selector: str) -> list[str]:
        """What the images of that selector show, all read at once."""
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map((i) => i.src)", selector))

    def write(self, field: Any, text: str) -> None:
        """Replace what stands in a field, by keys."""
        field.send_keys(Keys.CONTROL + "a", Keys.DELETE)
        field.send_keys(text)

    def tab_to(self, selector: str) -> Any:
        """Press Tab until the focus is there."""
        for _ in range(80):
            self.press(Keys.TAB)
            if self.run("return document.activeElement.matches(arguments[0])", selector):
                return self.driver.switch_to.active_element
        raise AssertionError(f"Tab does not reach {selector}")

    def size(self, width: int, height: int = 900) -> None:
        """The size of the window; 0 for its own again."""
        if width:
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        else:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def theme(self, name: str) -> None:
        """What the system prefers: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def hosts(self) -> set[str]:
        """The schemes and hosts that were asked since this was last called."""
        asked = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
        return {
            url.partition("#")[0].split("/api/")[0] if "//" not in url else "/".join(url.split("/")[:3]) for url in urls
        }


@pytest.fixture
def page(chromium: webdriver.Chrome, site: Site) -> Iterator[Page]:
    """The page; afterwards: no complaint of the browser's, and nobody else was asked."""
    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    page = Page(chromium, site.url)
    yield page
    page.size(0)
    page.theme("light")
    chromium.get("about:blank")
    faults = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    faults = [fault for fault in faults if not any(part in fault for part in page.forgiven)]
    assert not faults
    others = {host for host in page.hosts() if not host.startswith((page.url.rstrip("/"), "blob:", "data:", "about:"))}
    assert not others
