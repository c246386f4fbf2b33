from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.training.data.pipeline import Prepared
from ladle.training.errors import InterruptedRunError, TrainingError
from ladle.training.loop import checkpoint, fit

Ready = Callable[..., tuple[keras.Model, Prepared]]
ROOT = Path(__file__).resolve().parents[3]


class Recorder:
    """A meter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def epoch(self, number: int, line: str) -> None:
        self.lines.append(line)

    def step(self, epoch: int, step: int, figures: Mapping[str, float], rate: float, left_seconds: float) -> None:
        self.steps.append((epoch, step))


def assert_equal(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_accuracy_rises_and_history_has_each_epoch(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=600, epochs=4, learning_rate=5e-3)
    state = fit.fit(model, prepared, tmp_path / "checkpoint.npz")
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4]
    assert state.history[-1]["val_accuracy"] > state.history[0]["val_accuracy"]
    assert set(state.history[0]) >= {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"}


# Dropout, batch normalisation, two optimizers: what the others have, these have too.
TELLING = ("lenet5", "resnet18", "wgan")


@pytest.mark.parametrize(
    "name", [n if n in TELLING else pytest.param(n, marks=pytest.mark.slow) for n in models.names()]
)
def test_a_run_continues_from_its_checkpoint_to_the_same_weights(ready: Ready, tmp_path: Path, name: str) -> None:
    images = models.get(name).task not in ("sentiment", "regress")
    settings: dict[str, Any] = {"epochs": 2, "augment": images, "schedule": "cosine", "warmup": 0.2}
    if name == "lenet5":
        settings |= {"dropout": 0.3, "schedule": "exponential", "decay": 0.5, "elastic": 1.0}
        settings |= {"optimizer": "sgd", "momentum": 0.9, "clip_global_norm": 1.0}
    model, prepared = ready(name, count=60, **settings)
    whole = fit.fit(model, prepared, tmp_path / "whole.npz")

    other, _ = ready(name, count=60, **settings)
    meter = Recorder()
    with pytest.raises(InterruptedRunError, match="the same command continues"):
        fit.fit(other, prepared, tmp_path / "cut.npz", meter=meter, stop=lambda: len(meter.steps) >= 1)
    assert meter.steps == [(1, 1)]
    third, _ = ready(name, count=60, **settings)
    resumed = fit.fit(third, prepared, tmp_path / "cut.npz")

    assert_equal(checkpoint.values(model), checkpoint.values(third))
    figures = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]
    assert figures == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history]
    assert whole.best == resumed.best


def test_a_run_that_is_stopped_at_the_end_of_an_epoch_keeps_its_figures(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("mlp", count=60, epochs=2)
    done: list[int] = []
    with pytest.raises(InterruptedRunError, match="stopped at epoch 2 of 2, step 0"):
        fit.fit(
            model,
            prepared,
            tmp_path / "checkpoint.npz",
            stop=lambda: bool(done),
            after_epoch=lambda epoch, figures: done.append(epoch),
        )
    again, _ = ready("mlp", count=60, epochs=2)
    state = fit.fit(again, prepared, tmp_path / "checkpoint.npz")
    assert [set(row) for row in state.history] == [set(state.history[0])] * 2


VICTIM = """
import sys
from pathlib import Path
from ladle.training import data
from ladle.training.loop import fit
from ladle.training.data.pipeline import prepare
from ladle import models

fit.CALL_SECONDS = fit.CHECKPOINT_SECONDS = 0.0
network = models.get("lenet5")
config = network.configured(**{**network.tiny, "epochs": 3, "dropout": 0.3, "augment": True})
prepared = prepare(network, config, data.load("fashion_mnist", synthetic=True, count=120))

class Meter:
    def say(self, text): pass
    def epoch(self, number, line): pass
    def step(self, epoch, step, figures, rate, left_seconds):
        if (epoch, step) == (2, 3):
            print("in the middle", flush=True)
            sys.stdin.read()

fit.fit(network.build(prepared.config), prepared, Path(sys.argv[1]), meter=Meter())
"""


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(ready: Ready, tmp_path: Path) -> None:
    settings = {"count": 120, "epochs": 3, "dropout": 0.3, "augment": True}
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(tmp_path / "killed.npz")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    whole, prepared = ready(**settings)
    fit.fit(whole, prepared, tmp_path / "whole.npz")
    assert victim.stdout is not None
    assert victim.stdout.readline() == "in the middle\n"
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL

    survivor, _ = ready(**settings)
    meter = Recorder()
    fit.fit(survivor, prepared, tmp_path / "killed.npz", meter=meter)
    assert meter.steps[0] == (2, 3)
    assert_equal(checkpoint.values(whole), checkpoint.values(survivor))
    with np.load(tmp_path / "whole.npz") as a, np.load(tmp_path / "killed.npz") as b:
        names = [name for name in a.files if name != "state"]
        assert sorted(names) == sorted(name for name in b.files if name != "state")
        for name in names:  # the optimizer's variables among them
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_many_steps_in_a_call_give_the_weights_of_single_steps(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prepared = ready("mlp", count=300, epochs=2)
    fit.fit(model, prepared, tmp_path / "many.npz")
    monkeypatch.setattr(fit, "CALL_SECONDS", 0.0)
    single, _ = ready("mlp", count=300, epochs=2)
    meter = Recorder()
    fit.fit(single, prepared, tmp_path / "single.npz", meter=meter)
    assert len(meter.steps) > prepared.steps
    assert_equal(checkpoint.values(model), checkpoint.values(single))


def test_the_best_epoch_is_kept_and_patience_ends_the_run(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=300, epochs=30, learning_rate=3e-2, monitor="val_loss", patience=2)
    seen: dict[int, list[np.ndarray]] = {}
    state = fit.fit(
        model,
        prepared,
        tmp_path / "checkpoint.npz",
        meter=(meter := Recorder()),
        after_epoch=lambda epoch, figures: seen.update({epoch: checkpoint.values(model)}),
    )
    losses = [row["val_loss"] for row in state.history]
    assert state.best == int(np.argmin(losses)) + 1
    assert state.epoch == min(30, state.best + 2)
    assert meter.lines[-2:] == [
        f"  stopped   early, after {state.epoch} of 30 epochs: val_loss was not better for 2 (--patience)",
        f"  best      epoch {state.best} of {state.epoch}, val_loss {min(losses):.4g}; its weights are kept",
    ]
    assert_equal(checkpoint.values(model), seen[state.best])


def test_training_stops_at_its_target_and_keeps_that_epoch(ready: Ready, tmp_path: Path) -> None:
    settings = {"count": 300, "learning_rate": 5e-3, "epochs": 12}
    plain, prepared = ready(**settings)
    curve = [row["val_accuracy"] for row in fit.fit(plain, prepared, tmp_path / "plain.npz").history]
    rise = next(i for i in range(1, 12) if curve[i] > max(curve[:i]))
    aim = (max(curve[:rise]) + curve[rise]) / 2
    # The learning rate makes the monitored metric best in the first epoch.
    model, prepared = ready(**settings, until=f"accuracy={aim}", monitor="learning_rate", schedule="constant")
    meter = Recorder()
    state = fit.fit(model, prepared, tmp_path / "until.npz", meter=meter)
    assert state.epoch == state.best == rise + 1
    assert meter.lines[-1].startswith(f"  reached   val_accuracy {curve[rise]:.4g} at epoch {rise + 1}, asked for by")
    again, _ = ready(**settings)
    assert fit.fit(again, prepared, tmp_path / "until.npz").epoch == rise + 1  # a complete run does not go on
    assert_equal(checkpoint.values(model), checkpoint.values(again))


def test_training_stops_after_the_epoch_in_which_its_time_ends(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("mlp", count=60, epochs=3, max_minutes=1e-6)
    state = fit.fit(model, prepared, tmp_path / "short.npz", meter=(meter := Recorder()))
    assert state.epoch == 1
    assert "  stopped   after 1 of 3 epochs: 1e-06 minutes were over (--max-minutes)" in meter.lines
    again, _ = ready("mlp", count=60, epochs=3)
    assert fit.fit(again, prepared, tmp_path / "short.npz").epoch == 1  # a complete run does not go on
    model, prepared = ready("mlp", count=60, epochs=3, max_minutes=1e6)
    assert fit.fit(model, prepared, tmp_path / "long.npz").epoch == 3


def test_a_target_of_an_unknown_metric_is_refused_with_the_known_ones(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("mlp", count=60, until="acuracy=0.5")
    with pytest.raises(TrainingError, match=r"got --until acuracy=0.5; expected one of loss, accuracy"):
        fit.fit(model, prepared, tmp_path / "checkpoint.npz")


def test_an_unknown_monitor_is_refused_with_the_known_metrics(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("mlp", count=60, monitor="val_acuracy")
    with pytest.raises(TrainingError, match=r"got --monitor val_acuracy; expected one of loss, accuracy"):
        fit.fit(model, prepared, tmp_path / "checkpoint.npz")


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("mlp", count=60, learning_rate=1e30, epochs=5)
    with pytest.raises(TrainingError, match=r"is nan at epoch 1.*smaller --learning-rate than 1e\+30"):
        fit.fit(model, prepared, tmp_path / "checkpoint.npz")


def test_the_learning_rate_follows_its_schedule(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("mlp", count=200, epochs=2, schedule="cosine", learning_rate=0.5)
    state = fit.fit(model, prepared, tmp_path / "checkpoint.npz")
    total = 2 * prepared.steps
    for row in state.history:
        last = row["epoch"] * prepared.steps - 1
        assert row["learning_rate"] == pytest.approx(0.25 * (1 + np.cos(np.pi * last / total)), rel=1e-4)


def test_a_checkpoint_of_another_network_is_refused(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=60)
    fit.fit(model, prepared, tmp_path / "checkpoint.npz")
    other, prepared = ready(count=60, units=(20, 12))
    with pytest.raises(TrainingError, match="belongs to another network or config"):
        fit.fit(other, prepared, tmp_path / "checkpoint.npz")


MIRRORED = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from ladle.training import data
from ladle.training.loop import checkpoint, devices, fit
from ladle.training.data.pipeline import prepare
from ladle import models

network = models.get(sys.argv[2])
tiny = {**network.tiny, "epochs": 2, "batch_size": 32, "monitor": ""}
config = network.configured(**tiny)
prepared = prepare(network, config, data.load(config.data, synthetic=True, count=300))
runs = []
for strategy in (tf.distribute.get_strategy(), devices.strategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        model = network.build(prepared.config)
    file = Path(sys.argv[1]) / f"{strategy.num_replicas_in_sync}.npz"
    state = fit.fit(model, prepared, file)
    runs.append((state.history[-1]["loss"], checkpoint.values(model)))
apart = max(float(np.abs(a - b).max()) for a, b in zip(runs[0][1], runs[1][1]) if a.dtype.kind == "f")
print(json.dumps([runs[0][0], runs[1][0], apart]))
"""


def test_two_devices_share_each_batch_and_learn_the_same(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(tmp_path), "lenet5"], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    alone, shared, apart = json.loads(child.stdout.splitlines()[-1])
    assert shared == pytest.approx(alone, rel=1e-2)
    assert apart < 1e-2


# tests/models trains every family in bfloat16.
@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
def test_mixed_precision_trains_with_weights_in_float32(ready: Ready, tmp_path: Path, precision: str) -> None:
    from ladle.training.loop import devices

    with devices.precision(precision):
        model, prepared = ready(count=300, epochs=3, learning_rate=5e-3)
    state = fit.fit(model, prepared, tmp_path / "checkpoint.npz")
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_xla_compiles_the_steps(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("mlp", count=100)
    xla, _ = ready("mlp", count=100)
    plain = fit.fit(model, prepared, tmp_path / "plain.npz")
    compiled = fit.fit(xla, prepared, tmp_path / "xla.npz", xla=True)
    assert compiled.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-3)


def test_a_progress_line_shows_speed_and_time_left(ready: Ready, tmp_path: Path, capsys: Any) -> None:
    from ladle.training.loop.progress import Lines

    model, prepared = ready("mlp", count=100)
    lines = Lines(1, prepared.steps)
    lines._last = -1e9
    fit.fit(model, prepared, tmp_path / "checkpoint.npz", meter=lines)
    printed = capsys.readouterr().err
    assert "examples/s" in printed
    assert " left" in printed
    assert tf.executing_eagerly()
