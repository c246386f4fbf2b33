"""How good graphs are: the evaluation of training through them, or their agreement with the present graphs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from ladle.models import Core, Network, Signature
from ladle.training.data.pipeline import Prepared
from ladle.training.errors import UsageError
from ladle.training.evaluate import evaluate, functions
from ladle.training.evaluate.headline import headline
from ladle.training.export.inputs import training_inputs
from ladle.training.onnx import graphs
from ladle.training.onnx.convert import first_line

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Mapping[str, np.ndarray]]
CALIBRATION = 100
"""Training examples that give an activation its range."""
FEWEST_ROWS = 40
"""Rows of --inputs: one half calibrates, the other half is compared."""


@dataclass(frozen=True)
class Score:
    """How good the graphs of a version are.

    name     the headline: a metric of the test split, or `agreement`
    metrics  all metrics of the test split
    asked    the graphs that ran; nothing is known of the others
    """

    name: str
    value: float
    metrics: Mapping[str, Any] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()


class Judge(Protocol):
    """Real inputs for the graphs, and a measure of their answers."""

    split: str
    inputs: Mapping[str, Arrays]
    """Of each graph, by its file: to calibrate with and to time."""

    def score(self, runs: Mapping[str, Run]) -> Score:
        """Measure these graphs, by file."""


class OnSplit:
    """The evaluation that training uses, on the test split, through the graphs."""

    split = "test"

    def __init__(self, version: Path, card: Mapping[str, Any], network: Network, prepared: Prepared) -> None:
        self._version, self._prepared = version, prepared
        self._entries = {name: entry.get("graph") for name, entry in card["signatures"].items()}
        # For its steps alone: the cores run in ONNX Runtime, so the weights of this model are never used.
        model = network.build(prepared.config)
        self._signatures = network.signatures(model, prepared.config, prepared.assets)
        self._network = network
        self.inputs: Mapping[str, Arrays] = {}

    def calibrate(self, runs: Mapping[str, Run]) -> None:
        """Find real inputs of every graph. Some read what others return, so all of them are needed."""
        signatures = self._on_graphs(runs, set())
        real = training_inputs(self._network, signatures, self._prepared, CALIBRATION)
        chosen = graphs.inputs(signatures, real)
        found = {s.core.file: chosen[s.core.name] for s in signatures.values()}
        self.inputs = {file: _finite(found[file]) for file in runs if file in found}

    def score(self, runs: Mapping[str, Run]) -> Score:
        asked: set[str] = set()
        served: dict[str, Callable[..., Any]] = dict(self._on_graphs(runs, asked))
        left = [name for name in self._entries if name not in served]
        if left:
            exported = functions.exported(self._version)
            served |= {name: functools.partial(_exported, exported, name) for name in left}
        result = evaluate.evaluate(functions.Functions(served), self._prepared, self._version.parent.parent, self.split)
        [(name, value)] = headline(result.metrics).items()
        return Score(name, value, result.metrics, frozenset(asked))

    def _on_graphs(self, runs: Mapping[str, Run], asked: set[str]) -> dict[str, Signature]:
        """The signatures that have a graph, with their cores in ONNX Runtime. `asked` gets the graphs that run."""
        cores: dict[str, Core] = {}
        found = {}
        for name, signature in self._signatures.items():
            file = self._entries.get(name) or ""
            if file in runs:
                core = cores.setdefault(
                    file, dataclasses.replace(signature.core, function=_core(runs[file], asked, file))
                )
                found[name] = dataclasses.replace(signature, core=core)
        return found


def _exported(loaded: functions.Functions, name: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    answer = loaded(name, **{key: value.numpy() for key, value in inputs.items()})
    return {key: tf.constant(value) for key, value in answer.items()}


def _core(run: Run, asked: set[str], file: str) -> Callable[..., dict[str, tf.Tensor]]:
    def called(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        asked.add(file)
        return {name: tf.constant(array) for name, array in run({n: t.numpy() for n, t in tensors.items()}).items()}

    return called


def _finite(arrays: Arrays) -> dict[str, np.ndarray]:
    """The rows without NaN and infinities, which have no place in a range."""
    rows = np.ones(min(map(len, arrays.values())), bool)
    for array in arrays.values():
        if np.issubdtype(array.dtype, np.floating):
            rows &= np.isfinite(array[: len(rows)]).reshape(len(rows), -1).all(axis=1)
    return {name: array[: len(rows)][rows] for name, array in arrays.items()}


class OnInputs:
    """The agreement of the graphs with the present ones, on inputs that the user gave."""

    split = "inputs"

    def __init__(self, file: Path, card: Mapping[str, Any], runs: Mapping[str, Run]) -> None:
        """UsageError: the file is no NPZ file of a graph's inputs, has too few rows, or the graph refuses them."""
        given = _read(file)
        calibrating: dict[str, Arrays] = {}
        self._compared: dict[str, dict[str, np.ndarray]] = {}
        wanted = []
        for entry in card["signatures"].values():
            graph = entry.get("graph")
            if graph not in runs or graph in calibrating or entry.get("before"):
                continue
            names = list(entry["inputs"])
            wanted.append(", ".join(names))
            if set(names) <= set(given):
                arrays = {name: _cast(file, name, given[name], entry["inputs"][name]) for name in names}
                calibrating[graph] = {name: array[: len(array) // 2] for name, array in arrays.items()}
                self._compared[graph] = {name: array[len(array) // 2 :] for name, array in arrays.items()}
        self.inputs: Mapping[str, Arrays] = calibrating
        if not calibrating:
            expected = " or ".join(dict.fromkeys(wanted)) or "a graph without steps before it, which the model lacks"
            raise UsageError(f"--inputs {file}: got {', '.join(given)}; expected {expected}")
        self._before = {}
        for graph, arrays in self._compared.items():
            try:
                self._before[graph] = _answers(runs[graph], arrays)
            except Exception as error:  # ONNX Runtime has no common error type
                found = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.items())
                raise UsageError(
                    f"--inputs {file}: {graph} cannot run {found}: {first_line(error)}; give what clients send"
                ) from error

    def score(self, runs: Mapping[str, Run]) -> Score:
        worst = 1.0
        for graph, arrays in self._compared.items():
            after = _answers(runs[graph], arrays)
            found = [agreement(array, after[name]) for name, array in self._before[graph].items()]
            worst = float(np.min([worst, *found]))  # unlike Python's own, it keeps NaN
        return Score("agreement", worst, {}, frozenset(self._compared))


def agreement(before: np.ndarray, after: np.ndarray) -> float:
    """How far two outputs agree: of ids and other exact values the share that is equal; of floats 1 less the root mean
    square of the difference, as a share of the spread before; NaN if a value is not finite in one alone.
    """
    if before.shape != after.shape:
        return 0.0
    if not np.issubdtype(before.dtype, np.floating):
        return float(np.mean(before == after))
    finite = np.isfinite(before)
    if not np.array_equal(finite, np.isfinite(after)):
        return np.nan
    a, b = before[finite].astype(np.float64), after[finite].astype(np.float64)
    spread = float(np.ptp(a)) if a.size else 0.0
    error = float(np.sqrt(np.mean((a - b) ** 2))) if a.size else 0.0
    return 1.0 - error / spread if spread else float(error == 0)


def _cast(file: Path, name: str, array: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
    """The input as the graph reads it: NumPy makes float64 and int64 where nobody asks for others."""
    dtype = np.dtype(object if info["dtype"] == "string" else info["dtype"])
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise UsageError(f"--inputs {file}: {name} is {array.dtype}; expected {dtype}")
    return array.astype(dtype, copy=False)


def _answers(run: Run, arrays: Arrays) -> dict[str, np.ndarray]:
    parts = [run(batch) for batch in _batches(arrays)]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def _batches(arrays: Arrays, rows: int = 50) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, min(map(len, arrays.values())), rows):
        yield {name: array[start : start + rows] for name, array in arrays.items()}


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as opened:
            if not hasattr(opened, "files"):
                raise ValueError("one array")
            given = {name: np.asarray(opened[name]) for name in opened.files}
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise UsageError(f"--inputs {file}: cannot be read; expected arrays by input name, by numpy.savez") from error
    if short := [name for name, array in given.items() if not array.ndim or len(array) < FEWEST_ROWS]:
        rows = len(given[short[0]]) if given[short[0]].ndim else 0
        raise UsageError(f"--inputs {file}: {short[0]} has {rows} rows; expected {FEWEST_ROWS} or more real ones")
    return given
