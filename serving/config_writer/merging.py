"""Decides for which versions TensorFlow Serving may merge requests, and writes the file that allows it.

With --enable_batching alone, it merges the requests of every version: it then refuses signatures with a scalar input
(n, seed), and requests of different sizes make each other fail. With --enable_per_model_batching_parameters, it merges
only the requests of versions that have the file in their folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.serving.servables.batching_parameters import FILE
from ladle.serving.servables.saved_model import TensorInfo, parse_signature, read_signature_defs


def can_be_merged(version: Path) -> bool:
    """Whether every tensor of every signature has a free first axis and fixed others, so that rows are independent.

    NotFound or DataLoss when the SavedModel is missing or cannot be read.
    """
    for name, definition in read_signature_defs(version).items():
        signature = parse_signature(name, definition)
        if name.startswith("__"):  # __saved_model_init_op: clients never call it
            continue
        if not signature.inputs or not all(map(_has_rows, [*signature.inputs.values(), *signature.outputs.values()])):
            return False
    return True


def _has_rows(info: TensorInfo) -> bool:
    if not info.shape:
        return False
    rows, *inner = info.shape
    return rows == -1 and all(size >= 0 for size in inner)


def version_parameters(batching: Any) -> str:
    """The text of a version's file, from the server's BatchingParameters; without its threads, which all share."""
    own = pb.BatchingParameters()
    own.CopyFrom(batching)
    own.ClearField("num_batch_threads")
    own.ClearField("thread_pool_name")
    return str(text_format.MessageToString(own))


def write_parameters(version: Path, text: str) -> None:
    """Write the file into a version's folder. OSError when the folder is not writable."""
    draft = version / f".{FILE}"
    draft.write_text(text)
    draft.rename(version / FILE)
