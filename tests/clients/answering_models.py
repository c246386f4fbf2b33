"""Small models with known answers, for the tests' model server."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

LABELS = ("boot", "coat", "shirt")
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Function:
    """A signature: declared inputs and outputs (dtype name, shape), and what it does."""

    inputs: dict[str, tuple[str, list[int] | None]]
    outputs: dict[str, tuple[str, list[int] | None]]
    run: Callable[..., Arrays]


def decode(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in images])[..., None] / 255


def classify(pixels: np.ndarray[Any, Any]) -> Arrays:
    """The class is the brightness in thirds."""
    class_id = np.minimum(pixels.mean((1, 2, 3)) * 3, 2).astype(np.int64)
    probabilities = np.full((len(pixels), 3), 0.1, np.float32)
    probabilities[np.arange(len(pixels)), class_id] = 0.8
    labels = np.array([LABELS[i].encode() for i in class_id], object)
    return {"probabilities": probabilities, "class_id": class_id, "label": labels}


def classify_examples(examples: np.ndarray[Any, Any]) -> Arrays:
    pixels = [pb.Example.FromString(data).features.feature["image"].float_list.value for data in examples]
    classes = np.array([[label.encode() for label in LABELS]] * len(pixels), object)
    return {"classes": classes, "scores": classify(np.array(pixels).reshape(-1, 4, 4, 1))["probabilities"]}


def mood(text: np.ndarray[Any, Any]) -> Arrays:
    probability = np.array([0.9 if b"good" in one else 0.2 for one in text], np.float32)
    labels = np.array([b"positive" if p > 0.5 else b"negative" for p in probability], object)
    return {"probability": probability, "label": labels}


def near(word: np.ndarray[Any, Any]) -> Arrays:
    """The same three words for each; "xyzzy" is not known."""
    return {
        "neighbours": np.array([[b"fine", b"great", b"caf\xc3\xa9"]] * len(word), object),
        "similarity": np.array([[0.75, 0.5, -0.25]] * len(word), np.float32),
        "known": np.array([each != b"xyzzy" for each in word]),
    }


def noise(n: np.ndarray[Any, Any], seed: np.ndarray[Any, Any]) -> Arrays:
    return {"images": np.random.default_rng(int(seed) % 2**64).integers(0, 256, (int(n), 4, 4, 3)).astype(np.uint8)}


def masks(pixels: np.ndarray[Any, Any]) -> Arrays:
    class_map = (pixels[..., 0] > 0.5).astype(np.int64)
    encoded = []
    for one in class_map:
        file = io.BytesIO()
        Image.fromarray(one.astype(np.uint8)).save(file, "PNG")
        encoded.append(file.getvalue())
    return {"class_map": class_map, "mask_png": np.array(encoded, object)}


def bowl(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(x - 1)² + y²."""
    return ((x - [1, 0]) ** 2).sum(-1).astype("f4")


def descend(x: np.ndarray[Any, Any]) -> Arrays:
    """Two steps to (1, 0); from beyond 100 nowhere."""
    end = np.where(np.abs(x).max(-1, keepdims=True) > 100, np.nan, [1.0, 0.0]).astype("f4")
    return {"minimum": end, "value": bowl(end), "path": np.stack([x, (x + end) / 2, end], axis=1).astype("f4")}


IMAGE = {"image": ("DT_FLOAT", [-1, 4, 4, 1])}
BYTES = {"image_bytes": ("DT_STRING", [-1])}
CLASSES = {
    "probabilities": ("DT_FLOAT", [-1, 3]),
    "class_id": ("DT_INT64", [-1]),
    "label": ("DT_STRING", [-1]),
}
ANY_IMAGE = {"image": ("DT_FLOAT", [-1, -1, -1, 1])}
MASKS = {"class_map": ("DT_INT64", [-1, -1, -1]), "mask_png": ("DT_STRING", [-1])}
FILTERED = dict.fromkeys(("blur", "edge", "sharpen", "sobel"), IMAGE["image"])
IMAGES = {"images": ("DT_UINT8", [-1, 4, 4, 3])}


def filtered(image: Any) -> dict[str, Any]:
    """Shades of an image, which differ."""
    return {"blur": image / 2, "edge": 1 - image, "sharpen": image, "sobel": image / 4}


MOOD = Function({"text": ("DT_STRING", [-1])}, {"probability": ("DT_FLOAT", [-1]), "label": ("DT_STRING", [-1])}, mood)


NEAR = Function(
    {"word": ("DT_STRING", [-1])},
    {"neighbours": ("DT_STRING", [-1, 3]), "similarity": ("DT_FLOAT", [-1, 3]), "known": ("DT_BOOL", [-1])},
    lambda word: near(word),
)


def echo(dtype: str) -> dict[str, Function]:
    spec = {"x": (dtype, None)}
    return {"serving_default": Function(spec, {"y": spec["x"]}, lambda x: {"y": x})}


MODELS: dict[str, dict[str, Function]] = {
    "lenet5": {
        "serving_default": Function(IMAGE, CLASSES, lambda image: classify(image)),
        "serving_bytes": Function(BYTES, CLASSES, lambda image_bytes: classify(decode(image_bytes))),
        "classify": Function(
            {"inputs": ("DT_STRING", [-1])},
            {"classes": ("DT_STRING", [-1, 3]), "scores": ("DT_FLOAT", [-1, 3])},
            lambda inputs: classify_examples(inputs),
        ),
    },
    "nameless": {
        "serving_default": Function(
            IMAGE,
            {"probabilities": CLASSES["probabilities"]},
            lambda image: {"probabilities": classify(image)["probabilities"]},
        )
    },
    "sentiment_lstm": {"text": MOOD, "neighbours": NEAR},
    "second_opinion": {"text": MOOD},
    "vae": {
        "serving_default": Function(
            IMAGE, {"reconstruction": IMAGE["image"]}, lambda image: {"reconstruction": image / 2}
        ),
        "reconstruct_bytes": Function(
            BYTES,
            {"reconstruction": IMAGE["image"]},
            lambda image_bytes: {"reconstruction": (decode(image_bytes) / 2).astype("f4")},
        ),
        "encode": Function(
            IMAGE,
            {"code": ("DT_FLOAT", [-1, 2]), "log_var": ("DT_FLOAT", [-1, 2])},
            lambda image: {"code": image[:, 0, :2, 0], "log_var": image[:, 1, :2, 0]},
        ),
        "decode": Function(
            {"code": ("DT_FLOAT", [-1, 2])},
            {"image": IMAGE["image"], "images": IMAGES["images"]},
            lambda code: {"image": np.zeros((len(code), 4, 4, 1), "f4"), "images": np.ones((len(code), 4, 4, 3), "u1")},
        ),
        "generate": Function({"n": ("DT_INT32", []), "seed": ("DT_INT64", [])}, IMAGES, noise),
    },
    "filters": {
        "serving_default": Function(IMAGE, FILTERED, lambda image: filtered(image)),
        "serving_bytes": Function(BYTES, FILTERED, lambda image_bytes: filtered(decode(image_bytes))),
    },
    "unet": {
        "serving_default": Function(ANY_IMAGE, MASKS, lambda image: masks(image)),
        "serving_bytes": Function(BYTES, MASKS, lambda image_bytes: masks(decode(image_bytes))),
    },
    "linear_regression": {
        "serving_default": Function(
            {"x": ("DT_FLOAT", [-1, 1])}, {"y": ("DT_FLOAT", [-1, 1])}, lambda x: {"y": 2 * x + 1}
        )
    },
    "bowl": {
        "serving_default": Function(
            {"x": ("DT_FLOAT", [-1, 2])},
            {"minimum": ("DT_FLOAT", [-1, 2]), "value": ("DT_FLOAT", [-1]), "path": ("DT_FLOAT", [-1, 3, 2])},
            lambda x: descend(x),
        ),
        "value": Function({"x": ("DT_FLOAT", [-1, 2])}, {"value": ("DT_FLOAT", [-1])}, lambda x: {"value": bowl(x)}),
    },
    "a/b:c ü": echo("DT_FLOAT"),
    "slow": echo("DT_FLOAT"),
} | {f"echo_{dtype.name}": echo(dtype.name) for dtype in tensors.DTYPES.values()}


def info(dtype: str, shape: list[int] | None) -> Any:
    proto = pb.TensorInfo(dtype=pb.DataType.Value(dtype))
    proto.tensor_shape.unknown_rank = shape is None
    for size in shape or []:
        proto.tensor_shape.dim.add(size=size)
    return proto


def signature_map(name: str) -> Any:
    answer = pb.SignatureDefMap()
    answer.signature_def["__saved_model_init_op"].outputs["o"].name = "NoOp"
    for key, function in MODELS[name].items():
        definition = answer.signature_def[key]
        definition.method_name = "tensorflow/serving/predict"
        for declared, target in ((function.inputs, definition.inputs), (function.outputs, definition.outputs)):
            for alias, (dtype, shape) in declared.items():
                target[alias].CopyFrom(info(dtype, shape))
    return answer
