"""Training in stages: what each changes, what is computed once, and how an interrupted run continues."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle import models
from ladle.models import Network
from ladle.training.errors import InterruptedRunError
from ladle.training.loop import checkpoint, fit, stages
from ladle.training.loop.checkpoint import State

NETWORK = models.get("transfer")


class Trained:
    """`transfer` trained on generated pictures; what was said, and which files the loop was given.

    stop_in  stage whose epoch is stopped after its first step
    """

    def __init__(self, ready: Any, folder: Path, network: Network = NETWORK, stop_in: str = "", **options: Any) -> None:
        self.model, self.prepared = ready("transfer", count=60, channels=1, **options)
        self.said: list[str] = []
        self.fitted: list[tuple[str, int]] = []
        self.stop_in = stop_in
        self.before = checkpoint.values(self.model)
        self.state, self.entries = stages.run(
            network, self.model, self.prepared, folder / "checkpoint.npz", self.fit, self.said.append
        )

    def fit(self, model: Any, prepared: Any, file: Path, before: int) -> State:
        self.fitted.append((file.name, before))
        return fit.fit(model, prepared, file, stop=lambda: file.name == self.stop_in)

    def changed(self, layer: str) -> list[bool]:
        """Whether each weight of a layer differs from the one that it began with."""
        began = dict(zip(map(id, self.model.variables), self.before, strict=True))
        return [not np.array_equal(v.numpy(), began[id(v)]) for v in self.model.get_layer(layer).variables]


def head_alone(config: Any) -> Any:
    return NETWORK.stages(config)[:3]


def test_five_stages_are_announced_and_each_trains_its_part(ready: Any, tmp_path: Path) -> None:
    run = Trained(ready, tmp_path, head_epochs=2, unfrozen=0.3)
    told = [line.strip() for line in run.said if "stage" in line]
    names = ["add the head", "freeze the base", "train the head", "unfreeze the top", "train both at a low rate"]
    assert all(
        line.startswith(f"stage {i}/5 {name}") for i, (line, name) in enumerate(zip(told, names, strict=True), 1)
    )
    assert run.fitted == [("stage-3.npz", 0), ("checkpoint.npz", 2)]
    assert [entry["epochs"] for entry in run.entries["stages"]] == [0, 0, 2, 0, 1]
    assert [row["epoch"] for row in run.state.history] == [1, 2, 3]
    assert [row["learning_rate"] for row in run.state.history] == pytest.approx([1e-2, 1e-2, 1e-3])
    base = run.model.get_layer("efficientnet_lite0")
    changed = dict(zip(("/".join(v.path.split("/")[-2:]) for v in base.variables), run.changed(base.name), strict=True))
    assert {name for name, different in changed.items() if different} == {
        "block2_project_conv/kernel",
        "head_conv/kernel",
    }
    assert all(run.changed("head"))


@pytest.mark.slow
def test_features_computed_once_train_the_head_as_the_whole_network_does(ready: Any, tmp_path: Path) -> None:
    def whole(config: Any) -> Any:
        return [dataclasses.replace(stage, split=None) for stage in head_alone(config)]

    # Dropout draws from another stream in another model.
    options: dict[str, Any] = {"dropout": 0.0, "train_limit": 32}
    once = Trained(ready, tmp_path / "once", dataclasses.replace(NETWORK, stages=head_alone), **options)
    every = Trained(ready, tmp_path / "every", dataclasses.replace(NETWORK, stages=whole), **options)
    assert once.state.history[0]["val_loss"] == pytest.approx(every.state.history[0]["val_loss"], abs=1e-5)
    assert not any(once.changed("efficientnet_lite0"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["stage-3.npz", "checkpoint.npz"], ids=["with the head", "with both"])
def test_a_run_stopped_in_a_stage_continues_to_the_same_weights(place: str, ready: Any, tmp_path: Path) -> None:
    straight = Trained(ready, tmp_path / "straight")
    with pytest.raises(InterruptedRunError):
        Trained(ready, tmp_path / "stopped", stop_in=place)
    again = Trained(ready, tmp_path / "stopped")
    for a, b in zip(checkpoint.values(straight.model), checkpoint.values(again.model), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert [row["epoch"] for row in again.state.history] == [row["epoch"] for row in straight.state.history]
    assert ("stage-3.npz" in dict(again.fitted)) == (place == "stage-3.npz")
