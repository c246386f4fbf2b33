"""What TensorFlow Serving needs of a SavedModel: operations that it has, and signatures that run in a session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.kernels import get_registered_kernels_for_op

from ladle.training.store import warmup

PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
"""Registered everywhere, but they call back into the process that exported."""
GPU_ALONE = ("CudnnRNN",)
"""Beginnings of operations that no CPU runs, so that neither the CPU image nor a test here could."""


@dataclass
class Servable:
    """What was found of a version.

    tensorflow   the version that exported it            operations  those of its graph and functions, sorted
    signatures   how many ran on their recorded request  cpu_alone   operations without a kernel for the GPU
    faults       why TensorFlow Serving could not serve it, a sentence each
    """

    tensorflow: str = ""
    operations: tuple[str, ...] = ()
    cpu_alone: tuple[str, ...] = ()
    signatures: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{'cannot be served' if self.faults else 'can be served'}; {len(self.operations)} operations, "
            f"{len(self.cpu_alone)} of them on the CPU alone; signatures that ran: {self.signatures}; "
            f"exported by TensorFlow {self.tensorflow or 'unknown'}"
        )


def check(folder: Path) -> Servable:
    """Reads the operations of a version, and runs its signatures if they are all known."""
    try:
        graph = read(folder)
    except (ValueError, DecodeError) as error:
        return Servable(faults=[f"saved_model.pb cannot be read: {error}"])
    result = operations(graph)
    if not result.faults:
        _run(folder, graph, result)
    return result


def read(folder: Path) -> meta_graph_pb2.MetaGraphDef:
    """The MetaGraph that servers load. ValueError: there is none; DecodeError: the file is damaged."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        if list(graph.meta_info_def.tags) == ["serve"]:
            return graph
    raise ValueError("it has no MetaGraph with the tag serve")


def operations(graph: meta_graph_pb2.MetaGraphDef) -> Servable:
    """The operations of the graph and of all its functions, and those that a server does not have."""
    functions = {function.signature.name for function in graph.graph_def.library.function}
    found = {node.op for node in _nodes(graph)} - functions
    result = Servable(graph.meta_info_def.tensorflow_version, tuple(sorted(found)))
    for name in result.operations:
        if op_def_registry.get(name) is None:
            result.faults.append(f"the operation {name} is not TensorFlow's own")
        elif name in PYTHON:
            result.faults.append(f"the operation {name} calls Python, which a server does not have")
        elif name.startswith(GPU_ALONE):
            result.faults.append(f"the operation {name} runs on a GPU alone")
    kernels = {name: {k.device_type for k in get_registered_kernels_for_op(name).kernel} for name in result.operations}
    result.cpu_alone = tuple(name for name, devices in kernels.items() if devices and not devices & {"GPU", "DEFAULT"})
    return result


def _nodes(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[Any]:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _run(folder: Path, graph: meta_graph_pb2.MetaGraphDef, result: Servable) -> None:
    """Every signature with a recorded request, in a session into which the graph was loaded."""
    try:
        requests = {request.signature: request.inputs for request in warmup.read(folder / warmup.FILE)}
    except ValueError:
        requests = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        except (tf.errors.OpError, ValueError, OSError) as error:
            result.faults.append(f"it cannot be loaded: {str(error).splitlines()[0]}")
            return
        for name, signature in graph.signature_def.items():
            if name not in requests:
                continue
            fed = {signature.inputs[alias].name: value for alias, value in requests[name].items()}
            try:
                session.run({alias: info.name for alias, info in signature.outputs.items()}, fed)
            except (tf.errors.OpError, ValueError) as error:
                result.faults.append(f"{name} failed on its recorded request: {str(error).splitlines()[0]}")
            else:
                result.signatures += 1
    if not result.signatures and not result.faults:
        result.faults.append(f"no signature has a recorded request in {warmup.FILE}, so none was run")
