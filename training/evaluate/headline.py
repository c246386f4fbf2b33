"""The headline of a network: the one metric that stands for it in lists and pages. And metrics as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADLINES = ("accuracy", "iou", "r_squared", "elbo", "frechet_distance", "squared_error", "diversity")
"""Metrics that can be a headline, the best first."""


def figures(metrics: Mapping[str, Any]) -> str:
    """{"mean_iou": 0.91234} -> 'mean iou 0.9123'."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The headline of one split's metrics, by name; empty if it has none of HEADLINES."""
    return next(({name: float(metrics[name])} for name in HEADLINES if name in metrics), {})


def card_entry(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The model card's entry `headline`: {"name", "value", "split"}, of the first split that has one; else empty.

    The card carries it, so that every reader (lists, pages, the demo) shows the same metric.
    """
    for split, metrics in splits.items():
        for name, value in headline(metrics).items():
            return {"headline": {"name": name, "value": value, "split": split}}
    return {}
