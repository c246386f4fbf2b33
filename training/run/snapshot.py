"""What a network makes of a few validation examples, as one image an epoch: by task, through its signatures."""

from __future__ import annotations

import numpy as np

from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import Prepared
from ladle.training.evaluate.evaluate import draw
from ladle.training.evaluate.functions import Served
from ladle.training.report import pictures

IMAGES, MAPS = 64, 4
RIGHT, WRONG, FRAME = (60, 175, 90), (230, 85, 60), 2


def snapshot(served: Served, prepared: Prepared) -> dict[str, Array]:
    """Pictures by name, uint8 [h, w, 3]; none for tasks that have nothing to see.

    predictions      classify: images framed green where right, red where wrong
    reconstructions  reconstruct: image above, reconstruction below
    masks            segment: image, true mask, predicted mask
    samples          networks that generate: always from the same noise
    """
    shown = {}
    part = prepared.validation
    if prepared.task == "classify":
        image = part.inputs(slice(0, IMAGES))
        right = served("serving_default", image=image)["class_id"] == part.targets(slice(0, IMAGES))
        shown["predictions"] = pictures.grid(_framed(pictures.rgb(image), right))
    if prepared.task == "reconstruct":
        image = part.inputs(slice(0, IMAGES))
        made = next(iter(served("serving_default", image=image).values()))
        shown["reconstructions"] = pictures.interleaved([image, made], across=16)
    if prepared.task == "segment":
        image, truth = part.inputs(slice(0, MAPS)), part.targets(slice(0, MAPS))
        made = served("serving_default", image=image)["class_map"]
        shown["masks"] = pictures.columns(image, pictures.overlay(image, truth), pictures.overlay(image, made))
    if "generate" in served:
        shown["samples"] = pictures.grid(draw(served, IMAGES))
    return shown


def _framed(tiles: Array, right: Array) -> Array:
    """A coloured border around each image: uint8 [n, h + 4, w + 4, 3]."""
    around = ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0))
    framed = np.pad(tiles, around)
    inside = np.pad(np.ones((1, *tiles.shape[1:3], 1), bool), around)
    colour = np.where(right[:, None, None, None], np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    return np.where(inside, framed, colour)
