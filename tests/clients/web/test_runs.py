"""What trains now, read from the run folders that training writes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.clients.web import runs


def write(home: Path, name: str, time: str, *, exported: str | None, epochs: int = 3, done: int = 2) -> Path:
    """A run folder as training writes it."""
    folder = home / name / time
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"what": {"config": {"epochs": epochs}}, "exported": exported}))
    figures = [
        {"epoch": n, "loss": 1.0 / n, "val_accuracy": 0.5, "learning_rate": 0.1, "seconds": 2.0 * n}
        for n in range(1, done + 1)
    ]
    (folder / "history.json").write_text(json.dumps(figures))
    return folder


@pytest.fixture
def hold() -> Iterator[Any]:
    """Locks a folder as training does while it lasts."""
    held: list[int] = []

    def lock(folder: Path) -> None:
        held.append(os.open(folder, os.O_RDONLY))
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)

    yield lock
    for descriptor in held:
        os.close(descriptor)


def test_a_run_that_trains_is_told_with_its_epoch_and_metrics(tmp_path: Path, hold: Any) -> None:
    write(tmp_path, "lenet5", "2026-01-01T00-00-00", exported="/models/lenet5/1")
    hold(write(tmp_path, "lenet5", "2026-01-02T00-00-00", exported=None))
    hold(write(tmp_path, "unet", "2026-01-02T00-00-00", exported=None, done=3))
    hold(write(tmp_path, "vae", "2026-01-02T00-00-00", exported=None, done=0))
    lenet5, unet, vae = runs.active(tmp_path)
    assert lenet5 == {
        "name": "lenet5",
        "epoch": 2,
        "epochs": 3,
        "seconds": 4.0,
        "metrics": {"loss": 0.5, "val_accuracy": 0.5},
        "exporting": False,
    }
    assert (unet["name"], unet["exporting"]) == ("unet", True)
    assert (vae["epoch"], vae["metrics"], vae["exporting"]) == (0, {}, False)


def test_a_run_that_ended_was_interrupted_or_cannot_be_read_does_not_train(tmp_path: Path, hold: Any) -> None:
    hold(write(tmp_path, "done", "2026-01-01T00-00-00", exported="/models/done/1"))
    write(tmp_path, "killed", "2026-01-01T00-00-00", exported=None)
    broken = write(tmp_path, "broken", "2026-01-01T00-00-00", exported=None)
    (broken / "run.json").write_text("{")
    hold(broken)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert runs.active(tmp_path) == []
    assert runs.active(tmp_path / "nowhere") == []
    assert runs.active(None) == []


@pytest.mark.parametrize("history", ["[5]", "{}", '[{"epoch": "x"}]', "[" * 100_000, "[{}]"])
def test_a_strange_history_is_no_failure(tmp_path: Path, hold: Any, history: str) -> None:
    folder = write(tmp_path, "odd", "2026-01-01T00-00-00", exported=None)
    (folder / "history.json").write_text(history)
    hold(folder)
    [entry] = runs.active(tmp_path)
    assert entry["epoch"] == 0
