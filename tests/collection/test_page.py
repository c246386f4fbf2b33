"""docs/export.md shows the last measurement of the collection."""

from __future__ import annotations

import json

from tools import coverage_page


def test_the_page_shows_the_last_measurement() -> None:
    section = coverage_page.render(json.loads(coverage_page.RESULT.read_text()))
    assert section in coverage_page.PAGE.read_text()


def test_the_collection_is_covered_and_right() -> None:
    models = json.loads(coverage_page.RESULT.read_text())["models"].values()
    numbers = [model for model in models if not model["strings"]]
    assert sum(model["graphs"] for model in numbers) >= 0.9 * sum(model["signatures"] for model in numbers)
    assert not any(model["wrong"] or model["crash"] for model in models)
