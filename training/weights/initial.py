"""Initial weights of a whole network: from a Keras file, a version of the repository, or a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import Assets, Config, Network
from ladle.training.data import OWN
from ladle.training.data.fetch.cache import sha256
from ladle.training.errors import TrainingError, UsageError
from ladle.training.loop import checkpoint, run_folder
from ladle.training.onnx import graphs
from ladle.training.store import publish, savedmodel
from ladle.training.weights import formats

EXPECTED = "give a .keras, .h5 or .weights.h5 file, a version of the repository, or a run"


@dataclass(frozen=True)
class Initial:
    """Where the weights are.

    path        a Keras file, a checkpoint, or the folder of a version
    provenance  the model card's entry: source and SHA-256
    """

    path: Path
    provenance: dict[str, Any]


def find(given: Path) -> Initial:
    """The weights at a path; for a model's folder, those of its newest version. UsageError: there are none."""
    path, name = given, given.name
    if given.is_dir():
        found = publish.versions(given)
        path = found[max(found)] if found else given
        name = f"{path.parent.name} version {path.name}" if (path / "saved_model.pb").is_file() else path.name
        if (path / run_folder.CHECKPOINT).is_file():
            path = path / run_folder.CHECKPOINT
    if path.is_dir() and (path / "saved_model.pb").is_file():
        content = path / "variables" / "variables.data-00000-of-00001"
        return Initial(path, {"source": f"{OWN}{name}", "sha256": sha256(content)})
    if not path.is_file() or path.suffix not in (*formats.WHOLE, ".npz"):
        raise UsageError(f"{given}: no initial weights; {EXPECTED}")
    return Initial(path, {"source": f"{OWN}{name}", "sha256": sha256(path)})


def assign(initial: Initial, network: Network, model: keras.Model, config: Config, assets: Assets) -> None:
    """Set the model's variables to the weights. Variables that an exported version lacks, such as a critic's, stay.

    Raises UsageError: the file cannot be read, or holds other shapes.
    """
    path = initial.path
    try:
        if path.is_dir():
            _from_version(path, network, model, config, assets)
        elif path.suffix == ".npz":
            _assign(model.variables, checkpoint.read_weights(path, len(model.variables)), path)
        elif path.name.endswith(formats.WEIGHTS):
            formats.load(path, model)
        else:
            _assign(model.variables, [np.array(v.value.numpy()) for v in formats.load(path).variables], path)
    except (formats.FormatError, TrainingError) as error:
        raise UsageError(f"{error}; initial weights must come from {network.name} with the same options") from error


def _from_version(path: Path, network: Network, model: keras.Model, config: Config, assets: Assets) -> None:
    """Assign the variables of a SavedModel, matched by name and shape: it stores them in no fixed order."""
    functions = savedmodel.trace(graphs.share_cores(network.signatures(model, config, assets)))
    targets, loaded = savedmodel.read_by(functions), getattr(savedmodel.load(path), "variables_read", None)
    if loaded is None:
        raise UsageError(f"{path} is a SavedModel from elsewhere; expected a version that Ladle exported")

    def key(variable: tf.Variable) -> tuple[str, tuple[int, ...]]:
        return variable.name, tuple(variable.shape)

    found = {key(variable): variable.numpy() for variable in loaded}
    if len(found) < len(loaded):
        raise UsageError(f"{path}: several variables share a name and a shape; give the run that exported it")
    targets = sorted(targets, key=key)
    _assign(targets, [found[name] for name in sorted(found)], path)


def _assign(targets: Any, arrays: list[np.ndarray], path: Path) -> None:
    expected, found = [tuple(target.shape) for target in targets], [array.shape for array in arrays]
    if expected != found:
        names = [getattr(target, "path", target.name) for target in targets]
        pairs = zip(names, found, expected, strict=False)
        differs = next((f"; {name}: got {a}, expected {b}" for name, a, b in pairs if a != b), "")
        raise UsageError(
            f"{path}: got {len(found)} variables; expected {len(expected)}{differs}; "
            "give weights of the same network with the same options"
        )
    for target, array in zip(targets, arrays, strict=True):
        target.assign(array)
