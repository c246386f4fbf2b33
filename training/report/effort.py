"""What the preset `full` of a classifier would take: multiplications, at the rate of a measured run.

The network's own run of `full`, even of fewer epochs, is the best measure; with the same options it is its seconds an
image. Without one the rate is that of another network, and the hours are a lower bound: many small layers take longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ladle.training.report.recorded import Record, nearest, own, trained_on

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


def hours(entries: Sequence[Record], names: Iterable[str]) -> dict[str, str]:
    """Hours of `full` in words by network, for the classifiers of images among `names` that have a run to measure by.

    That is the network's own run of `full`, on the preset's data set if there is one; else the longest run of a
    classifier on a set of IMAGES that had the machine to itself, and then the hours are the least that it takes.
    """
    from ladle import models
    from ladle.training.loop import config

    alone = [e for e in entries if e["data"] in IMAGES and not own(e) and " used" not in e["machine"]]
    alone = [e for e in alone if models.described(e["network"]).task == "classify" and e.get("config")]
    longest = max(alone, key=lambda entry: entry["seconds"], default=None)

    def cost(name: str, settings: Mapping[str, Any], images: int, epochs: int) -> float:
        network = models.get(name)
        known = config.compose(network, None, config.recorded(network, settings))
        keras.backend.clear_session()
        return float(multiplications(network.build(known))) * images * epochs

    def taken(run: Record, needed: float) -> float:
        """Hours that `needed` multiplications take at the rate of a run."""
        done = cost(run["network"], run["config"], trained_on(run) or 0, run["epochs"])
        return float(run["seconds"]) * needed / done / 3600

    found = {}
    for name in names:
        network = models.get(name)
        if network.task != "classify" or "full" not in network.presets or network.stages(network.config):
            continue
        full = config.as_dict(config.compose(network, "full"))
        if full["data"] not in IMAGES or full["epochs"] <= 1:
            continue
        mine = [e for e in entries if e["network"] == name and e["preset"] == "full" and e["seconds"]]
        mine = nearest([e for e in mine if e.get("config") and trained_on(e)], full["data"])
        needed = cost(name, full, IMAGES[full["data"]], full["epochs"])
        if mine:
            found[name] = f"about {taken(mine[0], needed):.0f} hours at the rate of its own run ({mine[0]['machine']})"
        elif longest:
            found[name] = f"at least {taken(longest, needed):.0f} hours on two cores"
    return found
