"""The page with networks that were really trained: draw, give a file, type, generate, interpolate, segment.

LADLE_TRAINED=REPOSITORY takes models that are there; else they are trained first, which takes minutes.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

ROOT = Path(__file__).resolve().parents[4]
NETWORKS = ("lenet5", "sentiment_lstm", "unet", "vae")
TRAINING_S = 900
NO_DATA = "could not be fetched"  # what training says of data that is not to be had

pytestmark = [pytest.mark.slow, pytest.mark.timeout(len(NETWORKS) * TRAINING_S)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trained") / "models"
    given = os.environ.get("LADLE_TRAINED")
    for name in NETWORKS:
        if given:
            shutil.copytree(Path(given) / name, home / name)
            continue
        train = [sys.executable, "-m", "ladle.training", "train", name, "--preset", "quick", "--repository", str(home)]
        done = subprocess.run(train, cwd=ROOT, capture_output=True, text=True, timeout=TRAINING_S, check=False)
        if done.returncode and NO_DATA in done.stderr:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="module")
def trained_site(site: Any, trained: Path, serve: Callable[..., Any], tiny: Any) -> Iterator[Any]:
    server = serve("--repository", trained, models=NETWORKS)
    command = [*site.command[:3], "--repository", str(trained), "--server", f"grpc://127.0.0.1:{server.grpc_port}"]
    running = type(site)("", server, trained, command, trained.parent / "gateway.log")
    try:
        running.url = running.start_gateway(tiny.free_port())
        yield running
    finally:
        while running.started:
            running.stop_gateway()


@pytest.fixture
def shown(page: Any, trained_site: Any) -> Any:
    page.url = trained_site.url
    return page


def pixels(source: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_most_samples_are_classified_correctly(shown: Any) -> None:
    shown.open("models/lenet5")
    right = 0
    for number in range(8):
        shown.one(".answer")
        sample = shown.all(".sample")[number]
        label = sample.get_attribute("aria-label")
        sample.click()
        right += "Right" in shown.one(".truth", label).text
    assert right >= 5


def test_drawn_trousers_are_trousers(shown: Any, tmp_path: Path) -> None:
    shown.open("models/lenet5")
    shown.one(".choice label", "Draw").click()
    canvas = shown.one("canvas.draw")
    side = canvas.size["width"]
    shown.one("#brush").send_keys(Keys.END)
    for line in ([(-0.11, -0.36), (-0.13, 0.4)], [(0.11, -0.36), (0.13, 0.4)], [(-0.1, -0.38), (0.1, -0.38)]):
        actions = ActionChains(shown.driver).move_to_element_with_offset(canvas, *(int(side * v) for v in line[0]))
        actions.click_and_hold().move_to_element_with_offset(
            canvas, *(int(side * v) for v in line[1])
        ).release().perform()
    shown.one(".answer", "Trouser")
    drawing = shown.run("return document.querySelector('canvas.draw').toDataURL()")
    (tmp_path / "trousers.png").write_bytes(base64.b64decode(drawing.partition(",")[2]))
    shown.one(".choice label", "Upload").click()
    shown.wait(lambda: shown.all("input[type=file]"))[0].send_keys(str(tmp_path / "trousers.png"))
    shown.one(".file", "trousers.png")
    shown.one(".answer", "Trouser")


def test_praise_is_positive_and_blame_negative(shown: Any) -> None:
    shown.open("models/sentiment_lstm")
    text = shown.one("#text")
    shown.write(text, "A wonderful, moving film with superb acting and a great script. I loved it.")
    shown.one(".answer", "positive")
    shown.write(text, "Boring, badly acted and a complete waste of time. The worst film of the year.")
    shown.one(".answer", "negative")
    shown.one("mark.down", "worst")


def test_nuclei_are_found(shown: Any) -> None:
    shown.open("models/unet")
    overlaps = []
    for sample in range(len(shown.wait(lambda: shown.all(".sample")))):
        before = shown.one(".stage img").get_attribute("src")
        if sample:
            shown.all(".sample")[sample].click()
            shown.wait(lambda before=before: shown.one(".stage img").get_attribute("src") != before)
        overlaps += [
            float(f.text.split()[-2]) for f in shown.all(".figures div") if "nucleus" in f.text and "%" in f.text
        ]
    assert np.median(overlaps) > 60


def test_images_are_generated_and_lead_into_one_another(shown: Any) -> None:
    shown.open("models/vae/generate")
    images = shown.wait(lambda: shown.sources(".grid img"))
    assert len(set(images)) == 16
    shown.open("models/vae/interpolate")
    sources = shown.wait(lambda: shown.sources(".way img"))
    way = np.stack([pixels(source) for source in sources]).astype(float)
    steps = np.abs(np.diff(way, axis=0)).mean((1, 2))
    assert np.abs(way[-1] - way[0]).mean() > 2 * steps.max() > 0  # it changes, and by small steps
    shown.open("models/vae/explore")
    shown.one(".large img")
    before = shown.one(".large img").get_attribute("src")
    shown.one("#z1").send_keys(Keys.END)
    shown.wait(lambda: shown.one(".large img").get_attribute("src") != before)
