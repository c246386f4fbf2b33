"""The one figure that stands for a network, and figures as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADLINES = ("accuracy", "iou", "r_squared", "elbo", "frechet_distance", "squared_error", "diversity")
"""The figure that stands for a network: the first of these that it has."""


def figures(metrics: Mapping[str, Any]) -> str:
    """{"mean_iou": 0.91234} -> 'mean iou 0.9123'."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The one figure that says most, by name; empty where there is none."""
    return next(({name: float(metrics[name])} for name in HEADLINES if name in metrics), {})
