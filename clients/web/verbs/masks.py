"""Class maps: their JSON with pictures, and their comparison with the truth."""

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
VOID = 255
"""Class id of pixels of a truth that do not count, as Ladle writes the masks of samples."""
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


def read(picture: Image.Image, of_sample: bool = False) -> Array:
    """Class ids int64 [h, w]: the pixels of a grey or palette image. Pixels of 255 are VOID: they do not count.

    If all pixels of a caller's mask are 0 or 255, 255 means class 1, as drawing programs save masks.

    Problem 422: a colour image, or ids above MAX_ID.
    """
    ids = np.asarray(picture)
    if ids.ndim == 3:
        colours = ids[..., : len(picture.getbands()) - (picture.mode in ("LA", "PA", "RGBA"))]
        if np.any(colours != colours[..., :1]):
            raise Problem(422, "truth: got a colour image; expected a grey one whose pixels are class ids.")
        ids = colours[..., 0]
    ids = ids.astype(np.int64)
    if not 0 <= ids.min() <= ids.max() <= MAX_ID:
        raise Problem(422, f"truth: got class ids from {ids.min()} to {ids.max()}; expected 0 to {MAX_ID}.")
    return ids // MAX_ID if not of_sample and set(np.unique(ids)) == {0, MAX_ID} else ids


def fitted(truth: Array, shape: Sequence[int]) -> Array:
    """The truth, resized to the class map [h, w] of an image that was shrunk. Problem 422: other proportions."""
    if truth.shape == tuple(shape):
        return truth
    (height, width), (map_height, map_width) = truth.shape, shape
    # Proportions may differ by the rounding of one pixel.
    if abs(height * map_width - width * map_height) > max(height, width, map_height, map_width):
        raise Problem(422, f"truth: got {width}×{height} pixels; expected {map_width}×{map_height}, as the image has.")
    picture = Image.fromarray(truth.astype(np.int32))
    return np.asarray(picture.resize((map_width, map_height), Image.Resampling.NEAREST)).astype(np.int64)


def iou(class_map: Array, truth: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Intersection over union of each class that occurs. The mean leaves out the background, class 0.

    Pixels whose truth is VOID do not count, whatever the map says of them.
    """
    rows = []
    counts = truth != VOID
    class_map, truth = class_map[counts], truth[counts]
    for class_id in np.union1d(class_map, truth).tolist():
        found, true = class_map == class_id, truth == class_id
        share = float((found & true).sum() / (found | true).sum())
        rows.append({"class_id": class_id, "label": label(class_id, labels), "iou": share})
    counted = [row["iou"] for row in rows if row["class_id"] > 0] or [1.0]
    return {"mean": float(np.mean(counted)), "classes": rows}


def bare(truth: Array) -> Array:
    """A truth to draw: VOID pixels have no colour, as the background has none."""
    return np.where(truth == VOID, 0, truth)


def result(class_map: Array, labels: Sequence[str], truth: Array | None) -> dict[str, Any]:
    """The JSON of a class map, as RESULT."""
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
        "truth": None if truth is None else encode(pictures.colour_mask(bare(truth))),
        "iou": None if truth is None else iou(class_map, truth, labels),
    }


def label(class_id: int, labels: Sequence[str]) -> str:
    return labels[class_id] if class_id < len(labels) else f"class {class_id}"
