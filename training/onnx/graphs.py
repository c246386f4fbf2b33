"""Converts the cores of a network to ONNX graphs, compares them with TensorFlow on real inputs and writes them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.models import Core, Signature
from ladle.training.onnx import convert, parity
from ladle.training.onnx.noise import noise
from ladle.training.store import card, savedmodel

BATCHES = (1, 7, 64)
"""Batch sizes at which TensorFlow and ONNX Runtime are compared."""

Arrays = Mapping[str, np.ndarray]


def share_cores(signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """The same signatures, with each core traced once even if several signatures use it.

    ValueError when two different cores have the same name, or the core of serving_default is not called `model`.
    """
    cores: dict[str, Core] = {}
    originals: dict[str, Core] = {}
    for name, signature in signatures.items():
        core = signature.core
        if originals.setdefault(core.name, core) != core:
            raise ValueError(f'signature "{name}" brings a second core named {core.name}; give each core its own name')
        if core.name not in cores:
            function = tf.function(core.function)
            cores[core.name] = dataclasses.replace(core, function=function)
    if signatures["serving_default"].core.name != "model":
        raise ValueError(f"the core of serving_default is {signatures['serving_default'].core.name}; expected model")
    return {name: dataclasses.replace(s, core=cores[s.core.name]) for name, s in signatures.items()}


def inputs(signatures: Mapping[str, Signature], real: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Inputs of each core, by its name, derived from real inputs of serving_default.

    If a core reads what other cores return, it gets that: `decode` gets codes from `encode`. Other inputs are seeded
    noise.
    """
    default = signatures["serving_default"]
    tensors = {name: tf.constant(value) for name, value in real.items()}
    for step in default.before:
        tensors |= step(tensors)
    pool = {name: tensor.numpy() for name, tensor in tensors.items()}
    rows, random = len(next(iter(real.values()))), np.random.default_rng(0)
    waiting = {s.core.name: s.core for s in [default, *signatures.values()]}
    chosen: dict[str, dict[str, np.ndarray]] = {}
    while waiting:
        ready = [core for core in waiting.values() if all(_fits(s, pool.get(n)) for n, s in core.inputs.items())]
        core = ready[0] if ready else next(iter(waiting.values()))
        del waiting[core.name]
        chosen[core.name] = {
            name: pool[name] if _fits(spec, pool.get(name)) else noise(random, spec, rows)
            for name, spec in core.inputs.items()
        }
        if waiting:
            made = savedmodel.run(core.function, chosen[core.name])
            pool = {**{name: a for name, a in made.items() if a.ndim and len(a) == rows}, **pool}
    return chosen


def write(
    folder: Path, signatures: Mapping[str, Signature], chosen: Mapping[str, Arrays]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Write a graph for each core. Return the card's entries by file, and for cores without a graph the reason.

    parity.MismatchError when a graph and TensorFlow disagree.
    """
    entries: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for core in {s.core.name: s.core for s in signatures.values()}.values():
        try:
            model = convert.to_onnx(core.function, core.inputs, one_batch=True)
            content = model.SerializeToString()
            run = convert.session(content)
        except convert.NotConvertibleError as error:
            reasons[core.name] = str(error)
            continue
        arrays = chosen[core.name]
        rows = len(next(iter(arrays.values())))
        try:
            requests = [*batches(arrays, rows), *_cut(core, arrays)]
            agreement = parity.compare(functools.partial(savedmodel.run, core.function), run, requests, rows)
        except parity.MismatchError as error:
            raise parity.MismatchError(f"ONNX Runtime and TensorFlow disagree on {core.file}: {error}") from error
        (folder / core.file).write_bytes(content)
        repeated = {"distinct": count} if (count := distinct(arrays)) < rows else {}
        entries[core.file] = card.graph(content, convert.OPSET, agreement.as_dict() | repeated)
    return entries, reasons


def distinct(arrays: Arrays) -> int:
    """Number of different rows: parity inputs from a small data set contain repeats."""
    rows = len(next(iter(arrays.values())))
    return len({b"".join(array[i].tobytes() for array in arrays.values()) for i in range(rows)})


def batches(arrays: Arrays, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of the sizes in BATCHES: the first row, the first 7 rows, then all rows in batches of 64."""
    for size in BATCHES[:-1]:
        yield {name: array[:size] for name, array in arrays.items()}
    for start in range(0, rows, BATCHES[-1]):
        yield {name: array[start : start + BATCHES[-1]] for name, array in arrays.items()}


def _cut(core: Core, arrays: Arrays) -> Iterator[dict[str, np.ndarray]]:
    """Three rows at a smaller, odd size, for a core that takes any height and width."""
    if any(None in spec.shape[1:] for spec in core.inputs.values()):
        yield {
            name: arrays[name][(slice(3), *(slice(-5) if n is None else slice(None) for n in spec.shape[1:]))]
            for name, spec in core.inputs.items()
        }


def _fits(spec: tf.TensorSpec, array: np.ndarray | None) -> bool:
    return array is not None and spec.dtype == array.dtype and spec.shape.is_compatible_with(array.shape)
