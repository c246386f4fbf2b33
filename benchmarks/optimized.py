"""What `ladle optimize` finds for the models of a repository: speed and headline of each candidate, as a page.

python -m benchmarks.optimized                        every model of model_repository; writes docs/optimized-models.md
python -m benchmarks.optimized lenet5 unet --output -   some of them, to stdout

Nothing is written to the repository: each model is measured by `ladle optimize NAME --check --json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.requests.models import ROOT
from ladle.training.store import publish

_HEAD = """\
# Optimised models

`python -m benchmarks.optimized` writes this page. Each model of a repository is measured by
[`ladle optimize NAME --check`](optimize.md) on the machine and at the time below. Times are those of one run on one
thread, for the number of rows that gains least; the ratio is the median over pairs in one process. The headline is that
of the test split, with the graph in place. Kept means: at least 1.1 times as fast, and at most half a point worse. A
test split of few examples says little: that of `efficientnet_lite0` has four photographs.
"""


def measure(name: str, repository: Path) -> dict[str, Any] | str:
    """What `ladle optimize` says of a model, or why it says nothing."""
    command = [sys.executable, "-m", "ladle", "optimize", name, f"--repository={repository}", "--check", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"ended with {done.returncode}"


def rows(name: str, found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row of the table for each candidate of each graph."""
    head = found["headline"] or {}
    lines: list[tuple[str, ...]] = []
    for file, candidates in found["graphs"].items():
        for tried in candidates:
            speed = tried["speed"]
            if speed is None:
                lines.append((f"`{name}`", file, tried["method"], "—", "—", "—", tried["reason"]))
                continue
            times = f"{speed['before_ms']:.3g} → {speed['after_ms']:.3g} ({speed['rows']})"
            value = tried["value"]
            words = head.get("name", "").replace("_", " ")
            changed = "—" if value is None else f"{words} {head['before']:.4f} → {value:.4f}"
            verdict = "kept" if found["kept"].get(file) == tried["method"] else tried["reason"]
            lines.append((f"`{name}`", file, tried["method"], times, f"{speed['ratio']:.2f}×", changed, verdict))
    return lines


def markdown(machine_info: Mapping[str, Any], found: Mapping[str, dict[str, Any] | str]) -> str:
    """The page."""
    heads = ("model", "graph", "method", "ms before → after (rows)", "ratio", "headline before → after", "result")
    lines = [line for name, answer in found.items() if not isinstance(answer, str) for line in rows(name, answer)]
    table = [f"| {' | '.join(line)} |\n" for line in (heads, ("---",) * len(heads), *lines)]
    left = [f"Not measured: `{name}`: {answer}\n" for name, answer in found.items() if isinstance(answer, str)]
    return "\n".join([_HEAD, machine.in_words(machine_info) + "\n", "".join(table), *left])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the page. Exit code: 0 done, 1 nothing measured, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.optimized", description="Measure what ladle optimize finds for each model."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="models (default: all in the repository)")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument(
        "--output", default="docs/optimized-models.md", help="the page, or - for stdout alone (default: %(default)s)"
    )
    given = parser.parse_args(argv)
    folders = sorted(given.repository.iterdir()) if given.repository.is_dir() else []
    names = given.names or [path.name for path in folders if publish.versions(path)]
    machine_info = machine.describe()
    found: dict[str, dict[str, Any] | str] = {}
    for name in names:
        found[name] = answer = measure(name, given.repository)
        kept = answer if isinstance(answer, str) else answer["kept"] or "nothing kept"
        print(f"{name}: {kept}", file=sys.stderr, flush=True)
    if not any(isinstance(answer, dict) for answer in found.values()):
        print(f"benchmarks.optimized: {given.repository} has no model that could be measured", file=sys.stderr)
        return 1
    text = markdown(machine_info, found)
    print(text)
    if given.output != "-":
        Path(given.output).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
