"""Training speed: our loop against the obvious Keras script for the same network, alternately on the same cores.

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

`python -m benchmarks.training` writes this page. The figures hold for the machine and the time below. In each round our
loop and a Keras script train the network one after the other, each in its own process. The ratio is the median of the
rounds' ratios. The Keras script is what a newcomer writes: the same model and optimizer, and `fit` on float32 arrays of
the same examples with the same batch size. The second of two epochs is timed, without validation. Pipeline is the time
that our input pipeline alone needs for an epoch's batches, as a share of the epoch. It runs in parallel with the steps,
so below 100 % the steps do not wait for it. MB is the peak memory of the process, including TensorFlow's own.
"""
RECURRENT_HEAD = """\
## Recurrent layers in ONNX Runtime

Each run takes one text of 80 words on one thread; the two graphs alternate. tf2onnx alone converts these layers to
loops of small operations; our export uses ONNX's own recurrent operators.
"""


@dataclass(frozen=True)
class Round:
    """The figures of our loop and of the Keras script for one network in one round."""

    ours: dict[str, Any]
    keras: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Our steps per second over Keras's."""
        return rate(self.ours) / rate(self.keras)


def rate(answer: dict[str, Any]) -> float:
    """Steps per second."""
    return float(answer["steps"] / answer["seconds"])


def measure(kind: str, name: str, steps: int) -> dict[str, Any]:
    """Run `benchmarks.training.fitting` in its own process. Raises CalledProcessError, with its stderr, if it fails."""
    command = [sys.executable, "-m", "benchmarks.training.fitting", kind, name, str(steps)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def row(name: str, rounds: Sequence[Round]) -> tuple[str, ...]:
    """A row of the table: medians over the rounds."""

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    return (
        f"`{name}`",
        str(rounds[0].ours["data"]),
        f"{median([rate(each.ours) for each in rounds]):.1f}",
        f"{median([rate(each.keras) for each in rounds]):.1f}",
        f"{median([each.ratio for each in rounds]):.2f} ×",
        f"{median([each.ours['pipeline'] / each.ours['seconds'] for each in rounds]):.0%}",
        f"{median([each.ours['peak_mb'] for each in rounds]):,.0f}",
        f"{median([each.keras['peak_mb'] for each in rounds]):,.0f}",
    )


def markdown(
    machine_info: dict[str, Any],
    rounds: dict[str, list[Round]],
    recurrent: dict[str, dict[str, float]],
    notes: Sequence[str] = (),
) -> str:
    """The page. `machine_info` is what `machine.describe` returns; `recurrent` holds seconds by network and graph."""
    header = ("network", "data", "ours, steps/s", "Keras, steps/s", "ratio", "pipeline", "ours, MB", "Keras, MB")
    parts = [HEAD, machine.in_words(machine_info) + "\n"]
    parts.append(_table(header, [row(name, of_network) for name, of_network in rounds.items()]))
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
    """Measure and write the page. Exit code: 0 done, 1 failed, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description="Measure our training loop against the obvious Keras script; write docs/training-speed.md.",
        epilog="example:\n  python -m benchmarks.training lenet5 mlp --rounds 5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {' '.join(NETWORKS)})")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each network (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="steps of an epoch (default: chosen by network, a few seconds each)")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/training-speed.md"), help="the page (default: %(default)s)"
    )
    given = parser.parse_args(argv)
    machine_info = machine.describe()
    rounds: dict[str, list[Round]] = {name: [] for name in given.names or NETWORKS}
    try:
        for _ in range(given.rounds):
            for name, of_network in rounds.items():
                steps = given.steps or STEPS.get(name, 60)
                of_network.append(Round(measure("ours", name, steps), measure("keras", name, steps)))
                print(f"{name}: {of_network[-1].ratio:.2f} ×", file=sys.stderr, flush=True)
        recurrent = {} if given.names else {name: measure("gru", name, 1) for name in RECURRENT}
    except subprocess.CalledProcessError as error:
        logged = str(error.stderr).strip().splitlines()
        print(f"benchmarks.training: {' '.join(error.cmd[2:])}: {logged[-1] if logged else error}", file=sys.stderr)
        return 1
    text = markdown(machine_info, rounds, recurrent)
    given.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
