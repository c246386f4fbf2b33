"""Class maps: as JSON with pictures, and compared with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ladle.clients.drawing import pictures
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.schema import array, integer, nullable, number, obj, string
from ladle.clients.web.verbs.base import PNG_BASE64, encode
from ladle.clients.wire.arrays import Array

MAX_ID = 255
_CLASS = {"class_id": integer(0), "label": string()}
_IOU = obj({"mean": number(0, 1), "classes": array(obj({**_CLASS, "iou": number(0, 1)}))})
RESULT = obj(
    {
        "width": integer(1),
        "height": integer(1),
        "classes": array(obj({**_CLASS, "share": number(0, 1), "color": string("#rrggbb")})),
        "mask": PNG_BASE64,
        "overlay": PNG_BASE64,
        "truth": nullable(PNG_BASE64),
        "iou": nullable(_IOU),
    }
)


def read(picture: Image.Image) -> Array:
    """Class ids, int64 [h, w]: the pixels of a grey or palette image; of one with 0 and 255 alone, 255 is class 1."""
    ids = np.asarray(picture)
    if ids.ndim == 3:
        colours = ids[..., : len(picture.getbands()) - (picture.mode in ("LA", "PA", "RGBA"))]
        if np.any(colours != colours[..., :1]):
            raise Problem(422, "The truth is a picture in colour; wanted grey, its pixels class ids.")
        ids = colours[..., 0]
    ids = ids.astype(np.int64)
    if not 0 <= ids.min() <= ids.max() <= MAX_ID:
        raise Problem(422, f"The truth has class ids from {ids.min()} to {ids.max()}; wanted 0 to {MAX_ID}.")
    return ids // MAX_ID if set(np.unique(ids)) == {0, MAX_ID} else ids


def fitted(truth: Array, shape: Sequence[int]) -> Array:
    """The truth in the size [h, w] of the class map: the image may have been reduced. Problem 422: another form."""
    if truth.shape == tuple(shape):
        return truth
    (height, width), (wanted_height, wanted_width) = truth.shape, shape
    if abs(height * wanted_width - width * wanted_height) > max(height, width, wanted_height, wanted_width):
        raise Problem(422, f"The truth has {width}×{height} pixels; the image {wanted_width}×{wanted_height}.")
    picture = Image.fromarray(truth.astype(np.int32))
    return np.asarray(picture.resize((wanted_width, wanted_height), Image.Resampling.NEAREST)).astype(np.int64)


def iou(class_map: Array, truth: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Intersection over union of each class that occurs; the mean leaves background, class 0, out."""
    rows = []
    for class_id in np.union1d(class_map, truth).tolist():
        found, wanted = class_map == class_id, truth == class_id
        share = float((found & wanted).sum() / (found | wanted).sum())
        rows.append({"class_id": class_id, "label": label(class_id, labels), "iou": share})
    counted = [row["iou"] for row in rows if row["class_id"] > 0] or [1.0]
    return {"mean": float(np.mean(counted)), "classes": rows}


def result(class_map: Array, labels: Sequence[str], truth: Array | None) -> dict[str, Any]:
    """The class map and what it says, as RESULT."""
    height, width = class_map.shape
    colours = pictures.palette(int(class_map.max(initial=0)) + 1)
    classes = [
        {
            "class_id": class_id,
            "label": label(class_id, labels),
            "share": share,
            "color": "#" + colours[class_id].tobytes().hex(),
        }
        for class_id, share in pictures.shares(class_map).items()
    ]
    return {
        "width": width,
        "height": height,
        "classes": classes,
        "mask": encode(pictures.mask(class_map)),
        "overlay": encode(pictures.colour_mask(class_map)),
        "truth": None if truth is None else encode(pictures.colour_mask(truth)),
        "iou": None if truth is None else iou(class_map, truth, labels),
    }


def label(class_id: int, labels: Sequence[str]) -> str:
    return labels[class_id] if class_id < len(labels) else f"class {class_id}"
