"""The reference of the model card: its entries, and the steps of signatures."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

from markup import code, plain, table

MEANINGS = {
    "format": "version of this format",
    "network": "registry name of the network, which is also the model's name",
    "task": "`classify`, `sentiment`, `regress`, `reconstruct`, `generate`, `segment` or `filter`; null for a "
    "SavedModel made elsewhere",
    "version": "the version's number, which is the name of its folder",
    "created": "time of the export, UTC, ISO 8601",
    "description": "one sentence about the network",
    "config": "every hyper-parameter of the run; `ladle train NAME --config card.json` trains with them again",
    "preset": "the preset that was named on the command line",
    "seed": "seed of the weights, the order of the examples and all noise",
    "data": "the data set: name, where it came from, its checksum, its licence, whether it is synthetic, and the "
    "number of examples in each split",
    "labels": "class names in the order of their ids",
    "metrics": "figures by split, then by name",
    "epochs": "epochs that were trained",
    "training_seconds": "seconds that training took",
    "machine": "where it was trained, in words",
    "signatures": "how each signature runs; see below",
    "onnx": "the ONNX graphs by file name; see below",
    "parameters": "number of weights",
    "size_bytes": "size of all files of the version",
    "versions": "versions of Python and of the libraries",
    "commit": "commit of the checkout that exported it, ending in `-dirty` if it had changes; null for an installed "
    "package",
}


def card() -> str:
    """The entries of a model card, with the JSON types that the code checks."""
    required = importlib.import_module("ladle.training.store.card").REQUIRED
    if list(required) != list(MEANINGS):
        raise ValueError(f"the model card's entries changed: {sorted(set(required) ^ set(MEANINGS)) or 'their order'}")
    words = {int: "integer", float: "number", str: "string", dict: "object", list: "array", type(None): "null"}
    rows = []
    for name, kinds in required.items():
        types = [words[kind] for kind in kinds if not (kind is int and float in kinds)]
        rows.append([code(name), " or ".join(types), MEANINGS[name]])
    return table(["entry", "JSON type", "meaning"], rows)


def steps() -> str:
    """The operations that a signature may have before and after its graph."""
    found: ModuleType = importlib.import_module("ladle.models._steps")
    kinds = [
        kind
        for _, kind in inspect.getmembers(found, inspect.isclass)
        if kind.__module__ == found.__name__ and isinstance(getattr(kind, "op", None), str)
    ]
    return table(
        ["`op`", "does"], [[code(kind.op), plain(" ".join((inspect.getdoc(kind) or "").split()))] for kind in kinds]
    )
