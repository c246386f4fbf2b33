"""The results of the client's methods, by task."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ladle.clients.wire.arrays import Array


@dataclass(frozen=True, eq=False)
class Classification:
    """The class of one image.

    label          of the most probable class
    probability    of that class
    class_id       its index
    labels         of all classes; their indices as text if the server does not tell labels
    probabilities  float32 [num_classes]
    """

    label: str
    probability: float
    class_id: int
    labels: tuple[str, ...]
    probabilities: Array

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` most probable labels with their probabilities, the most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.labels[i], float(self.probabilities[i])) for i in order]

    def _repr_html_(self) -> str:
        return _bars(self.top())


@dataclass(frozen=True)
class Sentiment:
    """The sentiment of a text.

    label        the more probable one, e.g. "positive"
    probability  of that label
    positive     the probability that the text is positive
    """

    label: str
    probability: float
    positive: float

    def _repr_html_(self) -> str:
        return _bars([(self.label, self.probability)])


@dataclass(frozen=True, eq=False)
class Descent:
    """A gradient descent from a start to a minimum of a function of d numbers; several starts add a batch axis.

    minimum  float32 [d]
    value    float32 [], the function's value there; nan if the descent diverged
    path     float32 [steps + 1, d], the start first
    """

    minimum: Array
    value: Array
    path: Array


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel: `class_map`, int64 [h, w]; 0 is background."""

    class_map: Array

    @property
    def shares(self) -> dict[int, float]:
        """The share of the image, in [0, 1], that each class in it covers."""
        classes, counts = np.unique(self.class_map, return_counts=True)
        return {int(c): float(n / self.class_map.size) for c, n in zip(classes, counts, strict=True)}

    def _repr_png_(self) -> bytes:
        from ladle.clients.drawing import pictures  # late, because Pillow takes long to import

        return pictures.png(pictures.colour_mask(self.class_map))


def _bars(rows: Sequence[tuple[str, float]]) -> str:
    """Labels with their probabilities as bars, for notebooks."""
    cells = "".join(
        f"<tr><td>{html.escape(label)}</td><td><meter value='{share:.4f}'></meter></td><td>{share:.1%}</td></tr>"
        for label, share in rows
    )
    return f"<table>{cells}</table>"
