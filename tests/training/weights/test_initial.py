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


def put(path: Path, model: Any, prepared: Prepared, name: str = "lenet5") -> None:
    initial.put(initial.find(path), models.get(name), model, prepared.config, prepared.assets)


def other(ready: Ready) -> tuple[Any, Prepared]:
    """A network whose weights come from another seed."""
    return ready(count=60, seed=7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_begins_with_the_weights_of_a_file(kind: str, ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=60)
    if kind.endswith(".npz"):
        checkpoint.save_weights(tmp_path / kind, model)
    else:
        formats.save(model, tmp_path / kind)
    begun, prepared = other(ready)
    assert any((a != b).any() for a, b in zip(model.get_weights(), begun.get_weights(), strict=True))
    put(tmp_path / kind, begun, prepared)
    for a, b in zip(checkpoint.values(model), checkpoint.values(begun), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["model.keras", "model.weights.h5"])
def test_weights_of_another_shape_are_refused(kind: str, ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=60, units=(20, 12))
    formats.save(model, tmp_path / kind)
    begun, prepared = ready(count=60)
    with pytest.raises(UsageError, match=r"must be of lenet5|where the network has 10; dense1/kernel"):
        put(tmp_path / kind, begun, prepared)


@pytest.mark.parametrize("name", ["", "none.keras", "notes.txt"])
def test_a_path_without_weights_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(UsageError, match="no weights to begin with; give a"):
        initial.find(tmp_path / name)
