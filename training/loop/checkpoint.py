"""One file from which a killed run continues to the same result.

A checkpoint is a NumPy .npz: numbered arrays, and `state`, a JSON object. The arrays hold all that a training step
reads and changes: weights, optimizer slots, moving averages, seed generators and running metrics. The state holds the
epoch, the step and the history. The order of examples and their augmentation need no entry: they follow from the seed
and the epoch. A weights-only checkpoint holds the model's variables alone.
"""

from __future__ import annotations

import dataclasses
import io
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
    """How far a run has come.

    epoch    epochs done
    step     steps done of the current epoch
    seconds  time spent in training
    history  metrics of each epoch
    best     epoch with the best monitored metric, counted from 1; 0: none yet
    weights  the model's variables after that epoch
    local    within an epoch of several hosts: each host's own values of the variables that differ between them
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[Figures] = field(default_factory=list)
    best: int = 0
    weights: list[np.ndarray] = field(default_factory=list)
    local: list[list[np.ndarray]] = field(default_factory=list)


def optimizers(model: keras.Model) -> list[Any]:
    """All optimizers of a model: those in `model.optimizers`, else the one it was compiled with."""
    listed = getattr(model, "optimizers", None)
    if listed is not None:
        return list(listed)
    return [model.optimizer] if model.optimizer is not None else []


def variables(model: keras.Model) -> list[Any]:
    """Everything that training changes, each once: weights, seed generators, optimizer slots, running metrics."""
    every = list(model.variables)
    for optimizer in optimizers(model):
        every += optimizer.variables
    every += model.metrics_variables
    # Keras lists a shared variable under each owner. By identity, since `==` on variables compares their values.
    return list({id(variable): variable for variable in every}.values())


def values(model: keras.Model) -> list[np.ndarray]:
    """A copy of the model's own variables, in their order."""
    return [_array(variable) for variable in model.variables]


def assign(model: keras.Model, arrays: Sequence[np.ndarray]) -> None:
    """Set the model's own variables to arrays from `values`. TrainingError: the shapes differ."""
    _assign(model.variables, arrays, "the weights")


def local_values(model: keras.Model) -> list[np.ndarray]:
    """A copy of what each host that trains has for itself: moving averages of its batches, and its random seeds."""
    return [_array(variable) for variable in model.non_trainable_variables]


def assign_local(model: keras.Model, arrays: Sequence[np.ndarray]) -> None:
    """Set these variables, on this host alone. TrainingError: the shapes differ."""
    _assign(model.non_trainable_variables, arrays, "the values of this host")


def save(path: Path | None, model: keras.Model, state: State) -> None:
    """Write a checkpoint. The previous file stays until the new one is complete. TrainingError: the disk refuses.

    path  None reads the variables and writes nothing. Reading a variable spread over hosts is a collective operation,
          so every host must take part although only the chief writes
    """
    arrays = {f"v{i}": _array(variable) for i, variable in enumerate(variables(model))}
    arrays |= {f"best{i}": array for i, array in enumerate(state.weights)}
    for host, own in enumerate(state.local):
        arrays |= {f"host{host}_{i}": array for i, array in enumerate(own)}
    entries = {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if f.name not in ("weights", "local")}
    if path is not None:
        _write(path, arrays, {"format": FORMAT, **entries})


def load(path: Path, model: keras.Model) -> State:
    """Set the variables of the model and its optimizers to the checkpoint's; returns its state.

    Raises TrainingError: the file is not a checkpoint, or belongs to another network or config.
    """
    arrays, entries = _read(path)
    _assign(variables(model), _numbered(arrays, "v"), str(path))
    state = _state(entries, _numbered(arrays, "best"))
    while own := _numbered(arrays, f"host{len(state.local)}_"):
        state.local.append(own)
    return state


def load_best(path: Path, model: keras.Model) -> State:
    """Set the model's own variables to those of the best epoch, else to the last ones; optimizers stay as they are.

    Raises TrainingError as `load` does.
    """
    arrays, entries = _read(path)
    best = _numbered(arrays, "best")
    assign(model, best or _numbered(arrays, "v")[: len(model.variables)])
    return _state(entries, best)


def read_weights(path: Path, count: int) -> list[np.ndarray]:
    """The weights of the best epoch in a checkpoint, else its first `count` variables."""
    arrays, _ = _read(path)
    return _numbered(arrays, "best") or _numbered(arrays, "v")[:count]


def save_weights(path: Path, model: keras.Model) -> None:
    """Write a weights-only checkpoint: the model's variables, without optimizers or state."""
    _write(path, {f"v{i}": array for i, array in enumerate(values(model))}, {"format": FORMAT})


def load_weights(path: Path, model: keras.Model) -> None:
    """Set the model's variables to those of a weights-only checkpoint. TrainingError: the shapes differ."""
    arrays, _ = _read(path)
    _assign(model.variables, _numbered(arrays, "v"), str(path))


def pack(arrays: Sequence[np.ndarray]) -> bytes:
    """Arrays as bytes that `unpack` reads."""
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


def unpack(content: bytes) -> list[np.ndarray]:
    """The arrays of `pack`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return [file[name] for name in file.files]


def _state(entries: dict[str, Any], weights: list[np.ndarray]) -> State:
    names = {f.name for f in dataclasses.fields(State)}
    return State(**{k: v for k, v in entries.items() if k in names}, weights=weights)


def _write(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the old file, flushed to the disk, then renamed: a run killed at any moment, or a machine that
    # loses power, leaves the old checkpoint or the new one, never half of one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    try:
        with open(temporary, "wb") as file:
            np.savez(file, state=text, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise TrainingError(f"{path}: checkpoint not written ({error.strerror}); free space on the disk") from error
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
        raise TrainingError(f"{path}: is not a checkpoint of Ladle ({error})") from error
    if state.get("format") != FORMAT:
        raise TrainingError(f"{path}: got checkpoint format {state.get('format')}; expected {FORMAT}; train again")
    return arrays, state


def _array(variable: Any) -> np.ndarray:
    """A copy of a variable's value; of a mirrored variable, one replica's."""
    return np.array(variable.value.numpy())


def _numbered(arrays: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    count = sum(name.startswith(prefix) for name in arrays)
    return [arrays[f"{prefix}{i}"] for i in range(count)]


def _assign(targets: Sequence[Any], arrays: Sequence[np.ndarray], source: str) -> None:
    expected = [tuple(target.shape) for target in targets]
    found = [array.shape for array in arrays]
    if expected != found:
        pairs = zip(expected, found, strict=False)
        differs = next((f"; the first difference: got {b}, expected {a}" for a, b in pairs if a != b), "")
        raise TrainingError(
            f"{source}: got {len(found)} variables; expected {len(expected)}{differs}; "
            "the file belongs to another network or config (--no-resume starts a new run)"
        )
    for target, array in zip(targets, arrays, strict=True):
        target.assign(array)
