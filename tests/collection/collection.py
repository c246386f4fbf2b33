"""The whole collection: small SavedModels of the kinds that people bring."""

from __future__ import annotations

import dataclasses

from tests.collection.formats import FORMATS
from tests.collection.images import IMAGES
from tests.collection.sequences import SEQUENCES
from tests.collection.tables import TABLES

NOT_YET = {
    "augmentation at inference": "changes the variable",
    "combined nms": "differs",
    "resize with pad": "refuses some values",
    "flips": "refuses some values",
    "sobel and ssim": "refuses some values",
    "ssim": "refuses some values",
    "max pool with argmax": "ONNX has no",
    "linear algebra": "expected float32",
    "scattered values": "differs",
    "stateless noise": "ONNX has no",
    "two floats": "differs",
    "bincount": "answers inputs that TensorFlow refuses",
    "confusion": "refuses some values",
    "inverse": "ONNX has no",
    "mixed bfloat16": "bfloat16",
    "bfloat16 in and out": "bfloat16",
    "float64 network": "Could not find an implementation",
    "float64 lstm": "does not support double",
    "float64 convolution": "Could not find an implementation",
    "tf1 loop": "ONNX has no",
    "tf1 two tags": "cannot be loaded",
    "unknown rank reduced": "tf2onnx cannot convert it",
    "tf1 partitioned table": "answers inputs that TensorFlow refuses",
}
"""Models that stay on TensorFlow, and words of the reason."""

CASES = [
    dataclasses.replace(case, refused=NOT_YET.get(case.name, case.refused))
    for case in (*IMAGES, *SEQUENCES, *TABLES, *FORMATS)
]
