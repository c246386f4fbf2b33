"""`ladle replay`: which answers are the same, and which files are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ladle.clients.cli.__main__ import main
from ladle.clients.cli.replay import compare
from ladle.clients.wire import tfrecord


@pytest.mark.parametrize(
    ("answer", "expected", "word", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], "same", 0),
        ([1.0, 2.00001], [1.0, 2.0], "same", 1e-5),
        ([1000.01], [1000.0], "same", 0.01),
        ([1.0, 2.1], [1.0, 2.0], "differs", 0.1),
        ([np.nan, np.inf], [np.nan, np.inf], "same", 0),
        ([np.nan], [1.0], "differs", np.inf),
        ([1.0], [np.inf], "differs", np.inf),
        ([1.0], [[1.0]], "differs", 0),
        ([3], [3], "same", 0),
        ([3], [4], "differs", 1),
        ([True], [False], "differs", 1),
        ([], [], "same", 0),
        ([b"a", b"b"], [b"a", b"b"], "same", 0),
        ([b"a", b"b"], [b"a", b"c"], "differs", 0),
    ],
)
def test_numbers_are_the_same_within_the_tolerance_and_strings_if_they_are_equal(
    answer: list[object], expected: list[object], word: str, difference: float
) -> None:
    kind = object if answer and isinstance(answer[0], bytes) else None
    found = compare({"y": np.array(answer, kind)}, {"y": np.array(expected, kind)}, 1e-4)
    assert found.word == word, found.why
    assert found.difference == pytest.approx(difference, rel=0.01)


def test_answers_with_other_outputs_differ() -> None:
    assert compare({"y": np.ones(1)}, {"z": np.ones(1)}, 0).why == "the outputs are ['y'], the other's ['z']"


def test_files_without_requests_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "requests.tfrecord"
    where = ["--server", "grpc://127.0.0.1:1"]
    for content, message in (
        (b"no", "is not a TFRecord file"),
        (tfrecord.frame(b"\xff"), "record 0 is not a PredictionLog"),
        (tfrecord.frame(b"abc")[:-1], "is cut off"),
        (b"", "no request was sent"),
    ):
        file.write_bytes(content)
        assert main(["replay", str(file), *where]) == 1
        assert message in capsys.readouterr().err
    for other in ("http", "oip+http", "oip+grpc"):
        assert main(["replay", str(file), "--server", f"{other}://127.0.0.1:1"]) == 1
        assert "replay sends gRPC messages of TensorFlow Serving: give grpc://" in capsys.readouterr().err


def test_checksums_are_the_same_without_the_package_that_computes_them_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 3
    fast = tfrecord.frame(data)
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    assert tfrecord.frame(data) == fast
