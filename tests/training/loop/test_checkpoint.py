from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from ladle.training.data.pipeline import Prepared
from ladle.training.errors import TrainingError
from ladle.training.loop import checkpoint
from ladle.training.loop.checkpoint import State

Ready = Callable[..., tuple[keras.Model, Prepared]]


def noisy(model: keras.Model) -> keras.Model:
    """Every variable changed, the optimizers' too."""
    random = np.random.default_rng(0)
    for variable in checkpoint.variables(model):
        variable.assign(np.asarray(random.integers(0, 9, variable.shape), variable.dtype))
    return model


@pytest.mark.parametrize("name", ["lenet5", "wgan_gp"])
def test_everything_that_training_changes_comes_back(ready: Ready, tmp_path: Path, name: str) -> None:
    model = noisy(ready(name, count=60)[0])
    state = State(2, 3, 1.5, [{"loss": 1.0}, {"loss": 0.1 + 0.2}], 1, [np.ones(3, np.float32)])
    checkpoint.save(tmp_path / "checkpoint.npz", model, state)
    other = ready(name, count=60)[0]
    found = checkpoint.load(tmp_path / "checkpoint.npz", other)
    assert (found.epoch, found.step, found.seconds, found.history, found.best) == (2, 3, 1.5, state.history, 1)
    np.testing.assert_array_equal(found.weights[0], np.ones(3))
    pairs = list(zip(checkpoint.variables(model), checkpoint.variables(other), strict=True))
    assert len(pairs) > len(model.weights)
    for a, b in pairs:
        np.testing.assert_array_equal(a.value.numpy(), b.value.numpy())


def test_a_checkpoint_holds_all_optimizers_and_noise_generators(ready: Ready) -> None:
    model, _ = ready("wgan_gp", count=60)
    held = {id(v) for v in checkpoint.variables(model)}
    assert len(checkpoint.optimizers(model)) == 2
    for optimizer in (model.optimizer, model.judge_optimizer):
        assert {id(v) for v in optimizer.variables} <= held
        assert len(optimizer.variables) > 4
    assert id(model.noise.state) in held


def test_the_best_weights_are_preferred_for_an_export(ready: Ready, tmp_path: Path) -> None:
    model, _ = ready(count=60)
    best = checkpoint.values(model)
    noisy(model)
    last = checkpoint.values(model)
    other, _ = ready(count=60)
    checkpoint.save(tmp_path / "a.npz", model, State(epoch=3, best=1, weights=best))
    assert checkpoint.load_best(tmp_path / "a.npz", other).best == 1
    np.testing.assert_array_equal(checkpoint.values(other)[0], best[0])
    checkpoint.save(tmp_path / "b.npz", model, State(epoch=3))
    checkpoint.load_best(tmp_path / "b.npz", other)
    np.testing.assert_array_equal(checkpoint.values(other)[0], last[0])


def test_weights_alone_go_to_a_file_and_back(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready(count=60)
    noisy(model)
    checkpoint.save_weights(tmp_path / "weights.npz", model)
    other, _ = ready(count=60)
    checkpoint.load_weights(tmp_path / "weights.npz", other)
    image = prepared.test.inputs(slice(0, 4))
    np.testing.assert_array_equal(model(image), other(image))
    assert int(other.optimizer.iterations.numpy()) == 0


def test_a_failed_save_leaves_the_old_checkpoint_and_nothing_else(ready: Ready, tmp_path: Path) -> None:
    model, _ = ready(count=60)
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, model, State(epoch=1))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(path, model, State(history=[object()]))  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is not a checkpoint"), (b"PK\x03\x04 cut short", "is not a checkpoint"), (None, "cannot be read")],
    ids=["empty", "broken", "missing"],
)
def test_a_file_that_is_not_a_checkpoint_is_refused(
    ready: Ready, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "checkpoint.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        checkpoint.load(path, ready(count=60)[0])


def test_weights_of_another_shape_are_refused_with_the_first_difference(ready: Ready, tmp_path: Path) -> None:
    checkpoint.save_weights(tmp_path / "weights.npz", ready(count=60)[0])
    with pytest.raises(TrainingError, match=r"the first difference: got \(5, 5, 1, 2\), expected \(5, 5, 1, 3\)"):
        checkpoint.load_weights(tmp_path / "weights.npz", ready(count=60, filters=(3, 4))[0])
