"""Colours and fonts of a report's pictures, for matplotlib."""

from __future__ import annotations

INK, MUTED, ACCENT, SECOND = "#22303c", "#6b7a88", "#2f6fb3", "#d9593d"
STYLE = {
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}
