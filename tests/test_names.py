"""No code outside a family file asks for a network by name: what is special about a network stands in its row.

A network's row, its config or its model card says what the other rooms need to know of it. So a network is added,
renamed or removed in one file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ladle import models
from ladle.clients.web import catalog
from ladle.training.evaluate import headline

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("ladle", "training", "serving", "clients")
EXCEPTIONS = {
    "clients/cli/demo/__main__.py": "the networks of the showcase",
    "training/report/results.py": "the README's table: a choice of results for each family",
    "training/weights/pretrained.py": "names of published weights, given by their makers",
}
"""Files that may name networks, and why: they choose what to show, or mean something else of that name."""
FAMILIES = {path.stem for path in (ROOT / "models").glob("*.py") if not path.stem.startswith("_")}


def named(source: str) -> Iterator[str]:
    """Names of networks that stand as strings in a source, and family files that it imports."""
    networks = set(models.names())
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in networks:
            yield f"line {node.lineno}: {node.value!r}"
        if isinstance(node, ast.ImportFrom) and node.module == "ladle.models":
            yield from (f"line {node.lineno}: imports {alias.name}" for alias in node.names if alias.name in FAMILIES)
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.startswith("ladle.models.") and module.split(".")[2] in FAMILIES:
                yield f"line {node.lineno}: imports {module}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('if network == "lenet5": pass', 1),
        ('"lenet5 is a network"', 0),
        ("from ladle.models import himmelblau, names", 1),
        ("from ladle.models.himmelblau import build\nimport ladle.models.vae", 2),
        ("from ladle.models import Network", 0),
    ],
)
def test_a_name_is_found_in_a_comparison_and_in_an_import(source: str, count: int) -> None:
    assert len(list(named(source))) == count


def test_no_room_asks_for_a_network_by_name() -> None:
    # Path.rglob does not follow the links in ladle/, so each file is found once.
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 200
    found = {str(path.relative_to(ROOT)): list(named(path.read_text(encoding="utf-8"))) for path in files}
    asking = {file: lines for file, lines in found.items() if lines}
    assert {file: lines for file, lines in asking.items() if file not in EXCEPTIONS} == {}
    assert sorted(asking) == sorted(EXCEPTIONS), "an exception is no longer needed: remove it"


def test_old_cards_get_the_headline_that_training_would_have_given_them() -> None:
    assert catalog.HEADLINES == headline.HEADLINES
    metrics = {"squared_error": 0.1, "diversity": 0.9}
    entry = headline.card_entry({"test": metrics})["headline"]
    assert catalog.headline({"metrics": {"test": metrics}}) == entry
    assert catalog.headline({"metrics": {"test": {"accuracy": 1.0}}, "headline": entry}) == entry
