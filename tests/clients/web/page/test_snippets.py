"""The code on the page runs as it stands: curl, Python over gRPC, REST and Node give the page's answer."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

ROOT = Path(__file__).resolve().parents[4]
NODE = shutil.which("node")
LANGUAGES = ("curl", "Python, gRPC", "REST", *(["Node"] if NODE else []))
DEADLINE_S = 60

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def run(page: Any, folder: Path) -> dict[str, str]:
    """What each snippet on the page prints, run in that folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = {}
    for language in LANGUAGES:
        page.one(".code .choice label", language).click()
        code = page.one(".code code").text
        commands = {"Python, gRPC": [sys.executable, "-c"], "Node": [NODE or "", "--input-type=module", "-e"]}
        command = [*commands.get(language, ["bash", "-c"]), code]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        printed[language] = done.stdout
    return printed


def answers(page: Any, folder: Path) -> tuple[Any, str, Any]:
    """The gateway's JSON, what Python prints, the model server's JSON."""
    printed = run(page, folder)
    gateway = json.loads(printed["curl"])
    if NODE:
        assert {**json.loads(printed["Node"]), "server_ms": 0} == {**gateway, "server_ms": 0}
    return gateway, printed["Python, gRPC"].strip(), json.loads(printed["REST"])


def described(images: Any) -> str:
    """As the Python snippets print images: shape and mean."""
    array = np.asarray(images)
    return f"{array.shape} {array.mean()}"


def pictures(images: list[str]) -> np.ndarray[Any, Any]:
    """base64 or data: URLs -> uint8 [n, h, w, 1]."""
    decoded = [Image.open(io.BytesIO(base64.b64decode(image.rpartition(",")[2]))) for image in images]
    return np.stack([np.asarray(image) for image in decoded])[..., np.newaxis]


def check_class(label: str, gateway: Mapping[str, Any], python: str, rest: Mapping[str, Any]) -> None:
    assert gateway["results"][0]["label"] == label
    assert python.split()[0] == label
    [prediction] = rest["predictions"]
    assert prediction["label"] == label
    assert float(python.split()[1]) == pytest.approx(max(prediction["probabilities"]), abs=1e-6)
    assert float(python.split()[1]) == pytest.approx(gateway["results"][0]["probability"], abs=1e-6)


def test_of_a_sample(page: Any, tmp_path: Path) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.all(".sample")[1].click()
    page.one(".answer", "coat")
    check_class("coat", *answers(page, tmp_path))


def test_of_a_file_whose_name_is_awkward(page: Any, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0], [255, 0]], np.uint8)).save(tmp_path / "a 'shirt', \"so\" $HOME.png")
    page.open("models/classifier")
    page.one(".choice label", "Upload").click()
    page.wait(lambda: page.all("input[type=file]"))[0].send_keys(str(tmp_path / "a 'shirt', \"so\" $HOME.png"))
    page.one(".answer", "shirt")
    check_class("shirt", *answers(page, tmp_path))


def test_of_a_drawing_that_was_saved(page: Any, tmp_path: Path) -> None:
    page.open("models/classifier")
    page.one(".choice label", "Draw").click()
    canvas = page.one("canvas.draw")
    canvas.send_keys(Keys.ARROW_LEFT * 7, Keys.ARROW_UP * 7, " ", Keys.ARROW_UP, " ")
    page.wait(lambda: page.one(".sure").text != "33.3 % sure")
    assert page.one("a[download]", "Save").get_attribute("download") == "drawing.png"
    saved = page.run("return document.querySelector('canvas.draw').toDataURL()")
    (tmp_path / "drawing.png").write_bytes(base64.b64decode(saved.partition(",")[2]))
    check_class(page.one(".answer").text.lower(), *answers(page, tmp_path))


def test_of_a_text(page: Any, tmp_path: Path) -> None:
    page.open("models/mood")
    page.one(".truth.right")
    page.write(page.one("#text"), 'It\'s a "bad" film,\n$HOME `x` \\ ü — 好')
    page.one(".answer", "negative")
    gateway, python, rest = answers(page, tmp_path)
    assert gateway["results"][0]["label"] == "negative"
    assert python.split()[0] == "negative"
    assert rest["predictions"][0]["label"] == "negative"
    assert float(python.split()[1]) == pytest.approx(rest["predictions"][0]["probability"], abs=1e-6)
    assert float(python.split()[1]) == pytest.approx(gateway["results"][0]["positive"], abs=1e-6)


def test_of_generated_images(page: Any, tmp_path: Path) -> None:
    page.open("models/painter/generate")
    shown = page.wait(lambda: page.sources(".grid img"))
    printed = run(page, tmp_path)
    images = json.loads(printed["REST"])["outputs"]
    assert printed["Python, gRPC"].strip() == described(images) == described(pictures(shown))
    assert Image.open(tmp_path / "painter-0.png").size[0] > 4 * 4


def test_of_a_code(page: Any, tmp_path: Path) -> None:
    page.open("models/autoencoder/explore")
    page.wait(lambda: page.all(".large img"))
    page.one("#z3").send_keys(Keys.ARROW_RIGHT * 30)
    shown = page.wait(lambda: _bright(page, 77))
    printed = run(page, tmp_path)
    images = json.loads(printed["REST"])["predictions"]
    assert printed["Python, gRPC"].strip() == described(images) == described(pictures([shown]))
    assert Image.open(tmp_path / "autoencoder.png").size[0] >= 2


def _bright(page: Any, level: int) -> str | None:
    """The large image, once its third pixel has that brightness within one."""
    source = str(page.one(".large img").get_attribute("src"))
    return source if abs(int(pictures([source]).flat[2]) - level) <= 1 else None


@pytest.mark.parametrize("model", ["autoencoder", "painter"])
def test_of_the_way_between_two_ends(page: Any, tmp_path: Path, model: str) -> None:
    page.open(f"models/{model}/interpolate")
    shown = page.wait(lambda: page.sources(".way img"))
    gateway, python, rest = answers(page, tmp_path)
    assert python == described(rest["outputs"]) == described(pictures(shown)) == described(pictures(gateway["images"]))


def test_of_a_mask(page: Any, tmp_path: Path) -> None:
    page.open("models/threshold")
    page.one(".stage .layer")
    gateway, python, rest = answers(page, tmp_path)
    assert [each["share"] for each in gateway["results"][0]["classes"]] == [0.5, 0.5]
    assert python == described(rest["predictions"][0]) == "(16, 16) 0.5"


def test_of_a_reconstruction(page: Any, tmp_path: Path) -> None:
    page.open("models/autoencoder")
    page.wait(lambda: len(page.all(".pair img")) == 2)
    gateway, python, rest = answers(page, tmp_path)
    assert pictures([gateway["results"][0]["image"]]).ravel().tolist() == [255, 0, 0, 0]
    assert np.asarray(rest["predictions"]).ravel().tolist() == [1, 0, 0, 0]
    assert python == "(2, 2, 1) 0.25"


def test_of_a_number(page: Any, tmp_path: Path) -> None:
    page.open("models/half_plus_two")
    page.one(".answer", "2.5")
    gateway, python, rest = answers(page, tmp_path)
    assert gateway["y"] == [[2.5]]
    assert rest["predictions"] == [[2.5]]
    assert re.search(r"\[\[2\.5\]\]", python)


def test_of_any_signature(page: Any, tmp_path: Path) -> None:
    page.open("models/columns/try")
    page.one(".output")
    gateway, python, rest = answers(page, tmp_path)
    assert gateway["outputs"] == rest["outputs"] == {"price": [[1.5]], "double": [[2]]}
    assert sorted(python.splitlines()) == ["double int64 (1, 1) [2]", "price float32 (1, 1) [1.5]"]


def test_of_bytes_for_any_signature(page: Any, tmp_path: Path) -> None:
    page.open("models/classifier/try")
    page.one(".choice label", "serving_bytes").click()
    page.one(".output pre", "boot")
    gateway, python, rest = answers(page, tmp_path)
    assert gateway["outputs"]["label"] == rest["outputs"]["label"] == ["boot"]
    assert "class_id int64 (1,) [0]" in python


def test_of_a_row_of_numbers(page: Any, tmp_path: Path) -> None:
    page.open("models/flowers")
    page.write(page.one("#x1"), "3")
    page.one(".answer", "versicolor")
    gateway, python, rest = answers(page, tmp_path)
    assert gateway["results"][0]["label"] == "versicolor"
    assert max(rest["predictions"][0]) == pytest.approx(gateway["results"][0]["probability"], abs=1e-6)
    assert "output_0" in python


def test_the_script_for_a_page_runs_in_a_page(page: Any) -> None:
    page.open("models/flowers")
    page.write(page.one("#x1"), "3")
    page.one(".answer", "versicolor")
    page.one(".code .choice label", "JavaScript").click()
    code = page.one(".code code").text
    wrapped = f"const done = arguments[0]; const console = {{ log: done }}; (async () => {{ {code} }})();"
    said = json.loads(page.driver.execute_async_script(wrapped))
    assert said["results"][0]["label"] == "versicolor"


def test_the_copy_button_copies_what_is_shown(page: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.run("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    page.one(".code button", "Copy").click()
    page.one(".code button", "Copied")
    assert page.run("return window.copied") == page.one(".code code").text
