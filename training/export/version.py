"""Reads what a version folder says of its SavedModel, and writes graphs and card into it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import message, text_format
from tensorflow.core.protobuf import saved_model_pb2

from ladle.training.onnx.convert import PRODUCER
from ladle.training.store import card, publish, savedmodel, warmup


class ConvertError(ValueError):
    """Raised by `convert` when a folder cannot be converted; the message says why. No file was changed."""


def version_folder(directory: Path) -> Path:
    """The folder itself if it holds a SavedModel, else its newest version; ConvertError if there is neither."""
    if (directory / "saved_model.pb").is_file() or (directory / "saved_model.pbtxt").is_file():
        return directory
    if not directory.is_dir():
        raise ConvertError(f"{directory} is not a folder; give a SavedModel or a folder of versions")
    versions = publish.versions(directory)
    if versions:
        return version_folder(versions[max(versions)])
    models = sorted(child.name for child in directory.iterdir() if child.is_dir() and publish.versions(child))
    if models:
        raise ConvertError(f"{directory} holds several models; give one of {', '.join(models)}")
    raise ConvertError(f"{directory} holds neither saved_model.pb nor a version; give a SavedModel")


def saved_model(folder: Path) -> saved_model_pb2.SavedModel:
    """The message in a SavedModel's file, without MetaGraphs that are not served."""
    saved = saved_model_pb2.SavedModel()
    if (folder / "saved_model.pb").is_file():
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    else:
        text_format.Parse((folder / "saved_model.pbtxt").read_text(encoding="utf-8"), saved)
    if len(saved.meta_graphs) > 1:  # the others are not served
        served = [graph for graph in saved.meta_graphs if set(graph.meta_info_def.tags) == set(savedmodel.TAGS)]
        del saved.meta_graphs[:]
        saved.meta_graphs.extend(served)
    return saved


def methods(saved: saved_model_pb2.SavedModel) -> dict[str, str]:
    """The method of each signature: predict, classify or regress. A loaded SavedModel no longer knows it."""
    found = {name: d.method_name.rpartition("/")[2] for g in saved.meta_graphs for name, d in g.signature_def.items()}
    return {name: method if method in warmup.METHODS else "predict" for name, method in found.items()}


def file_name(signature: str, taken: Collection[str]) -> str:
    """A free file name: model.onnx for serving_default, else the signature's name in ASCII."""
    stem = "model" if signature == "serving_default" else re.sub(r"[^\w-]+", "_", signature, flags=re.ASCII)
    names = itertools.chain([f"{stem}.onnx"], (f"{stem}_{n}.onnx" for n in itertools.count(2)))
    return next(name for name in names if name not in taken)


def new_card(folder: Path) -> dict[str, Any]:
    """A card for a SavedModel that has none: everything about its training is unknown."""
    number = publish.number_of(folder.name)
    return {
        "format": card.FORMAT,
        "network": folder.resolve().name if number is None else folder.resolve().parent.name,
        "task": None,
        "version": number or 1,
        "created": card.now(),
        "description": "A SavedModel that Ladle did not train.",
        "config": {},
        "preset": None,
        "seed": None,
        "data": {},
        "labels": None,
        "metrics": {},
        "epochs": None,
        "training_seconds": None,
        "machine": None,
        "signatures": {},
        "onnx": {},
        "parameters": None,
        "size_bytes": 0,
        "versions": card.versions(),
        "commit": card.commit(),
    }


def write_graphs(
    folder: Path,
    files: Mapping[str, bytes],
    weights: Mapping[str, Path],
    content: dict[str, Any],
    obsolete: Collection[str],
) -> None:
    """Write the graphs, then the card: servers ignore a graph that no card names, so a crash in between is harmless.

    weights  files of weights by the graph's file; they are moved into the folder
    """
    for file in files:
        if not _is_ours(folder / file):
            raise ConvertError(f"{folder / file} exists, and no card names it; move it away")
    for file, path in weights.items():
        if (folder / path.name).exists() and not (folder / file).exists():
            raise ConvertError(f"{folder / path.name} exists, and no card names it; move it away")
        path.with_name("graph.onnx").unlink(missing_ok=True)
    # The weights are below the folder already, in their draft.
    size = card.size_bytes(folder) - _size(folder / card.FILE) + sum(map(len, files.values()))
    written: list[Path] = []
    try:
        (folder / card.FILE).parent.mkdir(exist_ok=True)
        with publish.draft(folder) as draft:
            for file, model in files.items():
                (draft / file).write_bytes(model)
            (draft / "card.json").write_bytes(card.encode({**content, "size_bytes": size}))
            publish.sync(draft)
            for file in files:
                written.append((draft / file).replace(folder / file))
            for path in weights.values():
                publish.sync(path.parent)
                written.append(path.replace(folder / path.name))
            publish.sync_folder(folder)
            (draft / "card.json").replace(folder / card.FILE)
        publish.sync_folder((folder / card.FILE).parent)
        for file in obsolete:
            (folder / file).unlink(missing_ok=True)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise ConvertError(f"{folder} cannot be written: {error.strerror}") from error


def _is_ours(path: Path) -> bool:
    """Whether the file may be written: it is missing, or a conversion was killed before it wrote the card."""
    if path.suffix == ".npz":
        return True  # graph files of the same stem are checked, and nobody else writes *.before.npz
    try:
        return not path.exists() or onnx.load(path, load_external_data=False).producer_name == PRODUCER
    except message.Error:
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
