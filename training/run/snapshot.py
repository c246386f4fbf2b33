"""Pictures of a network's answers to a few validation examples, drawn after each epoch through its signatures."""

from __future__ import annotations

import numpy as np

from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import Prepared
from ladle.training.evaluate.evaluate import draw
from ladle.training.evaluate.functions import Functions
from ladle.training.report import pictures

IMAGES, MAPS, ANSWERS = 64, 4, 25
SIDE = 256
"""Pixels of a side of the picture of one image, at most, if the image is smaller."""
RIGHT, WRONG, FRAME = (60, 175, 90), (230, 85, 60), 2


def snapshot(functions: Functions, prepared: Prepared) -> dict[str, Array]:
    """Pictures by name, uint8 [h, w, 3]; none for tasks without images.

    first            classify: one image, large, with a green frame if the answer is right, a red one if it is wrong
    predictions      classify: five rows of five such images
    reconstructions  reconstruct: rows of images above rows of their reconstructions
    masks            segment: image, true mask, predicted mask
    filters          filter: image, and what each filter makes of it
    samples          networks that generate; always from the same noise, so that epochs can be compared
    """
    shown = {}
    part = prepared.validation
    if prepared.task == "classify" and prepared.dataset.kind == "images":
        image = part.inputs(slice(0, ANSWERS))
        right = functions("serving_default", image=image)["class_id"] == part.targets(slice(0, ANSWERS))
        framed = _framed(pictures.rgb(image), right)
        larger = max(1, SIDE // max(framed.shape[1:3]))
        shown["first"] = framed[0].repeat(larger, axis=0).repeat(larger, axis=1)
        shown["predictions"] = pictures.grid(framed)
    if prepared.task == "reconstruct":
        image = part.inputs(slice(0, IMAGES))
        reconstruction = next(iter(functions("serving_default", image=image).values()))
        shown["reconstructions"] = pictures.interleaved([image, reconstruction], across=16)
    if prepared.task == "segment":
        image, truth = part.inputs(slice(0, MAPS)), part.targets(slice(0, MAPS))
        predicted = functions("serving_default", image=image)["class_map"]
        shown["masks"] = pictures.columns(image, pictures.overlay(image, truth), pictures.overlay(image, predicted))
    if prepared.task == "filter":
        image = part.inputs(slice(0, MAPS))
        shown["filtered"] = pictures.columns(image, *functions("serving_default", image=image).values())
    if "generate" in functions:
        shown["samples"] = pictures.grid(draw(functions, IMAGES))
    return shown


def _framed(tiles: Array, right: Array) -> Array:
    """A coloured frame around each image: uint8 [n, h + 4, w + 4, 3]."""
    around = ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0))
    framed = np.pad(tiles, around)
    inside = np.pad(np.ones((1, *tiles.shape[1:3], 1), bool), around)
    colour = np.where(right[:, None, None, None], np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    return np.where(inside, framed, colour)
