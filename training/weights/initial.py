"""Weights to begin with: a file of Keras, a version of the repository, or a run."""

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

WANTED = "give a .keras, .h5 or .weights.h5 file, a version of the repository, or a run"


@dataclass(frozen=True)
class Initial:
    """Where the weights are. `told` is what the model card says of them.

    path  a file of Keras, a checkpoint, or the folder of a version
    """

    path: Path
    told: dict[str, Any]


def find(given: Path) -> Initial:
    """The weights at a path; of a model's folder those of its newest version. UsageError when there are none."""
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
        raise UsageError(f"{given}: no weights to begin with; {WANTED}")
    return Initial(path, {"source": f"{OWN}{name}", "sha256": sha256(path)})


def put(initial: Initial, network: Network, model: keras.Model, config: Config, assets: Assets) -> None:
    """Set the model's variables; those that a version does not serve, such as a critic's, stay as they are.

    UsageError when the file cannot be read or holds other shapes.
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
        raise UsageError(
            f"{error}; the weights to begin with must be of {network.name} with the same options"
        ) from error


def _from_version(path: Path, network: Network, model: keras.Model, config: Config, assets: Assets) -> None:
    """The served variables, by name and shape: a SavedModel keeps them in no order."""
    functions = savedmodel.trace(graphs.share_cores(network.signatures(model, config, assets)))
    targets, loaded = savedmodel.read_by(functions), savedmodel.load(path).variables_read

    def key(variable: tf.Variable) -> tuple[str, tuple[int, ...]]:
        return variable.name, tuple(variable.shape)

    found = {key(variable): variable.numpy() for variable in loaded}
    if len(found) < len(loaded):
        raise UsageError(f"{path}: several of its variables have one name and shape; give the run that it came from")
    targets = sorted(targets, key=key)
    _assign(targets, [found[name] for name in sorted(found)], path)


def _assign(targets: Any, arrays: list[np.ndarray], path: Path) -> None:
    wanted, found = [tuple(target.shape) for target in targets], [array.shape for array in arrays]
    if wanted != found:
        names = [getattr(target, "path", target.name) for target in targets]
        differ = [f"{name} is {a}, not {b}" for name, a, b in zip(names, found, wanted, strict=False) if a != b]
        said = differ[0] if differ else "the others fit"
        raise UsageError(f"{path}: holds {len(found)} variables where the network has {len(wanted)}; {said}")
    for target, array in zip(targets, arrays, strict=True):
        target.assign(array)
