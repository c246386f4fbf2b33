"""The tutorial on one's own table, from the first block to the last, in one folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ladle import command
from tests import blocks
from tests.blocks import ROOT


@pytest.mark.slow  # 25 s of CPU; tests/training/run/test_tables.py asks the same of two smaller runs
def test_a_table_is_trained_on_served_and_asked(
    tmp_path: Path, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [block for block in blocks.read(ROOT / "docs" / "own-table.md") if block.reason == "table"]
    draw, train, *asked = steps
    done = blocks.run(draw, tmp_path, {"8500": 0})
    assert done.stdout == "400 houses\n", done.stderr
    monkeypatch.chdir(tmp_path)
    for line in train.code.splitlines():
        program, *words = shlex.split(line)
        assert program == "ladle"
        assert command.main(words) == 0, capsys.readouterr().err
    card = json.loads((tmp_path / "model_repository/prices/1/assets.extra/card.json").read_text())
    figures = card["metrics"]["test"]
    assert figures["absolute_error"] < figures["baseline_absolute_error"] / 3
    server = serve("--repository", tmp_path / "model_repository", models=["prices", "quick_sales"])
    answers = []
    for step in asked:
        done = blocks.run(step, tmp_path, {"8500": server.grpc_port, "8501": server.rest_port})
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    assert "area_m2" in answers[0]
    [price] = json.loads(answers[1])["predictions"]
    assert 200_000 < price < 400_000
    number, label = answers[2].splitlines()
    assert float(number) == pytest.approx(price, rel=1e-5)
    assert label == "yes ('no', 'yes')"
