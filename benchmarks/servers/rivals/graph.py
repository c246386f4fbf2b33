"""The graph that every rival runs: ONNX Runtime on one thread, as our server runs a small graph.

DECODE says what a request is:

(empty)  {"instances": [...]} with numbers
image    {"instances": [{"b64": ...}]}, base64 of encoded images
text     {"instances": ["..."]}; the word list is the file VOCABULARY
jpeg     an encoded image as it is
raw      float32 numbers as they are, of the graph's shape
mask     a PNG as it is; the answer is the mask as a PNG
seed     {"n": 32, "seed": 7}; the answer is the pictures as float32 numbers as they are
"""

from __future__ import annotations

import base64
import io
import os
import string

import numpy as np
import onnxruntime
import orjson

PORT = int(os.environ.get("PORT", "0"))
WORKERS = int(os.environ.get("WORKERS", "1"))
BATCH = int(os.environ.get("BATCH", "1"))
DECODE = os.environ.get("DECODE", "")
_WORDS = str.maketrans(string.punctuation + "\t\n", " " * (len(string.punctuation) + 2))
_FIRST_WORD = 3  # below it: padding, the start of a text, an unknown word


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
        given = self.session.get_inputs()[0]
        self.input, self.shape = given.name, given.shape
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.ids = {}
        if DECODE == "text":
            with open(os.environ["VOCABULARY"], encoding="utf-8") as file:
                self.ids = {word: _FIRST_WORD + i for i, word in enumerate(file.read().splitlines())}

    def run(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """float32 [b, ...] -> the graph's outputs by name."""
        return dict(zip(self.outputs, self.session.run(None, {self.input: array}), strict=True))

    def answer(self, body: bytes) -> bytes:
        """The answer to a request's body, by DECODE."""
        if DECODE == "mask":
            return self.mask(body)
        if DECODE == "seed":
            given = orjson.loads(body)
            noise = np.random.default_rng(given["seed"]).standard_normal((given["n"], self.shape[1]), np.float32)
            return self.run(noise)["images"].tobytes()
        if DECODE == "jpeg":
            return orjson.dumps(self.predictions(self.pictures([body])))
        if DECODE == "raw":
            return orjson.dumps(self.predictions(np.frombuffer(body, np.float32).reshape(-1, *self.shape[1:])))
        return orjson.dumps(self.predict(orjson.loads(body)))

    def predict(self, request: dict) -> dict:
        """{"instances": [...]} -> {"predictions": [{output: value}, ...]}, plain lists and numbers."""
        rows = request["instances"]
        if DECODE == "image":
            return self.predictions(self.pictures([base64.b64decode(row["b64"]) for row in rows]))
        if DECODE == "text":
            return self.predictions(self.tokens(rows))
        return self.predictions(np.array(rows, np.float32))

    def predictions(self, array: np.ndarray) -> dict:
        lists = {name: output.tolist() for name, output in self.run(array).items()}
        return {"predictions": [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]}

    def pictures(self, encoded: list) -> np.ndarray:
        """Encoded images -> float32 [b, h, w, 3] in [0, 1] at the graph's size, decoded and resized by Pillow."""
        from PIL import Image

        _, height, width, _ = self.shape
        found = []
        for data in encoded:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            found.append(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32))
        return np.stack(found) / np.float32(255)

    def tokens(self, texts: list) -> np.ndarray:
        """Texts -> int32 [b, length]: word ids, padded at the front."""
        found = np.zeros((len(texts), self.shape[1]), np.int32)
        for row, text in zip(found, texts, strict=True):
            words = text.lower().translate(_WORDS).split()
            ids = [1, *(self.ids.get(word, 2) for word in words)][-len(row) :]
            row[len(row) - len(ids) :] = ids
        return found

    def mask(self, body: bytes) -> bytes:
        """A grey PNG -> a grey PNG of class ids."""
        from PIL import Image

        picture = np.asarray(Image.open(io.BytesIO(body)).convert("L"), np.float32) / np.float32(255)
        outputs = self.run(picture[np.newaxis, ..., np.newaxis])
        file = io.BytesIO()
        Image.fromarray(outputs["class_map"][0].astype(np.uint8)).save(file, "PNG")
        return file.getvalue()
