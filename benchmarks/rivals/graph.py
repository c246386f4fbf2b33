"""The graph that every rival runs: ONNX Runtime on one thread, as our server runs a small graph."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
import onnxruntime

PORT = int(os.environ.get("PORT", "0"))
WORKERS = int(os.environ.get("WORKERS", "1"))
BATCH = int(os.environ.get("BATCH", "1"))
DECODE = os.environ.get("DECODE", "")
"""`image`: the rows are {"b64": encoded image}; empty: numbers."""


class Graph:
    """A session on the ONNX file that the environment variable GRAPH names."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # A spinning thread would take the core from the load generator and from other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.environ["GRAPH"]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """float32 [b, ...] -> the graph's outputs by name."""
        return dict(zip(self.outputs, self.session.run(None, {self.input: array}), strict=True))

    def predict(self, request: dict) -> dict:
        """{"instances": [...]} -> {"predictions": [{output: value}, ...]}, plain lists and numbers."""
        rows = request["instances"]
        outputs = self.run(self.decode(rows) if DECODE == "image" else np.array(rows, np.float32))
        lists = {name: output.tolist() for name, output in outputs.items()}
        return {"predictions": [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]}

    def decode(self, rows: list) -> np.ndarray:
        """Encoded images -> float32 [b, h, w, 3] in [0, 1] at the graph's size, decoded and resized by Pillow."""
        from PIL import Image

        _, height, width, _ = self.session.get_inputs()[0].shape
        pictures = []
        for row in rows:
            picture = Image.open(io.BytesIO(base64.b64decode(row["b64"]))).convert("RGB")
            pictures.append(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32))
        return np.stack(pictures) / np.float32(255)
