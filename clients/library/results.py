"""What a client answers, by task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ladle.clients.wire.arrays import Array


@dataclass(frozen=True, eq=False)
class Classification:
    """The class of one image: the likeliest, and the probability of every one.

    `labels` are numbers as text where the server does not tell its labels.
    """

    label: str
    probability: float
    class_id: int
    labels: tuple[str, ...]
    probabilities: Array  # float32 [num_classes]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` likeliest labels with their probabilities, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.labels[i], float(self.probabilities[i])) for i in order]


@dataclass(frozen=True)
class Sentiment:
    """The mood of a text: the label, its probability, and the probability of positive."""

    label: str
    probability: float
    positive: float


@dataclass(frozen=True, eq=False)
class Descent:
    """The way from a start down to a minimum of a function of d numbers; several starts have a batch axis in front."""

    minimum: Array  # float32 [d]
    value: Array  # float32 []: of the function there; nan where the descent ran away
    path: Array  # float32 [steps + 1, d]: the start first


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel; 0 is background."""

    class_map: Array  # int64 [h, w]

    @property
    def shares(self) -> dict[int, float]:
        """The part of the image that each class covers."""
        classes, counts = np.unique(self.class_map, return_counts=True)
        return {int(c): float(n / self.class_map.size) for c, n in zip(classes, counts, strict=True)}
