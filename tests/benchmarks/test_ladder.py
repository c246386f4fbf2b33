"""The ladder of one large image, on a real server with a small one."""

from __future__ import annotations

import json

import pytest

from benchmarks import ladder


def test_every_form_gets_its_answer_and_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladder.main(["--size", "32", "--rounds", "1", "--json"]) == 0
    rungs = json.loads(capsys.readouterr().out)["rungs"]
    sizes = {(rung["protocol"], rung["form"]): rung["size_bytes"] for rung in rungs}
    raw = 32 * 32 * 3 * 4
    assert len(sizes) == 8
    assert raw < sizes["Open Inference, REST", "binary tensor"] < raw + 300
    assert raw < sizes["TensorFlow Serving, gRPC", "tensor_content"] < raw + 300
    assert sizes["TensorFlow Serving, REST", "JSON numbers"] > 3 * raw
    assert sizes["TensorFlow Serving, REST", "PNG as base64"] < raw
    assert all(rung["total_ms"] > 0 for rung in rungs)


def test_rows_are_a_table() -> None:
    rung = ladder.Rung("p", "f", 12_582_912, 20.5, 4.0)
    assert ladder.table([rung]).splitlines()[-1] == "| p | f | 12.6 | 20.5 | 4 |"
