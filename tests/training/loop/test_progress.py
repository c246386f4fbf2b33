from __future__ import annotations

import io
import math
import sys

import pytest

from ladle.training.loop import progress


@pytest.mark.parametrize(
    ("seconds", "shown"), [(9.26, "9.3 s"), (93.4, "1:33"), (3723, "1:02:03")], ids=["seconds", "minutes", "hours"]
)
def test_durations_have_a_unit_that_suits_them(seconds: float, shown: str) -> None:
    assert progress.clock(seconds) == shown


class Terminal(io.StringIO):
    """A stderr of 80 columns."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with progress.meter(2, 10) as bar:
        bar.step(1, 5, {"loss": 0.5, "accuracy": 0.75}, 12_345.0, 93.0)
        bar.say("  epoch 1/2  loss 0.5")
    assert "epoch 1/2" in screen.getvalue()
    assert "loss 0.5  12,345 examples/s  1:33 left" in screen.getvalue()
    assert "━" in screen.getvalue()


def test_a_file_gets_plain_lines_at_intervals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.meter(2, 10) as lines:
        lines.step(1, 4, {"loss": 0.5}, 10.0, 5.0)
        monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
        lines.step(1, 5, {"loss": 0.5}, 10.0, 5.0)
    assert capsys.readouterr().err == "  epoch 1/2  step 5/10  loss 0.5  10 examples/s  5.0 s left\n"


def test_an_epoch_is_a_line_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    figures = {"loss": 0.5, "accuracy": 0.75, "r_squared": math.nan, "val_loss": 0.25, "val_accuracy": 0.8}
    figures |= {f"val_metric_{n}": float(n) for n in range(9)}
    line = progress.epoch_line(3, 12, figures, ["loss", "val_accuracy"], 65.0, is_best=True)
    assert line == "  epoch  3/12     1:05  loss 0.5  val_accuracy 0.8  accuracy 0.75  best"
    monkeypatch.setenv("COLUMNS", "120")
    line = progress.epoch_line(3, 12, figures, ["loss", "val_accuracy"], 65.0, is_best=False)
    assert "accuracy 0.75  val_loss 0.25  val_metric_0 0" in line  # and no r_squared
    assert 100 < len(line) <= 120


def test_a_file_gets_few_epochs_and_a_terminal_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.meter(100, 10) as lines:
        for number in range(1, 101):
            lines.epoch(number, f"epoch {number}")
    assert capsys.readouterr().err.split("\n") == ["epoch 1", "epoch 100", ""]
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress.meter(100, 10) as bar:
        for number in range(1, 101):
            bar.epoch(number, f"epoch {number}.")
    assert all(f"epoch {number}." in screen.getvalue() for number in range(1, 101))
