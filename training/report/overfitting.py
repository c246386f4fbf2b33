"""Over-fitting in one figure: a network on few images, plain and held in several ways.

The same network learns the same few images plain, with each of its presets that regularise, and with early stopping.
The figure has the accuracy of each by epoch, on the images it learnt and on others, and its loss on the others, which
rises before the accuracy falls: a network that is wrong grows sure of it. The table has where each ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ladle import models
from ladle.models import Network
from ladle.training import data
from ladle.training.data.pipeline import Prepared, prepare
from ladle.training.errors import TrainingError
from ladle.training.evaluate import functions
from ladle.training.evaluate.evaluate import evaluate
from ladle.training.loop import config as options
from ladle.training.loop import fit
from ladle.training.loop.checkpoint import Figures
from ladle.training.report.style import INK, STYLE

IMAGES, EPOCHS, PATIENCE = 2_000, 60, 5
HELD = {"dropout", "kernel_l1", "kernel_l2", "penalty_l1", "penalty_l2"}
"""Options that hold a network back from over-fitting."""
PLAIN, STOPPED = "plain", "early stopping"
COLOURS = ("#2f6fb2", "#c2563a", "#3a8f5c", "#8a5bb0", "#b08a2a", "#5a7d8c")


@dataclass(frozen=True)
class Run:
    """One way to train: its name and its own options, what each epoch measured, and the metrics of the test split."""

    name: str
    changed: Mapping[str, Any]
    history: Sequence[Figures]
    test: Mapping[str, float]


def ways(network: Network) -> dict[str, dict[str, Any]]:
    """Options by the name of the way: plain, the presets that regularise and do nothing else, and early stopping.

    TrainingError: the network has no such preset.
    """
    held = {
        name: {option: value for option, value in changed.items() if option in HELD}
        for name, changed in network.presets.items()
        if set(changed) <= HELD | {"epochs"} and set(changed) & HELD
    }
    if not held:
        raise TrainingError(f"{network.name}: has no preset that regularises; expected a network with one, such as l2")
    return {PLAIN: {}, **held, STOPPED: {"patience": PATIENCE, "monitor": "val_loss"}}


def compare(network: Network, prepared: Prepared, say: Any = lambda text: None) -> list[Run]:
    """Train the network in each of its ways on prepared data; every run starts from the same weights."""
    runs = []
    for name, changed in ways(network).items():
        # Without a monitored metric the last epoch's weights stay: what over-fitting has done is measured too.
        own = dataclasses.replace(prepared.config, **{"monitor": "", **changed})
        ready = dataclasses.replace(prepared, config=own)
        keras.backend.clear_session()
        keras.utils.set_random_seed(own.seed)
        model = network.build(own)
        with tempfile.TemporaryDirectory() as folder:
            state = fit.fit(model, ready, Path(folder) / "checkpoint.npz")
            measured = evaluate(functions.live(network, model, own, ready.assets), ready, Path(folder))
        runs.append(Run(name, changed, state.history, _numbers(measured.metrics)))
        say(_row(runs[-1]))
    return runs


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def table(runs: Sequence[Run]) -> str:
    """The runs as a Markdown table: options, epochs, accuracies at the end, the gap of the first two, and the loss."""
    header = "| way | options | epochs | training | validation | gap | test | validation loss |\n" + "|---" * 8 + "|\n"
    return header + "".join(_row(run) + "\n" for run in runs)


def _row(run: Run) -> str:
    kept = run.history[_kept(run)]
    learnt, new = kept["accuracy"], kept["val_accuracy"]
    told = ", ".join(f"{name} {value}" for name, value in run.changed.items()) or "none"
    figures = f"{learnt:.4f} | {new:.4f} | {learnt - new:.4f} | {run.test['accuracy']:.4f} | {kept['val_loss']:.3f}"
    return f"| {run.name} | {told} | {len(run.history)} | {figures} |"


def _kept(run: Run) -> int:
    """The row of the epoch whose weights were kept: the best monitored one, else the last."""
    losses = [row["val_loss"] for row in run.history]
    return losses.index(min(losses)) if run.changed.get("monitor") else len(losses) - 1


def draw(runs: Sequence[Run], title: str) -> Figure:
    """Left, accuracy by epoch: a solid curve on validation images and a dashed one on training images for each run.
    Right, the loss on validation images, with the penalty of those that have one."""
    figure = Figure((11.0, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run, colour in zip(runs, COLOURS * 3, strict=False):
        epochs, kept = [int(row["epoch"]) for row in run.history], _kept(run)
        left.plot(epochs, [row["accuracy"] for row in run.history], "--", color=colour, linewidth=0.8, alpha=0.7)
        for axes, metric in ((left, "val_accuracy"), (right, "val_loss")):
            axes.plot(epochs, [row[metric] for row in run.history], color=colour, linewidth=1.8, label=run.name)
            axes.plot(epochs[kept], run.history[kept][metric], "o", color=colour)
    keys = left.get_legend_handles_labels()
    dashed = Line2D([], [], color=INK, linestyle="--", linewidth=0.8)
    left.legend([*keys[0], dashed], [*keys[1], "on the training images"], loc="lower right")
    for axes, name in ((left, "accuracy"), (right, "loss")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} on validation images")
        axes.grid(axis="y", alpha=0.25)
    left.set_title(title, loc="left")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(
        prog="python -m ladle.training.report.overfitting",
        description="Train a network on few images, plain and held in several ways: curves in one figure, and a table.",
        epilog="example:\n  python -m ladle.training.report.overfitting mlp --output overfitting.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("network", metavar="NETWORK", help="a network with presets that regularise, such as mlp")
    parser.add_argument("--images", type=int, default=IMAGES, help="training images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of each run (default: %(default)s)")
    parser.add_argument("--synthetic", action="store_true", help="use generated data")
    parser.add_argument("--output", type=Path, default=Path("overfitting.png"), help="default: %(default)s")
    given = parser.parse_args(argv)
    try:
        network = models.get(given.network)
        ways(network)
        own = options.compose(network, options={"train_limit": given.images, "epochs": given.epochs})
        found = data.load(own.data, synthetic=given.synthetic, seed=own.seed, progress=data.Terminal())
        prepared = prepare(network, own, found)
        runs = compare(network, prepared, lambda text: print(text, file=sys.stderr, flush=True))
        marked = ", SYNTHETIC" if found.provenance.synthetic else ""
        with mpl.rc_context(STYLE):
            figure = draw(runs, f"{network.name} on {prepared.train_size:,} images of {found.name}{marked}")
            FigureCanvasAgg(figure)
            figure.savefig(given.output)
    except (KeyError, OSError, ValueError, TrainingError) as error:
        print(f"ladle.training.report.overfitting: {error}", file=sys.stderr)
        return 1
    print(table(runs))
    print(f"wrote {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
