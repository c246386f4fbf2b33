"""One file from which a run goes on to the same result: weights, optimizers, noise, history.

A checkpoint is a NumPy .npz: arrays by number, and `state`, a JSON object. It is written under another name and
renamed, so that it is there whole or not at all. A weights-only checkpoint holds the first part alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ladle.training.errors import TrainingError

FORMAT = 1
Figures = dict[str, float]


@dataclass
class State:
    """Where a run stands.

    epoch    epochs done
    step     steps done of the epoch after them
    seconds  time spent in training
    history  figures of each epoch
    best     epoch with the best monitored figure, counted from 1; 0: none yet
    weights  the model's variables after that epoch
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[Figures] = field(default_factory=list)
    best: int = 0
    weights: list[np.ndarray] = field(default_factory=list)


def optimizers(model: keras.Model) -> list[Any]:
    """All optimizers of a model: those it lists, else the one it was compiled with."""
    listed = getattr(model, "optimizers", None)
    if listed is not None:
        return list(listed)
    return [model.optimizer] if model.optimizer is not None else []


def variables(model: keras.Model) -> list[Any]:
    """Everything that training changes, each once: weights, noise generators, optimizers, running figures."""
    every = list(model.variables)
    for optimizer in optimizers(model):
        every += optimizer.variables
    every += model.metrics_variables
    return list({id(variable): variable for variable in every}.values())


def values(model: keras.Model) -> list[np.ndarray]:
    """A copy of the model's own variables, in their order."""
    return [_array(variable) for variable in model.variables]


def assign(model: keras.Model, arrays: Sequence[np.ndarray]) -> None:
    """Give the model's own variables the values that `values` returned for one of the same build."""
    _assign(model.variables, arrays, "the weights")


def save(path: Path | None, model: keras.Model, state: State) -> None:
    """Write a checkpoint; the one that was there stays until the new one is complete.

    Without a path nothing is written: hosts that train together must all read their variables, and one writes.
    """
    arrays = {f"v{i}": _array(variable) for i, variable in enumerate(variables(model))}
    arrays |= {f"best{i}": array for i, array in enumerate(state.weights)}
    shown = {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if f.name != "weights"}
    if path is not None:
        _write(path, arrays, {"format": FORMAT, **shown})


def load(path: Path, model: keras.Model) -> State:
    """Set the model's and its optimizers' variables to the checkpoint's; where the run stood.

    Raises TrainingError: a file that is no checkpoint, or of another network or config.
    """
    arrays, told = _read(path)
    _assign(variables(model), _numbered(arrays, "v"), str(path))
    known = {f.name for f in dataclasses.fields(State)}
    return State(**{k: v for k, v in told.items() if k in known}, weights=_numbered(arrays, "best"))


def load_best(path: Path, model: keras.Model) -> State:
    """Set the model's own variables to those of the best epoch, or to the last ones; its training stays as it is."""
    arrays, told = _read(path)
    best = _numbered(arrays, "best")
    assign(model, best or _numbered(arrays, "v")[: len(model.variables)])
    known = {f.name for f in dataclasses.fields(State)}
    return State(**{k: v for k, v in told.items() if k in known}, weights=best)


def read_weights(path: Path, count: int) -> list[np.ndarray]:
    """The weights of the best epoch that a checkpoint holds, else its first `count` variables."""
    arrays, _ = _read(path)
    return _numbered(arrays, "best") or _numbered(arrays, "v")[:count]


def save_weights(path: Path, model: keras.Model) -> None:
    """Write a weights-only checkpoint: the model's variables, nothing of its training."""
    _write(path, {f"v{i}": array for i, array in enumerate(values(model))}, {"format": FORMAT})


def load_weights(path: Path, model: keras.Model) -> None:
    """Set the model's variables to those of a weights-only checkpoint; TrainingError when they do not fit."""
    arrays, _ = _read(path)
    _assign(model.variables, _numbered(arrays, "v"), str(path))


def _write(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    try:
        with open(temporary, "wb") as file:
            np.savez(file, state=text, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise TrainingError(f"{path}: the checkpoint cannot be written ({error.strerror}); free the disk") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            state = json.loads(file["state"].tobytes())
            arrays = {name: file[name] for name in file.files if name != "state"}
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: is no checkpoint of Ladle ({error})") from error
    if state.get("format") != FORMAT:
        raise TrainingError(f"{path}: has format {state.get('format')}; this version reads {FORMAT}")
    return arrays, state


def _array(variable: Any) -> np.ndarray:
    """A copy of a variable's value, mirrored ones included."""
    return np.array(variable.value.numpy())


def _numbered(arrays: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    count = sum(name.startswith(prefix) for name in arrays)
    return [arrays[f"{prefix}{i}"] for i in range(count)]


def _assign(targets: Sequence[Any], arrays: Sequence[np.ndarray], source: str) -> None:
    wanted = [tuple(target.shape) for target in targets]
    found = [array.shape for array in arrays]
    if wanted != found:
        differ = next((f"{b} for {a}" for a, b in zip(wanted, found, strict=False) if a != b), "none")
        raise TrainingError(
            f"{source}: holds {len(found)} variables where {len(wanted)} are wanted, the first that differs being "
            f"{differ}; it belongs to another network or config (--no-resume begins a new run)"
        )
    for target, array in zip(targets, arrays, strict=True):
        target.assign(array)
