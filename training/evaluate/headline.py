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
COMPARED = ("accuracy", "mean_iou", "r_squared", "squared_error")
"""What baselines are measured in, one for each task that has any."""


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


def compared(metrics: Mapping[str, Any]) -> str:
    """The metric in which the baselines beside `metrics` are; "" without one."""
    return next((name for name in COMPARED if name in metrics), "")


def trivial(
    metrics: Mapping[str, Any], baselines: Mapping[str, float] | None = None, folds: Mapping[str, Any] | None = None
) -> str:
    """What the headline stands beside: the best baseline, or the ends of a distance; "" if neither was measured.

    {"accuracy": 0.9, ...}, {"majority class": 0.1} -> 'majority class 0.1'. Baselines in another metric than the
    headline have it before them: 'squared error: PCA with 10 components 0.02441'. Baselines are of one split: beside a
    headline over folds stands what the network has on that split.
    """
    name, shown_name = compared(metrics), next(iter(headline(metrics)), "")
    if baselines and name:
        best = (min if name == "squared_error" else max)(baselines, key=lambda each: baselines[each])
        before = "" if name == shown_name else f"{name.replace('_', ' ')}: "
        split = f" on a split where the network has {metrics[name]:.4g}" if folds and name in folds else ""
        return f"{before}{best} {baselines[best]:.4g}{split}"
    if shown_name == "frechet_distance" and "frechet_ceiling" in metrics:
        return f"noise {metrics['frechet_ceiling']:.4g}, training images {metrics['frechet_floor']:.4g}"
    if shown_name == "sliced_wasserstein" and "sliced_wasserstein_floor" in metrics:
        return f"training points {metrics['sliced_wasserstein_floor']:.4g}"
    return ""


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
