"""The one reader of model cards: a wrong card is told from none, in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ladle.clients.library import cards

BAD = {
    "text": (b"a card", "got no JSON"),
    "torn": (b'{"task": ', "got no JSON"),
    "bytes": (b"\xff\xfe\x00", "got bytes that are not UTF-8"),
    "list": (b"[]", "got a list; expected an object"),
    "data": (b'{"data": "x"}', "data: got a string; expected an object"),
    "synthetic": (b'{"data": {"synthetic": 1}}', "data.synthetic: got an integer; expected a boolean"),
    "splits": (b'{"data": {"splits": {"test": "all"}}}', "data.splits.test: got a string; expected an integer"),
    "metrics": (b'{"metrics": {"test": [1]}}', "metrics.test: got a list; expected an object"),
    "labels": (b'{"labels": 5}', "labels: got an integer; expected a list"),
    "label": (b'{"labels": ["a", {}]}', "labels[1]: got an object; expected a string or a number"),
    "headline": (
        b'{"headline": {"value": true}}',
        "headline.value: got a boolean; expected a number",
    ),
    "shape": (
        b'{"signatures": {"s": {"inputs": {"x": {"shape": [null, "4"]}}}}}',
        "signatures.s.inputs.x.shape[1]: got a string; expected an integer",
    ),
    "parity": (b'{"onnx": {"model.onnx": {"parity": []}}}', "onnx.model.onnx.parity: got a list; expected an object"),
    "null": (b'{"onnx": {"model.onnx": null}}', "onnx.model.onnx: got null; expected an object"),
    "deep": (b"[" * 200_000 + b"]" * 200_000, "nested too deep; expected at most 32 levels"),
    "deep-entry": (b'{"more": ' + b"[" * 40 + b"]" * 40 + b"}", "nested too deep; expected at most 32 levels"),
    "huge": (b'{"more": "' + b"x" * cards.MAX_BYTES + b'"}', "got more than 1,048,576 bytes"),
    "digits": (b'{"epochs": ' + b"9" * 400 + b"}", "got an integer of 400 digits"),
    "surrogate": (b'{"description": "\\ud800"}', "got half of a surrogate pair"),
}
"""Cards that readers refuse, and what they say."""


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "lenet5" / "1"
    (folder / "assets.extra").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD.keys())
def test_a_wrong_card_is_refused_with_the_place_and_what_was_expected(version: Path, content: bytes, said: str) -> None:
    (version / cards.FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"^card\.json: ") as refused:
        cards.read(version)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 250
    assert cards.labels(version.parent.parent, "lenet5") == []


def test_absent_null_and_further_members_are_no_fault(version: Path) -> None:
    card = {"task": None, "labels": None, "data": {"name": None}, "metrics": {"test": {"loss": None}}, "of_ours": [[1]]}
    (version / cards.FILE).write_text(json.dumps(card))
    assert cards.read(version) == card


def test_a_version_without_a_card_has_none(version: Path) -> None:
    assert cards.read(version) is None
    assert cards.read(version / "saved_model.pb") is None


@pytest.mark.timeout(20)
def test_a_named_pipe_in_place_of_a_card_is_not_waited_for(version: Path) -> None:
    os.mkfifo(version / cards.FILE)
    with pytest.raises(ValueError, match="no regular file"):
        cards.read(version)
