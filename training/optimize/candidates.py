"""Makes the graphs that may replace a version's graph: int8 with fixed or with measured-at-run-time ranges, and fused.

- static int8: weights int8 for each output channel, activations uint8 with ranges that real inputs had; ONNX's
  QuantizeLinear and DequantizeLinear stand around each operation (QDQ), and ONNX Runtime fuses them into int8 kernels.
- dynamic int8: weights int8, the range of an activation is measured in each run. For recurrent and dense layers.
- fused: ONNX Runtime's own rewriting of the graph, in float32, written to the file.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from ladle.training.onnx.convert import PRODUCER, first_line

Arrays = Mapping[str, np.ndarray]

STATIC, DYNAMIC, FUSED = "static int8", "dynamic int8", "fused"
METHODS = {"static": STATIC, "dynamic": DYNAMIC, "fused": FUSED}
"""What the option `--method` takes -> what cards say."""
BATCH = 10
"""Rows of a calibration run: the augmented graph returns the range of every activation, batch by batch."""
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
DENSE = frozenset({"Gemm", "MatMul"})
RECURRENT = frozenset({"LSTM"})  # ONNX Runtime has no int8 kernel for GRU and RNN
AROUND = (
    *("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Pad", "Relu"),
    *("Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
"""Operations between the layers that can work on int8. Softmax and the like lose too much in 256 levels."""


@dataclass(frozen=True)
class Candidate:
    """A graph that may replace another.

    path    its file; None: it could not be made
    reason  why not
    """

    method: str
    path: Path | None
    reason: str = ""


def make(
    graph: Path, calibration: Arrays, folder: Path, methods: Collection[str] = tuple(METHODS.values())
) -> Iterator[Candidate]:
    """Every candidate that suits the operations of a graph, written to `folder`.

    calibration  real inputs of the graph by name, batch first: what they reach is the range of an activation
    """
    start = folder / "plain.onnx"
    try:
        _rewritten(graph, start, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
        model = onnx.load(start)
    except Exception as error:  # ONNX Runtime and protobuf have no common error type
        yield Candidate(FUSED, None, f"the graph cannot be rewritten: {first_line(error)}")
        return
    _name_nodes(model)
    add_pre_process_metadata(model)
    onnx.save(model, start)
    operations = {node.op_type for node in model.graph.node}
    last = _last_layers(model)
    inner = {node.op_type for node in model.graph.node if node.name not in last}
    if STATIC in methods and inner & (CONVOLUTIONS | DENSE):
        yield _tried(STATIC, folder / "static.onnx", lambda path: _static(start, path, calibration, last))
    if DYNAMIC in methods and operations & (DENSE | RECURRENT):
        yield _tried(DYNAMIC, folder / "dynamic.onnx", lambda path: _dynamic(start, path))
    extended = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if FUSED in methods:
        yield _tried(FUSED, folder / "fused.onnx", lambda path: _rewritten(graph, path, extended))


def _tried(method: str, path: Path, write: Callable[[Path], None]) -> Candidate:
    try:
        with _quiet():
            write(path)
        model = onnx.load(path)
    except Exception as error:  # the library raises whatever its handlers raise
        return Candidate(method, None, f"it cannot be made: {first_line(error)}")
    model.producer_name = PRODUCER
    onnx.save(model, path)
    return Candidate(method, path)


def _static(start: Path, target: Path, calibration: Arrays, last: set[str]) -> None:
    quantization.quantize_static(
        start,
        target,
        _Reader(calibration),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=[*sorted(CONVOLUTIONS | DENSE), *AROUND],
        per_channel=True,
        # Without VNNI the processor adds two products in 16 bits, which overflow; 7 bits for a weight do not.
        reduce_range=not has_vnni(),
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=sorted(last),
        extra_options={"MatMulConstBOnly": True},
    )


def _dynamic(start: Path, target: Path) -> None:
    quantization.quantize_dynamic(
        start,
        target,
        op_types_to_quantize=sorted(DENSE | RECURRENT),
        per_channel=True,
        reduce_range=not has_vnni(),
        weight_type=quantization.QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


def has_vnni() -> bool:
    """Whether the processor multiplies int8 without overflow: VNNI on x86; every other kind is taken to."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return "vnni" in flags or "sse2" not in flags


def processor() -> str:
    """The processor's name, for the card: a ratio holds for it alone."""
    import platform

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _rewritten(graph: Path, target: Path, level: object) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4  # it warns that the file is made for this version
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _name_nodes(model: onnx.ModelProto) -> None:
    """The library finds nodes by their names, and the rewriting leaves some without."""
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"


def _last_layers(model: onnx.ModelProto) -> set[str]:
    """The nodes after which no layer follows: they decide the answer and cost little, so they stay in float32."""
    reads: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            reads.setdefault(name, []).append(node)
    layers = CONVOLUTIONS | DENSE | RECURRENT | {"GRU", "RNN"}
    inner: set[str] = set()
    for node in reversed(model.graph.node):  # an ONNX graph is in topological order
        after = [reader for name in node.output for reader in reads.get(name, [])]
        if any(reader.op_type in layers or reader.name in inner for reader in after):
            inner.add(node.name)
    return {node.name for node in model.graph.node} - inner


class _Reader:
    """The calibration inputs, BATCH rows at a time, as the library reads them."""

    def __init__(self, arrays: Arrays) -> None:
        rows = min(len(array) for array in arrays.values())
        self._batches = iter(
            [{name: array[i : i + BATCH] for name, array in arrays.items()} for i in range(0, rows, BATCH)]
        )

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice, which it gives through the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
