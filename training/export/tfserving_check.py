"""Checks that TensorFlow Serving can serve a version: it has all operations, and every signature runs in a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.kernels import get_registered_kernels_for_op

from ladle.training.store import warmup

PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
"""Operations that every build registers, but that call Python functions of the exporting process."""
GPU_ONLY = ("CudnnRNN",)
"""Prefixes of operations without a CPU kernel: TensorFlow Serving's CPU image cannot run them."""


@dataclass
class Check:
    """Result of checking a version.

    tensorflow  version of TensorFlow that exported it
    operations  names of all operations in its graph and functions, sorted
    cpu_only    operations without a GPU kernel
    signatures  number of signatures that ran on their warm-up requests
    faults      why TensorFlow Serving cannot serve it, one sentence each
    not_run     why no signature ran, although nothing is wrong; empty if one did
    """

    tensorflow: str = ""
    operations: tuple[str, ...] = ()
    cpu_only: tuple[str, ...] = ()
    signatures: int = 0
    faults: list[str] = field(default_factory=list)
    not_run: str = ""

    def __str__(self) -> str:
        sound = f"loads, nothing run: {self.not_run}" if self.not_run else "can be served"
        return (
            f"{'cannot be served' if self.faults else sound}; {len(self.operations)} operations, "
            f"{len(self.cpu_only)} of them on the CPU only; signatures that ran: {self.signatures}; "
            f"exported by TensorFlow {self.tensorflow or 'unknown'}"
        )


def check(folder: Path) -> Check:
    """Read the operations of a version. If TensorFlow Serving has all of them, also run the signatures."""
    try:
        graph = read(folder)
    except (ValueError, DecodeError, text_format.ParseError) as error:
        return Check(faults=[f"saved_model.pb cannot be read: {error}"])
    except OSError as error:
        return Check(faults=[f"saved_model.pb cannot be read: {error.strerror}"])
    result = operations(graph)
    if not result.faults:
        _run(folder, graph, result)
    return result


def read(folder: Path) -> meta_graph_pb2.MetaGraphDef:
    """The MetaGraph that servers load. ValueError if there is none, DecodeError or ParseError if it is damaged."""
    if (folder / "saved_model.pb").exists():
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    else:
        saved = text_format.Parse((folder / "saved_model.pbtxt").read_bytes(), saved_model_pb2.SavedModel())
    for graph in saved.meta_graphs:
        if list(graph.meta_info_def.tags) == ["serve"]:
            return graph
    raise ValueError("no MetaGraph has the tag serve")


def operations(graph: meta_graph_pb2.MetaGraphDef) -> Check:
    """List the operations of the graph and of its functions, with a fault for each that a server lacks."""
    functions = {function.signature.name for function in graph.graph_def.library.function}
    found = {node.op for node in _nodes(graph)} - functions
    result = Check(graph.meta_info_def.tensorflow_version, tuple(sorted(found)))
    for name in result.operations:
        if op_def_registry.get(name) is None:
            result.faults.append(f"the operation {name} is not TensorFlow's own")
        elif name in PYTHON:
            result.faults.append(f"the operation {name} calls Python, which a server does not have")
        elif name.startswith(GPU_ONLY):
            result.faults.append(f"the operation {name} runs only on a GPU")
    kernels = {name: {k.device_type for k in get_registered_kernels_for_op(name).kernel} for name in result.operations}
    result.cpu_only = tuple(name for name, devices in kernels.items() if devices and not devices & {"GPU", "DEFAULT"})
    return result


def _nodes(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[Any]:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _run(folder: Path, graph: meta_graph_pb2.MetaGraphDef, result: Check) -> None:
    """Load a version into a session and answer its warm-up requests, as TensorFlow Serving does before it serves it."""
    try:
        requests = warmup.read(folder / warmup.FILE) if (folder / warmup.FILE).exists() else []
    except (ValueError, OSError) as error:
        result.faults.append(f"its warm-up requests cannot be read: {error}")
        return
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        except Exception as error:  # besides TensorFlow's own errors, its importer raises several of Python's
            result.faults.append(f"it cannot be loaded: {_first_line(error)}")
            return
        ran = set()
        for request in requests:
            name, signature = request.signature, graph.signature_def.get(request.signature)
            if signature is None:
                result.faults.append(f'a warm-up request asks the signature "{name}", which it does not have')
                continue
            fault = _fault_of(session, signature, request.inputs)
            if fault:
                result.faults.append(f"{name} failed on its warm-up request: {fault}")
            else:
                ran.add(name)
    result.signatures = len(ran)
    if not ran and not result.faults:
        result.not_run = "it has no signatures" if not _served(graph) else "it has no warm-up requests"


def _fault_of(session: Any, signature: Any, inputs: Mapping[str, Any]) -> str | None:
    """Why a signature fails on a request; None: it does not."""
    if sorted(inputs) != sorted(signature.inputs):
        return f"got the inputs {_names(inputs)}; expected {_names(signature.inputs)}"
    fed = {signature.inputs[alias].name: value for alias, value in inputs.items()}
    try:
        session.run({alias: info.name for alias, info in signature.outputs.items()}, fed)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        return _first_line(error)
    return None


def _served(graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    return [name for name in graph.signature_def if name != "__saved_model_init_op"]


def _names(tensors: Mapping[str, Any]) -> str:
    return ", ".join(sorted(tensors)) or "none"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
