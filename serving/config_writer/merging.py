"""Which versions TensorFlow Serving may merge requests of, and the file in a version's folder that lets it.

With --enable_batching alone it merges all: a signature with a scalar input (n, seed) is then refused, and requests of
different sizes fail each other. With --enable_per_model_batching_parameters it merges the versions that have the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.serving.servables.batching_parameters import FILE
from ladle.serving.servables.saved_model import TensorInfo, parse_signature, read_signature_defs


def can_be_merged(version: Path) -> bool:
    """Whether each row of each signature stands alone: a free first axis, all others fixed, inputs and outputs alike.

    NotFound, DataLoss: there is no SavedModel that can be read.
    """
    for name, definition in read_signature_defs(version).items():
        signature = parse_signature(name, definition)
        if name.startswith("__"):  # __saved_model_init_op: nobody asks it
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
    """The text for a version's folder, from the server's BatchingParameters; threads are the server's alone."""
    own = pb.BatchingParameters()
    own.CopyFrom(batching)
    own.ClearField("num_batch_threads")
    own.ClearField("thread_pool_name")
    return str(text_format.MessageToString(own))


def write_parameters(version: Path, text: str) -> None:
    """Puts the file into a version's folder. OSError when the folder cannot be written."""
    draft = version / f".{FILE}"
    draft.write_text(text)
    draft.rename(version / FILE)
