"""Reads the signatures in a version's saved_model.pb, and its model card."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import DataLoss, NotFound

log = logging.getLogger(__name__)

INIT_OP = "__saved_model_init_op"
"""SavedModels list the operation that initializes them as a signature. It belongs to loading; nobody can call it."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as the signature declares it.

    dtype  TensorFlow's number of the dtype
    shape  None for unknown rank; -1 for a free axis
    name   the tensor in TensorFlow's graph
    """

    dtype: int
    shape: tuple[int, ...] | None
    name: str

    @cached_property
    def numpy(self) -> np.dtype[Any] | None:
        """The NumPy dtype; None for a dtype that no request can carry."""
        dtype = tensors.DTYPES.get(self.dtype)
        return dtype.numpy if dtype else None

    @cached_property
    def type_name(self) -> str:
        """TensorFlow's name for the dtype: float, int32, string ..."""
        return type_name(self.dtype)

    def __str__(self) -> str:
        return f"{self.type_name} {list(self.shape) if self.shape is not None else 'of any shape'}"


@dataclass(frozen=True)
class Signature:
    """A function of the model: inputs and outputs by alias in alphabetical order, and default values of inputs."""

    name: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method_name: str = "tensorflow/serving/predict"
    defaults: Mapping[str, Array] = field(default_factory=dict)


def type_name(number: int) -> str:
    """TensorFlow's name for a dtype's number: float, int32, string ..."""
    name: str = pb.DataType.Name(number) if number in pb.DataType.values() else f"DT_{number}"
    return name.removeprefix("DT_").lower()


def read_signature_defs(folder: Path, tags: Collection[str] = ("serve",)) -> dict[str, Any]:
    """The SignatureDef messages by name, of the MetaGraph with exactly these tags.

    NotFound when saved_model.pb or such a MetaGraph is missing, DataLoss when the file cannot be read. As in
    TensorFlow, saved_model.pbtxt counts where there is no saved_model.pb.
    """
    try:
        graphs = _read(folder).meta_graphs
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("the version has no saved_model.pb; publish a whole SavedModel by renaming its folder") from None
    except DecodeError:
        raise DataLoss("the version's saved_model.pb is damaged; export it again") from None
    for graph in graphs:
        if set(graph.meta_info_def.tags) == set(tags):
            return dict(graph.signature_def)
    found = ["{" + ", ".join(graph.meta_info_def.tags) + "}" for graph in graphs]
    raise NotFound(
        f"saved_model.pb has no MetaGraph with the tags {{{', '.join(tags)}}}; it has {', '.join(found) or 'none'}"
    )


def _read(folder: Path) -> Any:
    try:
        data = (folder / "saved_model.pb").read_bytes()
    except FileNotFoundError:
        return _read_text(folder / "saved_model.pbtxt")
    return pb.SavedModel.FromString(data)


def _read_text(path: Path) -> Any:
    text = path.read_bytes()
    from google.protobuf import text_format  # takes a tenth of the start-up time, and few versions are text

    try:
        # Only the signatures are needed, and the message here knows few other fields of TensorFlow's.
        return text_format.Parse(text, pb.SavedModel(), allow_unknown_field=True, descriptor_pool=pb.POOL)
    except (text_format.ParseError, UnicodeDecodeError):
        raise DataLoss("the version's saved_model.pbtxt is damaged; export it again") from None


def parse_signature(name: str, definition: Any) -> Signature:
    """A SignatureDef as plain values."""
    return Signature(
        name=name,
        inputs={alias: _info(definition.inputs[alias]) for alias in sorted(definition.inputs)},
        outputs={alias: _info(definition.outputs[alias]) for alias in sorted(definition.outputs)},
        method_name=definition.method_name,
        defaults={alias: tensors.to_array(value) for alias, value in definition.defaults.items()},
    )


def _info(info: Any) -> TensorInfo:
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorInfo(dtype=info.dtype, shape=shape, name=info.name)


def read_card(folder: Path) -> dict[str, Any] | None:
    """The model card, assets.extra/card.json; None when there is none or it describes another SavedModel.

    A card becomes out of date when another model is exported to the same folder: its graphs would answer as the old
    model did. DataLoss for a file that is not a card.
    """
    try:
        card = json.loads((folder / "assets.extra" / "card.json").read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise DataLoss("the version's card.json is not JSON; export it again") from None
    if not isinstance(card, dict) or not isinstance(card.get("signatures", {}), dict):
        raise DataLoss("the version's card.json is not a model card; export it again")
    for name in _assets(card):
        if Path(name).name != name:  # a path could read any file of the machine
            raise DataLoss(f"card.json names the file {name!r} of a step; expected a file name of the version")
    described = card.get("saved_model")
    if isinstance(described, dict) and described.get("sha256") != checksum(folder):
        log.warning("%s: card.json describes another SavedModel and is ignored; run `ladle convert` again", folder)
        return None
    return card


def checksum(folder: Path) -> str:
    """SHA-256 that changes with the graph or a variable of a SavedModel; ladle.training.store.savedmodel writes it."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("saved_model.pb*"), *folder.glob("variables/*")]):
        # The index holds a CRC-32C of every variable, so loading a version need not read the large data files twice.
        content = str(path.stat().st_size).encode() if ".data-" in path.name else path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _assets(card: Mapping[str, Any]) -> Iterator[str]:
    """Names of the files that the card's steps read."""
    for entry in card.get("signatures", {}).values():
        steps = [*(entry.get("before") or ()), *(entry.get("after") or ())] if isinstance(entry, dict) else []
        for step in steps:
            yield from (
                step[key] for key in ("labels", "vocabulary", "file") if isinstance(step, dict) and step.get(key)
            )
