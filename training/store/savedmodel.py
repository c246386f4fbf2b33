"""Writes signatures as a SavedModel, loads a SavedModel and runs its functions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

from ladle.models import Signature
from ladle.training.errors import TrainingError
from ladle.training.quiet import quiet


def trace(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """Trace each signature to a concrete function: named inputs -> named outputs."""
    traced = {}
    for name, signature in signatures.items():
        specs = {key: tf.TensorSpec(s.shape, s.dtype, name=key) for key, s in signature.inputs.items()}
        traced[name] = tf.function(signature.__call__).get_concrete_function(**specs)
    return traced


def write(folder: Path, signatures: Mapping[str, Signature], functions: Mapping[str, Any]) -> None:
    """Write the SavedModel: traced functions with the variables and lookup tables they use.

    Optimizers and other training state are left out. TensorFlow 2 saves every signature with the method `predict`, so
    the real methods are written afterwards.
    """
    module = tf.Module()
    module.variables_read = read_by(functions)
    steps = [step for s in signatures.values() for step in (*s.before, *s.after)]
    module.tables = [resource for step in steps for resource in step.resources]
    with quiet():
        tf.saved_model.save(module, str(folder), signatures=dict(functions))
        updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
        for name, signature in signatures.items():
            updater.replace_method_name(name, f"tensorflow/serving/{signature.method}")
        updater.save()


def read_by(functions: Mapping[str, Any]) -> list[tf.Variable]:
    """The variables that the traced functions read, without duplicates."""
    return list({id(v): v for f in functions.values() for v in f.variables}.values())


class LoadError(TrainingError, ValueError):
    """A SavedModel cannot be loaded; the text names its folder and the cause."""


TAGS = ("serve",)
"""The MetaGraph that servers load, of a SavedModel that has several."""


def load(folder: Path) -> Any:
    """Load a SavedModel. Keep the result while its `signatures` are in use: they hold no reference to its variables.

    Of several MetaGraphs it is the one with exactly TAGS, as TensorFlow Serving chooses.

    LoadError: a file is missing or damaged, or TensorFlow lacks one of its operations.
    """
    try:
        with quiet():
            is_alone = len(loader_impl.parse_saved_model(str(folder)).meta_graphs) == 1
            return tf.saved_model.load(str(folder), None if is_alone else TAGS)
    except Exception as error:  # TensorFlow raises its own errors, and KeyError, RuntimeError and others of Python's
        raise LoadError(f"{folder} cannot be loaded: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    text = str(error).strip()
    lacking = re.search(r"Op type not registered '(\w+)'", text)
    if lacking:
        return f"TensorFlow lacks its operation {lacking[1]}; export the model without it, or from TensorFlow's own"
    return text.splitlines()[0] if text else type(error).__name__


def checksum(folder: Path) -> str:
    """SHA-256 that changes with the graph or a variable of a SavedModel; the card keeps it.

    A card outlives its SavedModel when another one is exported to the same folder. Servers compute the same value, see
    ladle.serving.servables.saved_model.checksum.
    """
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("saved_model.pb*"), *folder.glob("variables/*")]):
        # The index holds a CRC-32C of every variable, so the large data files need not be read.
        content = str(path.stat().st_size).encode() if ".data-" in path.name else path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def run(function: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a function of named tensors on arrays by name; strings are object arrays of bytes."""
    outputs = function(**{name: tf.constant(value) for name, value in arrays.items()})
    # The value of a scalar string is bytes.
    return {name: np.asarray(tensor.numpy(), tensor.dtype.as_numpy_dtype) for name, tensor in outputs.items()}
