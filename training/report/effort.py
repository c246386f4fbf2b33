"""What the preset `full` of a classifier would take on this machine: multiplications, at the rate of a measured run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ladle.training.report.recorded import Record, own

IMAGES = {"cifar10": 45_000, "cifar100": 45_000, "fashion_mnist": 55_000}
"""Images that are trained on, of the sets' original files."""


def multiplications(model: keras.Model) -> int:
    """Multiplications of convolutions and dense layers for one example; all else is cheap beside them."""
    total = 0
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            continue
        # A kernel is applied at each pixel of the output: [b, h, w, c], or [b, c] without pixels.
        pixels = int(np.prod(layer.output.shape[1:-1]))
        total += pixels * int(np.prod(layer.kernel.shape))
    return total


def hours(entries: Iterable[Record], names: Iterable[str]) -> dict[str, float]:
    """Hours of `full` by network, for the classifiers of images among `names`; empty without a run to measure by.

    The run is the longest one of a classifier on a set of IMAGES that had the machine to itself.
    """
    from ladle import models
    from ladle.training.loop import config

    alone = [e for e in entries if e["data"] in IMAGES and not own(e) and " used" not in e["machine"]]
    alone = [e for e in alone if models.described(e["network"]).task == "classify" and e.get("config")]
    if not alone:
        return {}
    longest = max(alone, key=lambda entry: entry["seconds"])

    def cost(name: str, settings: Mapping[str, Any], images: int, epochs: int) -> float:
        network = models.get(name)
        known = config.compose(network, None, config.recorded(network, settings))
        keras.backend.clear_session()
        return float(multiplications(network.build(known))) * images * epochs

    train = longest["splits"]["train"]
    second = longest["seconds"] / cost(longest["network"], longest["config"], train, longest["epochs"])
    found = {}
    for name in names:
        network = models.get(name)
        if network.task != "classify" or "full" not in network.presets or network.stages(network.config):
            continue
        full = config.as_dict(config.compose(network, "full"))
        if full["data"] in IMAGES and full["epochs"] > 1:
            found[name] = cost(name, full, IMAGES[full["data"]], full["epochs"]) * second / 3600
    return found
