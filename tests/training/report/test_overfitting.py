"""The over-fitting report: every way to hold a network in one figure and one table."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ladle import models
from ladle.training.errors import TrainingError
from ladle.training.report import overfitting


def test_the_ways_are_plain_the_regularising_presets_and_early_stopping() -> None:
    found = overfitting.ways(models.get("mlp"))
    assert found == {
        "plain": {},
        "l2": {"penalty_l2": 1e-4},
        "kernel_l2": {"kernel_l2": 1e-3},
        "dropout": {"dropout": 0.5},
        "early stopping": {"patience": 5, "monitor": "val_loss"},
    }
    with pytest.raises(TrainingError, match="has no preset that regularises"):
        overfitting.ways(models.get("lenet5"))


@pytest.mark.slow  # five short trainings
def test_one_command_writes_the_figure_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "curves.png"
    arguments = ["mlp", "--synthetic", "--images", "100", "--epochs", "8", "--output", str(output)]
    assert overfitting.main(arguments) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip("| ") for row in rows] == ["plain", "l2", "kernel_l2", "dropout", "early stopping"]
    for row in rows:
        learnt, new, gap = (float(number) for number in row[3:6])
        assert gap == pytest.approx(learnt - new, abs=1e-4)
        assert float(row[7].strip(" |")) > 0
    assert rows[0][2] == "8"
    with Image.open(output) as picture:
        assert picture.width > 600


def test_a_network_without_such_presets_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert overfitting.main(["vae"]) == 1
    assert "vae: has no preset that regularises" in capsys.readouterr().err
