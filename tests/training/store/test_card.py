"""What makes a model card."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ladle.training.store import card

TENSOR = {"x": {"dtype": "float32", "shape": [None, 2]}}
CARD: dict[str, Any] = {
    "format": 1,
    "network": "tiny",
    "task": "regress",
    "version": 3,
    "created": "2026-01-01T00:00:00Z",
    "description": "A line.",
    "config": {"seed": 1},
    "preset": None,
    "seed": 1,
    "data": {},
    "labels": None,
    "metrics": {},
    "epochs": 1,
    "training_seconds": 0.5,
    "machine": "a test",
    "signatures": {
        "serving_default": {"method": "predict", "graph": "model.onnx", "inputs": TENSOR, "outputs": TENSOR},
        "text": {"method": "predict", "reason": "strings", "inputs": TENSOR, "outputs": TENSOR},
    },
    "onnx": {"model.onnx": {"opset": 18, "size_bytes": 1, "sha256": "00", "parity": {}}},
    "parameters": 2,
    "size_bytes": 10,
    "versions": {},
    "commit": None,
}


def changed(*path: str, to: Any = None, remove: bool = False) -> dict[str, Any]:
    content = copy.deepcopy(CARD)
    entry = content
    for key in path[:-1]:
        entry = entry[key]
    if remove:
        del entry[path[-1]]
    else:
        entry[path[-1]] = to
    return content


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / card.FILE).write_bytes(card.encode(CARD))
    assert card.read(tmp_path) == CARD


def test_a_folder_without_a_card_has_none(tmp_path: Path) -> None:
    assert card.read(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "got list; expected a JSON object"),
        (changed("machine", remove=True), '"machine" is missing'),
        (changed("version", to="3"), "\"version\" is '3'; expected int"),
        (changed("epochs", to=True), '"epochs" is True'),
        (changed("format", to=2), '"format" is 2'),
        (changed("task", to="sing"), "\"task\" is 'sing'; expected one of classify"),
        (changed("signatures", "text", "method", to="run"), 'signature "text" has no method'),
        (changed("signatures", "text", "reason", remove=True), 'signature "text" has neither a graph nor'),
        (changed("signatures", "text", "inputs", to={"x": {}}), 'signature "text" has no inputs with dtype'),
        (changed("signatures", "text", "before", to=[{}]), 'signature "text" has a step without "op" in before'),
        (changed("signatures", "serving_default", "graph", to="other.onnx"), "runs other.onnx"),
        (changed("onnx", "model.onnx", "sha256", remove=True), "lacks one of opset"),
        (changed("onnx", "../model.onnx", to={}), "expected a file name"),
    ],
    ids=lambda value: None if isinstance(value, str) else "card",
)
def test_an_error_names_the_wrong_entry(content: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        card.validate(content)


def test_a_file_that_is_no_card_is_named(tmp_path: Path) -> None:
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / card.FILE).write_text("{")
    with pytest.raises(ValueError, match=r"card\.json is not a model card"):
        card.read(tmp_path)
