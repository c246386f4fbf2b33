"""BentoML: a service that takes a NumPy array, without access log and metrics."""

from __future__ import annotations

import bentoml
import numpy as np
from graph import DECODE, WORKERS, Graph

Instances = list if DECODE else np.ndarray  # rows of numbers, or of images and texts


@bentoml.service(
    workers=WORKERS,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    traffic={"timeout": 30, "max_concurrency": 1024},
)
class Predict:
    def __init__(self) -> None:
        self.graph = Graph()

    @bentoml.api(route="/predict")
    async def predict(self, instances: Instances) -> dict:
        return self.graph.predict({"instances": instances})
