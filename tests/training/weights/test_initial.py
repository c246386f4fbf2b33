from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle import models
from ladle.training.data.pipeline import Prepared
from ladle.training.errors import UsageError
from ladle.training.loop import checkpoint
from ladle.training.weights import formats, initial

Ready = Callable[..., tuple[Any, Prepared]]
KINDS = ("model.keras", "model.h5", "model.weights.h5", "checkpoint.npz")


def assign(path: Path, model: Any, prepared: Prepared, name: str = "lenet5") -> None:
    initial.assign(initial.find(path), models.get(name), model, prepared.config, prepared.assets)


def other(ready: Ready) -> tuple[Any, Prepared]:
    """A network whose weights come from another seed."""
    return ready(count=60, seed=7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_starts_from_the_weights_of_a_file(kind: str, ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=60)
    if kind.endswith(".npz"):
        checkpoint.save_weights(tmp_path / kind, model)
    else:
        formats.save(model, tmp_path / kind)
    started, prepared = other(ready)
    assert any((a != b).any() for a, b in zip(model.get_weights(), started.get_weights(), strict=True))
    assign(tmp_path / kind, started, prepared)
    for a, b in zip(checkpoint.values(model), checkpoint.values(started), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["model.keras", "model.weights.h5"])
def test_weights_of_another_shape_are_refused(kind: str, ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=60, units=(20, 12))
    formats.save(model, tmp_path / kind)
    started, prepared = ready(count=60)
    with pytest.raises(UsageError, match=r"must come from lenet5|expected 10; dense1/kernel: got"):
        assign(tmp_path / kind, started, prepared)


@pytest.mark.parametrize("name", ["", "none.keras", "notes.txt"])
def test_a_path_without_weights_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(UsageError, match="no initial weights; give a"):
        initial.find(tmp_path / name)
