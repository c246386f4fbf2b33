"""Turns a `.keras` or `.h5` file into a version of a new model: a SavedModel, as Keras exports it, with ONNX graphs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from ladle.training.export.attempts import Attempts
from ladle.training.export.conversion import Conversion, convert
from ladle.training.export.signature import Tell
from ladle.training.export.version import ConvertError
from ladle.training.quiet import quiet
from ladle.training.store import card, publish
from ladle.training.weights import formats

SUFFIXES = formats.WHOLE


def is_keras_file(path: Path) -> bool:
    """Whether the name ends as that of a Keras file with a whole model or with weights."""
    return path.name.endswith(SUFFIXES)


def convert_file(
    path: Path,
    repository: Path,
    name: str | None,
    attempts: Attempts,
    tell: Tell,
    *,
    write: bool = True,
    **options: Any,
) -> Conversion:
    """Write the model in a Keras file as the next version of `repository`/<name>/, with its graphs.

    name     the model's name; None: that of the file
    write    whether to write at all
    options  as of `convert`

    The signatures are those that `model.export` makes: `serve` and `serving_default`.

    ConvertError: the file cannot be read, or holds code of its own: custom objects and Lambda layers.
    """
    model_name = name or re.sub(r"[^A-Za-z0-9._-]+", "_", path.name.removesuffix(path.suffix)).strip("._-")
    if not model_name or model_name.isdigit():
        raise ConvertError(f"{path}: {model_name or 'its name'} is no name of a model; give --name")
    tell(f"{path.name}: reading ...")
    model = _loaded(path)

    def export(folder: Path) -> None:
        try:
            with quiet():
                model.export(folder, verbose=False)
        except (ValueError, TypeError, OSError, AttributeError, tf.errors.OpError) as error:
            raise ConvertError(
                f"{path} cannot be exported: {_first(error)}; call the model once before you save it"
            ) from error

    if not write:
        with tempfile.TemporaryDirectory() as folder:
            export(Path(folder))
            return replace(convert(Path(folder), attempts, tell, write=False, **options), folder=path)
    try:
        with publish.draft(repository / model_name) as draft:
            export(draft)
            result = convert(draft, attempts, tell, **options)
            return replace(result, folder=publish.publish(draft, _completed(draft, model_name, path)))
    except OSError as error:
        raise ConvertError(f"{repository / model_name} cannot be written: {error.strerror}") from error


def _completed(draft: Path, name: str, path: Path) -> Callable[[int], None]:
    """A function that writes name and version into the card of a draft."""

    def complete(version: int) -> None:
        content = card.read(draft)
        if content is None:  # no signature has a graph
            return
        content |= {"network": name, "version": version, "description": f"Exported from the Keras file {path.name}."}
        publish.write_file(draft / card.FILE, card.encode(content))

    return complete


def _loaded(path: Path) -> Any:
    if path.name.endswith(formats.WEIGHTS):
        raise ConvertError(f"{path} holds weights alone; save the whole model: model.save('NAME.keras')")
    try:
        return formats.load(path)
    except formats.FormatError as error:
        said = f"{error} {error.__cause__}"
        advice = "export it in the program that has the code: model.export('NAME/1')"
        if "lambda" in said.lower():
            raise ConvertError(
                f"{path} has a Lambda layer, whose code Keras does not load from a file; rebuild it with a layer of "
                f"Keras or a class of yours, or {advice}"
            ) from error
        if own := re.search(r"(?:Could not locate|Unknown) \w+:? '?([\w>.]+)'?", said):
            raise ConvertError(f"{path} uses {own[1]} of your own, whose code is not in the file; {advice}") from error
        if "could not be deserialized" in said:
            raise ConvertError(
                f"{path} holds code of your own, such as a lambda, that Keras cannot load; {advice}"
            ) from error
        raise ConvertError(str(error)) from error


def _first(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
