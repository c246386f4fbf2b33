"""Keras's own file formats: whole models as `.keras` or `.h5`, weights alone as `.weights.h5`.

A whole model holds layers and weights. Weights alone are read into a model that `build` made from the same config.
Interrupted training continues from checkpoints, not from these files.
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
    """A file cannot be written or read. `ladle` reports it as UsageError."""


def save(model: keras.Model, path: Path) -> None:
    """Write a model in the format of the file name's ending: `.keras`, `.h5`, or `.weights.h5` for weights alone.

    Raises FormatError: an unknown ending, or a file that cannot be written.
    """
    _check(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(WEIGHTS):
            model.save_weights(path)
        else:
            with quiet():  # Keras warns that `.h5` is legacy
                keras.saving.save_model(model, path)
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {first_line(error)}") from error


def load(path: Path, model: keras.Model | None = None) -> keras.Model:
    """Read a file that `save` wrote: a whole model, or weights into `model`, which is returned.

    Only layers of Keras and of the registered networks are created: a file cannot run code of its own. Raises
    FormatError: the file is missing or broken, or holds weights alone and no `model` is given.
    """
    _check(path)
    if not path.is_file():
        raise FormatError(f"{path} is not a file; expected one that ends in {', '.join((*WHOLE, WEIGHTS))}")
    try:
        if not path.name.endswith(WEIGHTS):
            return _load_whole(path)
        if model is not None:
            model.load_weights(path)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise FormatError(f"{path} cannot be read: {first_line(error)}") from error
    if model is None:
        raise FormatError(f"{path} holds weights alone; give a model of the same config to read them into")
    return model


def _load_whole(path: Path) -> keras.Model:
    models.register()  # the networks' own layers and losses
    # `.h5` files name a class without its package, so the classes are passed by their short names. Loading also
    # compiles the model; networks with a class of their own have compiled themselves by then, with other optimizers.
    own = {name.rpartition(">")[2]: found for name, found in keras.saving.get_custom_objects().items()}
    built_compiled = path.suffix == ".h5" and _class_name(path) in own
    with quiet():
        return keras.saving.load_model(path, custom_objects=own, compile=not built_compiled, safe_mode=True)


def _class_name(path: Path) -> str:
    with h5py.File(path, "r") as file:
        return str(json.loads(file.attrs["model_config"])["class_name"])


def _check(path: Path) -> None:
    if path.suffix not in WHOLE:
        raise FormatError(f"got {path.name}; expected a name that ends in {', '.join((*WHOLE, WEIGHTS))}")
