"""Runs signatures of a SavedModel on TensorFlow, which is imported when such a signature is first needed.

As in TensorFlow Serving, a session holds the MetaGraph, and requests feed and fetch its tensors by name. So models of
TensorFlow 1 and 2 run alike, and only the graph's own operations check shapes.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import (
    CODES,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    MissingOperation,
    ServingError,
    of_code,
)
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.servables.engines import operations
from ladle.serving.servables.engines.max_pool import replace_max_pools
from ladle.serving.servables.latency import Latency
from ladle.serving.servables.saved_model import INIT_OP, Signature

log = logging.getLogger(__name__)

_MAX_CALLS = 256  # prepared calls that are kept: one for each signature and set of outputs


def is_available() -> bool:
    """Whether TensorFlow is installed. Does not import it."""
    return importlib.util.find_spec("tensorflow") is not None


class SavedModelEngine:
    """All signatures of one version on TensorFlow."""

    name = "TensorFlow"

    def __init__(
        self,
        folder: Path,
        tags: Collection[str],
        signatures: Mapping[str, Signature],
        intra_op: int = 0,
        inter_op: int = 0,
    ) -> None:
        """Loads nothing yet.

        intra_op, inter_op  threads within and between operations; 0: as many as cores
        """
        self._folder = folder
        self._tags = list(tags)
        self._signatures = signatures
        self._threads = intra_op, inter_op
        self._lock = threading.Lock()
        self._session: Any = None
        self._python: set[str] = set()  # signatures that call Python
        self._calls: dict[tuple[str, tuple[str, ...], int], Callable[..., Any]] = {}

    def load(self) -> None:
        """Import TensorFlow, which takes seconds, and restore the SavedModel; later calls do nothing.

        FailedPrecondition when TensorFlow is not installed, MissingOperation for an operation that it lacks, else
        TensorFlow's own code: DataLoss or NotFound for damaged and missing files, InvalidArgument for a bad graph.
        """
        with self._lock:
            if self._session is not None:
                return
            if not is_available():
                raise FailedPrecondition(
                    "the version has no verified ONNX graph, and TensorFlow is not installed where the server runs; "
                    "add a graph with `ladle convert`, or install TensorFlow"
                )
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when TensorFlow is imported
            import tensorflow as tf
            from tensorflow.python.framework import op_def_registry
            from tensorflow.python.saved_model.loader_impl import SavedModelLoader

            logging.getLogger("tensorflow").setLevel(logging.ERROR)
            # TensorFlow takes all memory of a GPU by default, which leaves none to other processes.
            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)
            intra_op, inter_op = self._threads
            config = tf.compat.v1.ConfigProto(
                intra_op_parallelism_threads=intra_op, inter_op_parallelism_threads=inter_op
            )
            session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
            try:
                with session.graph.as_default():
                    # What tf.compat.v1.saved_model.load does, with a change of the graph in between.
                    loader = SavedModelLoader(str(self._folder))
                    meta_graph = loader.get_meta_graph_def_from_tags(self._tags)
                    operations.provide(meta_graph.graph_def, lambda name: op_def_registry.get(name) is not None)
                    self._python = operations.calling_python(meta_graph)
                    self._check_python()
                    replace_max_pools(meta_graph)
                    loader.load(session, self._tags)
                    _fill_copied_from(session)
            except ServingError:
                session.close()
                raise
            except Exception as error:
                log.error("%s: %s", self._folder, error)
                session.close()
                raise _load_error(error, self._folder) from None
            self._session = session

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_ms: int = 0
    ) -> dict[str, Array]:
        """The named outputs by alias. The run ends with DeadlineExceeded after `timeout_ms`; 0: never."""
        if self._session is None:
            self.load()
        names = tuple(outputs)
        call = self._calls.get((signature, names, timeout_ms))
        if call is None:
            if len(self._calls) >= _MAX_CALLS:
                self._calls.clear()
            try:
                call = self._prepare(self._signatures[signature], names, timeout_ms)
            except ServingError:
                raise
            except Exception as error:  # a signature that returns its input, or names a tensor that the graph lacks
                raise _refusal(error) from None
            self._calls[signature, names, timeout_ms] = call
        feeds = [_feed(inputs[alias]) for alias in self._signatures[signature].inputs]
        try:
            answers = call(*feeds)
        except Exception as error:
            raise _refusal(error) from None
        return {alias: _fetch(answer) for alias, answer in zip(names, answers, strict=True)}

    def _check_python(self) -> None:
        """MissingOperation when all signatures call Python; a log line for those that do."""
        for name in sorted(self._python):
            log.warning("%s: signature %s %s; it is refused", self._folder, name, operations.CALLS_PYTHON)
        if self._python and self._python >= set(self._signatures) - {INIT_OP}:
            raise MissingOperation(f"the model {operations.CALLS_PYTHON}")

    def latency(self, signature: str) -> Latency:
        # TensorFlow's graphs decode images and have loops: their time need not follow the size of the inputs.
        return Latency(is_steady=False)

    def close(self) -> None:
        """Nothing outlives the engine."""

    def clock(self, signature: str) -> Callable[[], float]:
        return time.perf_counter

    def _prepare(self, signature: Signature, outputs: tuple[str, ...], timeout_ms: int) -> Callable[..., Any]:
        from tensorflow.core.protobuf import config_pb2

        if signature.name in self._python:
            raise FailedPrecondition(f"the signature {signature.name} {operations.CALLS_PYTHON}")
        for kind, infos in (
            ("input", signature.inputs),
            ("output", {alias: signature.outputs[alias] for alias in outputs}),
        ):
            for alias, info in infos.items():
                if not info.name:  # it has several tensors, such as the values and row splits of a ragged one
                    raise InvalidArgument(
                        f'{kind} "{alias}" is a ragged or sparse tensor, which no request can carry; export its dense '
                        f"parts, such as {alias}.values and {alias}.row_splits, as {kind}s of their own"
                    )
        # A prepared call resolves the names of tensors once; Session.run would do so at each request.
        callable_options = config_pb2.CallableOptions(
            feed=[info.name for info in signature.inputs.values()],
            fetch=[signature.outputs[alias].name for alias in outputs],
            # TensorFlow looks between operations whether the time is up.
            run_options=config_pb2.RunOptions(timeout_in_ms=timeout_ms),
        )
        call: Callable[..., Any] = self._session._make_callable_from_options(callable_options)
        return call


def _fill_copied_from(session: Any) -> None:
    """Fill variables that no checkpoint restores from their copies that one does.

    Of a Keras 3 model that `tf.saved_model.save` wrote, the signatures read the variables that the restored ones were
    made as copies of; a session would answer that it could not find them.
    """
    from tensorflow import raw_ops

    pairs = [
        (operation.inputs[1].op, operation.inputs[0])
        for operation in session.graph.get_operations()
        if operation.type == "AssignVariableOp" and operation.inputs[1].op.type == "ReadVariableOp"
    ]
    for read, copy in pairs:
        source = read.inputs[0]
        filled = [raw_ops.VarIsInitializedOp(resource=each) for each in (source, copy)]
        if session.run(filled) == [False, True]:
            value = raw_ops.ReadVariableOp(resource=copy, dtype=read.outputs[0].dtype)
            session.run(raw_ops.AssignVariableOp(resource=source, value=value))


def _feed(array: Array) -> Array:
    if array.dtype != tensors.BFLOAT16:
        return array
    # NumPy has no bfloat16: the wire module has a dtype of its own for the same 16 bits.
    import tensorflow as tf

    return array.view(tf.bfloat16.as_numpy_dtype)


def _fetch(answer: Any) -> Array:
    if isinstance(answer, np.ndarray):
        return answer
    return np.asarray(answer, object if isinstance(answer, bytes) else None)


def _load_error(error: Exception, folder: Path) -> ServingError:
    """TensorFlow's error while it loads a SavedModel: its code, and the sentence that says what is wrong, no paths."""
    text = str(getattr(error, "message", error)).strip()
    # A failing operation is reported among stack traces: its sentence follows the name of its node.
    _, _, sentence = text.rpartition("\nNode: ")
    lines = sentence.split("\n")[1:] or text.split("\n")
    message = lines[0].replace(f"{folder}{os.sep}", "")
    code = getattr(error, "error_code", None)
    if code is not None:
        return of_code(CODES.get(code, "UNKNOWN"), f"the SavedModel cannot be restored: {message}")
    if "is not a valid checkpoint" in message:
        return DataLoss("the SavedModel cannot be restored: variables/variables.index is missing; copy it again")
    if isinstance(error, ValueError):  # how TensorFlow's importer reports a graph that it refuses
        return InvalidArgument(f"the SavedModel cannot be restored: {message}")
    return DataLoss("the SavedModel cannot be restored: files are missing or damaged")


def _refusal(error: Exception) -> Exception:
    """TensorFlow's error: its code, and the first line of its message without names of nodes."""
    code = getattr(error, "error_code", None)
    message = str(getattr(error, "message", error)).strip().split("\n")[0]
    message = re.sub(r"\{\{.*?\}\}\s*|\[\[.*?\]\]|\[Op:.*?\]", "", message).strip()
    if code is None:
        log_caller_error(log, "TensorFlow: %s", error)
        return InvalidArgument("the graph cannot run these inputs")
    return of_code(CODES.get(code, "UNKNOWN"), message)
