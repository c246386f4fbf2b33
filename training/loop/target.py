"""The target of a run: a metric and the value at which training stops, as `--until accuracy=0.97` gives it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ladle.training.errors import TrainingError, UsageError

NO_METRICS = ("epoch", "seconds", "learning_rate")
"""Entries of an epoch's figures that measure no quality."""


def rises(metric: str) -> bool:
    """Whether a larger value of the metric is better: that of an accuracy or an IoU. Errors and losses fall."""
    return "accuracy" in metric or "iou" in metric


@dataclass(frozen=True)
class Target:
    """A metric, and the value that is good enough."""

    metric: str
    value: float

    def __str__(self) -> str:
        return f"{self.metric}={self.value:g}"

    def measured(self, figures: Mapping[str, float]) -> tuple[str, float]:
        """The metric's name and value in an epoch's figures: on the validation split if it was measured there.

        TrainingError: the figures have no such metric.
        """
        known = [name for name in figures if name not in NO_METRICS]
        for name in (f"val_{self.metric}", self.metric):
            if name in known:
                return name, figures[name]
        raise TrainingError(f"got --until {self}; expected one of {', '.join(known)}")

    def reached(self, figures: Mapping[str, float]) -> bool:
        """Whether the metric is at least the value if it rises, at most if it falls; raises as `measured` does."""
        _, value = self.measured(figures)
        return value >= self.value if rises(self.metric) else value <= self.value


def parse(text: str) -> Target | None:
    """'accuracy=0.97' -> the target; None for an empty text. UsageError: the text has another form."""
    if not text:
        return None
    metric, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not metric.strip() or not math.isfinite(value):
        raise UsageError(f"got until {text!r}; expected a metric and a number, such as accuracy=0.97 or loss=0.1")
    return Target(metric.strip(), value)
