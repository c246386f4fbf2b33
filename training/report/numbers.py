"""Pictures of predicted numbers, and of descents to the minima of a function."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ladle.training.data.pipeline import Prepared
from ladle.training.evaluate.evaluate import EXTENT, Evaluation
from ladle.training.report.style import ACCENT, MUTED, SECOND

VIEW = (-30, 60)
"""Elevation and azimuth of the surface in degrees: from below, where the minima show."""


def scatter(prepared: Prepared, result: Evaluation, source: str) -> Figure | None:
    """Predicted against true numbers; None if the true ones are all equal."""
    truth, predicted = prepared.test.targets(), result.answers["predicted"]
    explained = result.metrics["r_squared"]
    if np.isnan(explained):
        return None
    figure = Figure((4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8)
    axes.scatter(truth, predicted, s=12, color=ACCENT, alpha=0.6, linewidths=0)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title(f"{source}: R² {explained:.3f}")
    return figure


def descents(prepared: Prepared, result: Evaluation, source: str) -> Figure | None:
    """Paths from start points to minima over the function's contours, beside its surface; None if nothing descends."""
    if "paths" not in result.answers:
        return None
    paths, surface = result.answers["paths"], result.answers["surface"]
    figure = Figure((9.2, 4.2), layout="constrained")
    axes = figure.add_subplot(1, 2, 1)
    ticks = np.linspace(-EXTENT, EXTENT, len(surface))
    # The logarithm spreads the contours: near the minima the function is below 1, at the edges in the hundreds.
    axes.contour(ticks, ticks, np.log1p(surface), levels=14, cmap="Greys", linewidths=0.7)
    for path in paths:
        axes.plot(*path.T, color=ACCENT, linewidth=1.4)
        axes.plot(*path[0], "o", color=ACCENT, markersize=5, markerfacecolor="white")
        axes.plot(*path[-1], "o", color=SECOND, markersize=5)
        x, y = path[-1]
        axes.annotate(f"({x:.2f}, {y:.2f})", path[-1], textcoords="offset points", xytext=(6, 6), fontsize=8)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_title("From the starts (white) to the minima (red)", loc="left")
    landscape = figure.add_subplot(1, 2, 2, projection="3d")
    x, y = np.meshgrid(ticks, ticks)
    landscape.plot_surface(x, y, surface, cmap="viridis", linewidth=0)
    landscape.view_init(elev=VIEW[0], azim=VIEW[1])
    landscape.set_xlabel("x")
    landscape.set_ylabel("y")
    landscape.set_title("The function from below: the tips are its minima", loc="left")
    return figure


def density(prepared: Prepared, result: Evaluation, source: str) -> Figure | None:
    """The critic's contours with real points over them, beside those with generated ones; None without a critic."""
    if "score" not in result.answers:
        return None
    made, score, ticks = (result.answers[name] for name in ("points", "score", "ticks"))
    figure = Figure((9.2, 4.6), layout="constrained")
    m = result.metrics
    told = f"recall {m['recall']:.2f}, precision {m['precision']:.2f}"
    for n, (title, points, colour) in enumerate(
        ((source, prepared.test.inputs(slice(0, len(made))), SECOND), (f"generated: {told}", made, ACCENT)), 1
    ):
        axes = figure.add_subplot(1, 2, n)
        axes.contourf(ticks, ticks, score, levels=16, cmap="Greys", alpha=0.45)
        axes.contour(ticks, ticks, score, levels=16, colors=MUTED, linewidths=0.5)
        axes.scatter(points[:, 0], points[:, 1], s=3, color=colour, alpha=0.5, linewidths=0)
        axes.set_xlim(ticks[0], ticks[-1])
        axes.set_ylim(ticks[0], ticks[-1])
        axes.set_aspect("equal")
        axes.set_title(title, loc="left")
    figure.suptitle("The critic's score, darker where it takes points for real", fontsize=10)
    return figure
