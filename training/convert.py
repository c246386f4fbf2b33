"""Command line of `ladle convert`: add verified ONNX graphs to any SavedModel."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ladle
from ladle.training.arguments import Parser
from ladle.training.quiet import importing_tensorflow

if TYPE_CHECKING:
    from ladle.training.export.conversion import Conversion

_CHILD = "--child"  # the first argument of the child process
_MOST_CRASHES = 24


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code: 0 if serving_default has a graph, 1 if not.

    The conversion runs in a child process: TensorFlow ends the process on some made-up inputs. Such inputs are left out
    of another try.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    build_parser().parse_args(given)
    crashed: list[dict[str, str]] = []
    while True:
        status, last = _in_child(given, crashed)
        if status >= 0:
            return status
        name = signal.Signals(-status).name
        if last is None or last in crashed or len(crashed) == _MOST_CRASHES or name in ("SIGKILL", "SIGTERM", "SIGINT"):
            doing = f"it ran {last['signature']} on {last['engine']}" if last else "it read and converted the model"
            cause = "; it may have needed more memory than there is" if name == "SIGKILL" else ""
            print(f"ladle convert: the process ended with {name} while {doing}{cause}", file=sys.stderr)
            return 1
        print(f"{last['engine']} crashed ({name}) on {last['inputs']}; trying others ...", file=sys.stderr)
        crashed.append(last)


def _in_child(argv: Sequence[str], crashed: Sequence[dict[str, str]]) -> tuple[int, dict[str, str] | None]:
    """Convert in a child process; its exit status (minus a signal), and the run that it was in when it ended."""
    readable, writable = os.pipe()
    command = [sys.executable, "-m", "ladle.training.convert", _CHILD, str(writable), json.dumps(list(crashed)), *argv]
    with os.fdopen(readable) as told:
        try:
            child = subprocess.Popen(command, pass_fds=[writable], env=_environment())
        finally:
            os.close(writable)
        try:
            last = None
            for line in told:
                last = json.loads(line)
            return child.wait(), last
        except KeyboardInterrupt:
            child.wait()
            raise


def _environment() -> dict[str, str]:
    """Of the child process, which must find the same code."""
    root = Path(ladle.__file__).resolve().parents[1]
    if root.name == "site-packages":
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}


def run(argv: Sequence[str], attempts: Any = None) -> int:
    """Convert in this process; the exit code as of `main`.

    attempts  an Attempts that watches the runs
    """
    arguments = build_parser().parse_args(argv)
    with importing_tensorflow():
        from ladle.training.export.attempts import Attempts
        from ladle.training.export.conversion import ConvertError, convert

    try:
        result = convert(arguments.directory, attempts or Attempts(), _progress)
    except ConvertError as error:
        print(f"ladle convert: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({**dataclasses.asdict(result), "folder": str(result.folder), "done": result.done}, indent=1))
    else:
        _print(result)
    return 0 if result.done else 1


def _child(argv: Sequence[str]) -> int:
    """What the child process of `main` does."""
    descriptor, crashed, *rest = argv
    from ladle.training.export.attempts import Attempt, Attempts

    return run(rest, Attempts([Attempt(**entry) for entry in json.loads(crashed)], int(descriptor)))


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle convert`."""
    parser = Parser(
        prog="ladle convert",
        description="Add verified ONNX graphs and a model card to a SavedModel. Signatures with state or with checks "
        "of values stay on TensorFlow. Progress goes to stderr.",
        epilog="examples:\n  ladle convert /models/my_model\n  ladle convert /models/my_model/3 --json",
    )
    parser.add_argument("directory", type=Path, help="folder of a version, or of a model for its newest version")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(result: Conversion) -> None:
    print(result.folder)
    width = max(map(len, [*result.graphs, *result.reasons]), default=0)
    for name, file in result.graphs.items():
        parity = result.parity[name]
        print(f"  {name:{width}}  {file}: {parity['inputs']} inputs, largest difference {parity['max_abs']:.1e}")
    for name, reason in result.reasons.items():
        print(f"  {name:{width}}  not converted: {reason}")


if __name__ == "__main__":
    sys.exit(_child(sys.argv[2:]) if sys.argv[1:2] == [_CHILD] else main())
