"""docs/export.md shows the last measurement of the collection."""

from __future__ import annotations

import json
from pathlib import Path

from tests.collection import applications
from tools import coverage_page


def test_the_page_shows_the_last_measurement() -> None:
    section = coverage_page.render(json.loads(coverage_page.RESULT.read_text()))
    assert section in coverage_page.PAGE.read_text()


NETWORK = {
    "weights": 23_600_000,
    "seconds": 7.2,
    "cpu_seconds": 8.6,
    "peak_bytes": 1_400_000_000,
    "max_abs": 2e-7,
    "unsteady": 0,
    "reason": "",
}


def test_the_page_has_a_row_for_each_network_of_keras_applications() -> None:
    failed = NETWORK | {"max_abs": None, "reason": "ONNX has no X"}
    found = {"size": 96, "networks": {"ResNet50": NETWORK, "VGG16": failed}}
    *_, right, wrong = coverage_page.render_applications(found).splitlines()
    assert right == "| ResNet50 | 23.6 | 7 | 9 | 1.4 | 2e-07 |"
    assert wrong == "| VGG16 | 23.6 | 7 | 9 | 1.4 | ONNX has no X |"


def test_a_measurement_keeps_the_networks_that_were_measured_before(tmp_path: Path) -> None:
    path = tmp_path / "applications.json"
    applications.write({"VGG16": NETWORK}, path)
    applications.write({"MobileNet": NETWORK}, path)
    assert list(json.loads(path.read_text())["networks"]) == ["MobileNet", "VGG16"]


def test_the_page_shows_the_last_conversion_of_keras_applications() -> None:
    found = json.loads(coverage_page.APPLICATIONS.read_text())
    assert coverage_page.render_applications(found) in coverage_page.PAGE.read_text()
    networks = found["networks"]
    assert {name for name, network in networks.items() if network["reason"]} <= {applications.UNSTEADY}
    assert all(networks[name]["seconds"] < applications.MOST_S for name in applications.NAMES)


def test_the_collection_is_covered_and_right() -> None:
    models = json.loads(coverage_page.RESULT.read_text())["models"].values()
    numbers = [model for model in models if not model["strings"]]
    assert sum(model["graphs"] for model in numbers) >= 0.9 * sum(model["signatures"] for model in numbers)
    assert not any(model["wrong"] or model["crash"] for model in models)
