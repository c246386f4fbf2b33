"""Training: our loop against the obvious Keras script of the same network, in turn on the same cores.

python -m benchmarks.training [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine

NETWORKS = ("mlp", "lenet5", "googlenet", "resnet18", "sentiment_lstm", "vae", "unet")
RECURRENT = ("sentiment_gru", "sentiment_rnn")
STEPS = {"mlp": 400, "lenet5": 400, "vae": 400, "googlenet": 60, "resnet18": 30, "sentiment_lstm": 60, "unet": 10}
HEAD = """\
# Training speed

Written by `python -m benchmarks.training`; figures are of the machine and moment below. Each turn is a process of its
own, ours and Keras's in turn, several rounds; the ratio is the median of the rounds' ratios. The Keras script is what a
newcomer writes: the same model and optimizer, `fit` on float32 arrays of the same examples with the same batch size.
The second of two epochs is timed, without validation. Pipeline: the time in which our input pipeline alone gives an
epoch's batches, as a share of the epoch; it runs beside the steps, so below 100 % they do not wait for it. Memory is
the most that the process held, TensorFlow's own included.
"""
RECURRENT_HEAD = """\
## Recurrent layers in ONNX Runtime

One text of 80 words, one thread, in turn; tf2onnx alone leaves these layers as loops of small operations, the export
makes ONNX's own layers of them.
"""


@dataclass(frozen=True)
class Turn:
    """One round of a network: both contenders' answers."""

    ours: dict[str, Any]
    keras: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Our steps a second relative to Keras's."""
        return rate(self.ours) / rate(self.keras)


def rate(answer: dict[str, Any]) -> float:
    """Steps a second."""
    return float(answer["steps"] / answer["seconds"])


def child(turn: str, name: str, steps: int) -> dict[str, Any]:
    """What a turn in a process of its own took; CalledProcessError with its words when it fails."""
    command = [sys.executable, "-m", "benchmarks.fitting", turn, name, str(steps)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def row(name: str, turns: Sequence[Turn]) -> tuple[str, ...]:
    """A line of the table, medians over the rounds."""

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    return (
        f"`{name}`",
        str(turns[0].ours["data"]),
        f"{median([rate(turn.ours) for turn in turns]):.1f}",
        f"{median([rate(turn.keras) for turn in turns]):.1f}",
        f"{median([turn.ratio for turn in turns]):.2f} ×",
        f"{median([turn.ours['pipeline'] / turn.ours['seconds'] for turn in turns]):.0%}",
        f"{median([turn.ours['peak_mb'] for turn in turns]):,.0f}",
        f"{median([turn.keras['peak_mb'] for turn in turns]):,.0f}",
    )


def markdown(
    told: dict[str, Any],
    rounds: dict[str, list[Turn]],
    recurrent: dict[str, dict[str, float]],
    notes: Sequence[str] = (),
) -> str:
    """The page."""
    header = ("network", "data", "ours, steps/s", "Keras, steps/s", "ratio", "pipeline", "ours, MB", "Keras, MB")
    parts = [HEAD, machine.in_words(told) + "\n"]
    parts.append(_table(header, [row(name, turns) for name, turns in rounds.items()]))
    if recurrent:
        rows = [
            (f"`{n}`", f"{f['naive'] * 1e6:,.0f}", f"{f['ours'] * 1e6:,.0f}", f"{f['naive'] / f['ours']:.1f} ×")
            for n, f in recurrent.items()
        ]
        parts += [RECURRENT_HEAD, _table(("network", "tf2onnx alone, µs", "ours, µs", "ratio"), rows)]
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit code: 0 done, 1 the work failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description="Measure our training loop against the obvious Keras script; writes docs/training-speed.md.",
        epilog="example:\n  python -m benchmarks.training lenet5 mlp --rounds 5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {' '.join(NETWORKS)})")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="of an epoch (default: by network, seconds each)")
    parser.add_argument("--output", type=Path, default=Path("docs/training-speed.md"), help="default: %(default)s")
    given = parser.parse_args(argv)
    told = machine.describe()
    rounds: dict[str, list[Turn]] = {name: [] for name in given.names or NETWORKS}
    try:
        for _ in range(given.rounds):
            for name, turns in rounds.items():
                steps = given.steps or STEPS.get(name, 60)
                turns.append(Turn(child("ours", name, steps), child("keras", name, steps)))
                print(f"{name}: {turns[-1].ratio:.2f} ×", file=sys.stderr, flush=True)
        recurrent = {} if given.names else {name: child("gru", name, 1) for name in RECURRENT}
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip().splitlines()
        print(f"benchmarks.training: {' '.join(error.cmd[2:])}: {said[-1] if said else error}", file=sys.stderr)
        return 1
    text = markdown(told, rounds, recurrent)
    given.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
