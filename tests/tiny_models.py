"""Tiny models whose answers are known, written as an export writes them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ladle.clients.wire import messages as pb

LABELS = ("boot", "coat", "shirt")
TYPES = {
    "float32": ("DT_FLOAT", TensorProto.FLOAT),
    "float64": ("DT_DOUBLE", TensorProto.DOUBLE),
    "int64": ("DT_INT64", TensorProto.INT64),
    "int32": ("DT_INT32", TensorProto.INT32),
    "int16": ("DT_INT16", TensorProto.INT16),
    "int8": ("DT_INT8", TensorProto.INT8),
    "uint8": ("DT_UINT8", TensorProto.UINT8),
    "uint16": ("DT_UINT16", TensorProto.UINT16),
    "uint32": ("DT_UINT32", TensorProto.UINT32),
    "uint64": ("DT_UINT64", TensorProto.UINT64),
    "bool": ("DT_BOOL", TensorProto.BOOL),
    "float16": ("DT_HALF", TensorProto.FLOAT16),
    "bfloat16": ("DT_BFLOAT16", TensorProto.BFLOAT16),
    "string": ("DT_STRING", 0),
}
Tensors = Mapping[str, tuple[str, Sequence[int]]]


@dataclass
class Signature:
    """A signature of a tiny model: dtype and shape of its tensors, its graph's file and the steps around it."""

    inputs: Tensors
    outputs: Tensors
    graph: str | None = "model.onnx"
    before: Sequence[Mapping[str, Any]] = ()
    after: Sequence[Mapping[str, Any]] = ()
    method: str = "predict"


@dataclass
class Model:
    """What a version's folder is made of."""

    signatures: Mapping[str, Signature]
    graphs: Mapping[str, onnx.ModelProto]
    assets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warm_up: Sequence[Any] = ()

    def write(self, base_path: Path, version: int | str = 1) -> Path:
        """Publishes the version as exporters do: written under another name, then renamed."""
        folder = base_path / f".writing-{version}"
        (folder / "assets.extra").mkdir(parents=True)
        (folder / "assets").mkdir()
        saved = pb.SavedModel(saved_model_schema_version=1)
        graph = saved.meta_graphs.add()
        graph.meta_info_def.tags.append("serve")
        for name, signature in self.signatures.items():
            definition = graph.signature_def[name]
            definition.method_name = f"tensorflow/serving/{signature.method}"
            for tensors, infos in ((signature.inputs, definition.inputs), (signature.outputs, definition.outputs)):
                for alias, (dtype, shape) in tensors.items():
                    infos[alias].name = f"{name}_{alias}:0"
                    infos[alias].dtype = pb.DataType.Value(TYPES[dtype][0])
                    for size in shape:
                        infos[alias].tensor_shape.dim.add(size=size)
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
        card: dict[str, Any] = {"format": 1, "signatures": {}, "onnx": {}}
        for name, model in self.graphs.items():
            data = model.SerializeToString()
            (folder / name).write_bytes(data)
            card["onnx"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "parity": {"inputs": 64, "max_abs": 0.0}}
        for name, signature in self.signatures.items():
            entry = {"graph": signature.graph} if signature.graph else {"reason": "none was made"}
            card["signatures"][name] = {**entry, "before": list(signature.before), "after": list(signature.after)}
        if self.graphs:
            (folder / "assets.extra" / "card.json").write_text(json.dumps(card))
        for name, lines in self.assets.items():
            (folder / "assets" / name).write_text("".join(f"{line}\n" for line in lines))
        if self.warm_up:
            records = b"".join(record(log.SerializeToString()) for log in self.warm_up)
            (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(records)
        published = base_path / str(version)
        folder.rename(published)
        return published


def record(data: bytes) -> bytes:
    """A TFRecord."""

    def checksum(part: bytes) -> bytes:
        crc = 0xFFFFFFFF
        for byte in part:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        crc ^= 0xFFFFFFFF
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def onnx_model(
    nodes: Sequence[Any], inputs: Tensors, outputs: Tensors, weights: Mapping[str, Any] | None = None
) -> onnx.ModelProto:
    """A graph of opset 18; -1 is a free axis."""

    def info(name: str, tensor: tuple[str, Sequence[int]]) -> Any:
        dtype, shape = tensor
        free = [f"{name}_{axis}" if size < 0 else size for axis, size in enumerate(shape)]
        return helper.make_tensor_value_info(name, TYPES[dtype][1], free)

    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [info(name, tensor) for name, tensor in inputs.items()],
        [info(name, tensor) for name, tensor in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def half_plus(offset: float) -> Model:
    """y = x / 2 + offset, as upstream's own test model: predict, classify and regress."""
    tensors: Tensors = {"x": ("float32", [-1, 1])}
    node = [helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Add", ["h", "offset"], ["y"])]
    weights = {"half": np.float32(0.5), "offset": np.float32(offset)}
    parse = {
        "op": "parse_example",
        "input": "inputs",
        "output": "x",
        "feature": "x",
        "dtype": "float32",
        "shape": [1],
    }
    examples: Tensors = {"inputs": ("string", [-1])}
    scores = onnx_model(
        [*node, helper.make_node("Identity", ["y"], ["scores"])], tensors, {"scores": ("float32", [-1, 1])}, weights
    )
    numbers = onnx_model(
        [*node, helper.make_node("Identity", ["y"], ["outputs"])], tensors, {"outputs": ("float32", [-1, 1])}, weights
    )
    return Model(
        {
            "serving_default": Signature(tensors, {"y": ("float32", [-1, 1])}),
            "classify_x": Signature(
                examples, {"scores": ("float32", [-1, 1])}, "scores.onnx", [parse], method="classify"
            ),
            "regress_x": Signature(
                examples, {"outputs": ("float32", [-1, 1])}, "numbers.onnx", [parse], method="regress"
            ),
            "ungraphed": Signature(tensors, {"y": ("float32", [-1, 1])}, graph=None),
        },
        {
            "model.onnx": onnx_model(node, tensors, {"y": ("float32", [-1, 1])}, weights),
            "scores.onnx": scores,
            "numbers.onnx": numbers,
        },
    )


def image_classifier() -> Model:
    """The class of a 2×2 image is its brightest pixel but the last; logits are the first three pixels."""
    tensors: Tensors = {"image": ("float32", [-1, 2, 2, 1])}
    core: Tensors = {
        "logits": ("float32", [-1, 3]),
        "probabilities": ("float32", [-1, 3]),
        "class_id": ("int64", [-1]),
    }
    graph = onnx_model(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "first"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
            helper.make_node("ArgMax", ["logits"], ["class_id"], axis=1, keepdims=0),
        ],
        tensors,
        core,
        {"first": np.eye(4, 3, dtype=np.float32)},
    )
    outputs: Tensors = {**core, "label": ("string", [-1])}
    label = {"op": "lookup_label", "input": "class_id", "output": "label", "labels": "labels.txt"}
    decode = {
        "op": "decode_image",
        "input": "image_bytes",
        "output": "image",
        "height": 2,
        "width": 2,
        "channels": 1,
    }
    parse = {
        "op": "parse_example",
        "input": "inputs",
        "output": "image",
        "feature": "image",
        "dtype": "float32",
        "shape": [2, 2, 1],
    }
    classes = {
        "op": "top_classes",
        "input": "probabilities",
        "classes": "classes",
        "scores": "scores",
        "labels": "labels.txt",
    }
    ranked: Tensors = {"classes": ("string", [-1, 3]), "scores": ("float32", [-1, 3])}
    return Model(
        {
            "serving_default": Signature(tensors, outputs, after=[label]),
            "serving_bytes": Signature({"image_bytes": ("string", [-1])}, outputs, before=[decode], after=[label]),
            "classify": Signature(
                {"inputs": ("string", [-1])}, ranked, before=[parse], after=[classes], method="classify"
            ),
        },
        {"model.onnx": graph},
        {"labels.txt": LABELS},
    )


def identities() -> Model:
    """One signature a dtype that answers what it is asked; `sum` adds two inputs."""
    signatures, graphs = {}, {}
    for dtype in TYPES:
        given: Tensors = {"x": (dtype, [-1])}
        answer: Tensors = {"y": (dtype, [-1])}
        if dtype in ("string", "bfloat16"):  # not for ONNX Runtime
            signatures[dtype] = Signature(given, answer, graph=None)
            continue
        graphs[f"{dtype}.onnx"] = onnx_model([helper.make_node("Identity", ["x"], ["y"])], given, answer)
        signatures[dtype] = Signature(given, answer, f"{dtype}.onnx")
    pair: Tensors = {"a": ("float32", [-1]), "b": ("float32", [-1])}
    total: Tensors = {"total": ("float32", [-1]), "difference": ("float32", [-1])}
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    graphs["sum.onnx"] = onnx_model(nodes, pair, total)
    signatures["sum"] = Signature(pair, total, "sum.onnx")
    words = {"op": "lookup_label", "input": "id", "output": "word_bytes", "labels": "words.txt"}
    given = {"id": ("int64", [-1])}
    graphs["words.onnx"] = onnx_model([helper.make_node("Identity", ["id"], ["same"])], given, {"same": given["id"]})
    signatures["words"] = Signature(given, {"word_bytes": ("string", [-1])}, "words.onnx", after=[words])
    return Model(signatures, graphs, {"words.txt": ("zero", "one")})


def looping() -> Model:
    """y = x after so many turns of a loop as the largest x says; a million takes about a second."""
    turn = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["go_on"]), helper.make_node("Identity", ["state"], ["next"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.INT64, [None]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [None]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["turns"], keepdims=0),
        helper.make_node("Loop", ["turns", "", "x"], ["y"], body=turn),
    ]
    given: Tensors = {"x": ("int64", [-1])}
    answer: Tensors = {"y": ("int64", [-1])}
    return Model({"serving_default": Signature(given, answer)}, {"model.onnx": onnx_model(nodes, given, answer)})
