"""Keras's own files: whole models as `.keras` or `.h5`, weights alone as `.weights.h5`.

A whole model holds the network's layers and weights; weights alone are read into a network that `build` made from the
same config. Training goes on from its checkpoints, not from these.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras

from ladle import models
from ladle.training.onnx.convert import first_line
from ladle.training.quiet import quiet

WEIGHTS = ".weights.h5"
WHOLE = (".keras", ".h5")


class FormatError(ValueError):
    """The file cannot be written or read; the message says why."""


def save(model: keras.Model, path: Path) -> None:
    """Write a model; the end of the name is the format: `.keras`, `.h5`, or `.weights.h5` for the weights alone."""
    _check(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(WEIGHTS):
        model.save_weights(path)
    else:
        with quiet():  # Keras calls `.h5` legacy
            keras.saving.save_model(model, path)


def load(path: Path, model: keras.Model | None = None) -> keras.Model:
    """Read a file that `save` wrote: a whole model, or weights into `model`, which is returned.

    Only the layers of Keras and of the registered networks are made: a file cannot bring code of its own.
    """
    _check(path)
    if not path.is_file():
        raise FormatError(f"{path} is not a file; give one that ends in {', '.join((*WHOLE, WEIGHTS))}")
    try:
        if not path.name.endswith(WEIGHTS):
            return _load_whole(path)
        if model is not None:
            model.load_weights(path)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise FormatError(f"{path} cannot be read: {first_line(error)}") from error
    if model is None:
        raise FormatError(f"{path} holds weights alone; a model of the same config is wanted to read them into")
    return model


def _load_whole(path: Path) -> keras.Model:
    models.names()  # registers the networks' own layers
    # Files in `.h5` write no package before a class, and compile what they hold: networks with a class of their own
    # are compiled by then, in their own way.
    own = {name.rpartition(">")[2]: found for name, found in keras.saving.get_custom_objects().items()}
    built_compiled = path.suffix == ".h5" and _class_name(path) in own
    with quiet():
        return keras.saving.load_model(path, custom_objects=own, compile=not built_compiled, safe_mode=True)


def _class_name(path: Path) -> str:
    with h5py.File(path, "r") as file:
        return str(json.loads(file.attrs["model_config"])["class_name"])


def _check(path: Path) -> None:
    if path.suffix not in WHOLE:
        raise FormatError(f"{path.name} has no format; its name must end in {', '.join((*WHOLE, WEIGHTS))}")
