"""The headline of a network: the one metric that stands for it in lists and pages. And metrics as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADLINES = (
    "accuracy",
    "mean_iou",
    "iou",
    "r_squared",
    "elbo",
    "squared_error",
    "frechet_distance",
    "diversity",
    "sliced_wasserstein",
)
"""Metrics that can be a headline, the best first."""


def figures(metrics: Mapping[str, Any]) -> str:
    """{"mean_iou": 0.91234} -> 'mean iou 0.9123'."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


def shown(metrics: Mapping[str, Any], folds: Mapping[str, Any] | None = None) -> str:
    """The headline in words; with a summary of folds their mean ± deviation: 'r squared 0.758 ± 0.041, 5 folds'."""
    for name in headline(metrics):
        if folds and name in folds:
            found = folds[name]
            mean, deviation = f"{found['mean']:.3g}", f"{found['deviation']:.2g}"
            return f"{name.replace('_', ' ')} {mean} ± {deviation}, {folds['count']} folds"
    return figures(headline(metrics))


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The headline of one split's metrics, by name; empty if it has none of HEADLINES."""
    return next(({name: float(metrics[name])} for name in HEADLINES if name in metrics), {})


def card_entry(splits: Mapping[str, Mapping[str, Any]], folds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The model card's entry `headline`: {"name", "value", "split"}, of the first split that has one; else empty.

    folds  summary of a cross-validation. Then the value is the mean over the folds, the split is "folds", and
           "deviation" is that of the folds: one small test split can be lucky

    The card carries it, so that every reader (lists, pages, the demo) shows the same metric.
    """
    for split, metrics in splits.items():
        for name, value in headline(metrics).items():
            if folds and name in folds:
                own = {"value": folds[name]["mean"], "deviation": folds[name]["deviation"]}
                return {"headline": {"name": name, **own, "split": "folds"}}
            return {"headline": {"name": name, "value": value, "split": split}}
    return {}
