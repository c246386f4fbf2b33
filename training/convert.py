"""Command line of `ladle convert`: add verified ONNX graphs to any SavedModel, or make one of a Keras file."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
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
KERAS = (".keras", ".h5")
"""Endings of Keras files with a whole model."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code: 0 if all that was asked for is converted, 1 if not, 2 misused.

    Without --signature and --check it is enough that serving_default has a graph. Each model is converted in a child
    process of its own: TensorFlow ends the process on some made-up inputs. Such inputs are left out of another try.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    arguments = parser.parse_args(given)
    _check(parser, arguments)
    paths = arguments.directory
    if len(paths) == 1:
        return _convert(given, paths[0], arguments.json)[0]
    failed, answers = [], []
    for number, path in enumerate(paths, 1):
        _progress(f"{number}/{len(paths)}: {path}")
        status, answer = _convert([*_options(arguments), "--", path], path, arguments.json)
        failed += [path] if status else []
        answers.append(json.loads(answer) if answer else {"folder": path, "done": False})
    if arguments.json:
        print(json.dumps(answers, indent=1))
    rest = f"; not: {', '.join(failed)}" if failed else ""
    _progress(f"{len(paths) - len(failed)} of {len(paths)} {'would convert' if arguments.check else 'converted'}{rest}")
    return 1 if failed else 0


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Exit with 2 for options that do not go together."""
    if arguments.tolerance is not None and not arguments.reason:
        parser.error("--tolerance needs --reason TEXT: the card says why the graph may differ so much")
    if arguments.reason and arguments.tolerance is None:
        parser.error("--reason belongs to --tolerance X")
    if arguments.name and len(arguments.directory) > 1:
        parser.error(f"--name: got {len(arguments.directory)} models; expected one")
    if arguments.name and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", arguments.name):
        parser.error(f"--name: got {arguments.name!r}; expected letters, digits, '.', '_' and '-'")
    if arguments.name and not arguments.directory[0].endswith(KERAS):
        parser.error("--name is for a Keras file: a SavedModel keeps its folder")


def _options(arguments: argparse.Namespace) -> list[str]:
    """The options of a command line as words, for one of its models."""
    words = [*(["--check"] if arguments.check else []), *(["--json"] if arguments.json else [])]
    words += [f"--signature={name}" for name in arguments.signature]
    if arguments.tolerance is not None:
        words += [f"--tolerance={arguments.tolerance!r}", f"--reason={arguments.reason}"]
    return [*words, f"--repository={arguments.repository}"]


def _convert(argv: Sequence[str], path: str, as_json: bool) -> tuple[int, str]:
    """Convert one model in child processes; the exit code, and with several models what it printed as JSON."""
    if not Path(path).exists():  # before TensorFlow is imported
        wanted = (
            "file; give a Keras file" if path.endswith(KERAS) else "folder; give a SavedModel or a folder of versions"
        )
        print(f"ladle convert: {path} is not a {wanted}", file=sys.stderr)
        return 1, ""
    crashed: list[dict[str, str]] = []
    keep = as_json and argv[-2:-1] == ["--"]
    while True:
        status, last, answer = _in_child(argv, crashed, keep)
        if status >= 0:
            return status, answer
        name = signal.Signals(-status).name
        if last is None or last in crashed or len(crashed) == _MOST_CRASHES or name in ("SIGKILL", "SIGTERM", "SIGINT"):
            doing = f"it ran {last['signature']} on {last['engine']}" if last else "it read and converted the model"
            cause = "; it may have needed more memory than there is" if name == "SIGKILL" else ""
            print(f"ladle convert: {path}: the process ended with {name} while {doing}{cause}", file=sys.stderr)
            return 1, ""
        print(f"{last['engine']} crashed ({name}) on {last['inputs']}; trying others ...", file=sys.stderr)
        crashed.append(last)


def _in_child(
    argv: Sequence[str], crashed: Sequence[dict[str, str]], keep: bool
) -> tuple[int, dict[str, str] | None, str]:
    """Convert in a child process; its exit status (minus a signal), the run that it was in when it ended, its output.

    keep  keep its stdout and return it
    """
    readable, writable = os.pipe()
    command = [sys.executable, "-m", "ladle.training.convert", _CHILD, str(writable), json.dumps(list(crashed)), *argv]
    with os.fdopen(readable) as told:
        try:
            child = subprocess.Popen(
                command, pass_fds=[writable], env=_environment(), stdout=subprocess.PIPE if keep else None, text=True
            )
        finally:
            os.close(writable)
        try:
            last = None
            for line in told:
                last = json.loads(line)
            answer, _ = child.communicate()
            return child.returncode, last, answer or ""
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
        from ladle.training.export.conversion import convert
        from ladle.training.export.keras_file import convert_file
        from ladle.training.export.version import ConvertError

    watched, path = attempts or Attempts(), Path(arguments.directory[0])
    asked: dict[str, Any] = {"only": arguments.signature, "tolerance": arguments.tolerance}
    asked |= {"reason": arguments.reason, "write": not arguments.check}
    started = time.monotonic()
    try:
        if path.name.endswith(KERAS):
            result = convert_file(path, arguments.repository, arguments.name, watched, _progress, **asked)
        else:
            result = convert(path, watched, _progress, **asked)
    except ConvertError as error:
        print(f"ladle convert: {error}", file=sys.stderr)
        return 1
    done = result.complete if arguments.check or arguments.signature else result.done
    if arguments.json:
        print(json.dumps({**dataclasses.asdict(result), "folder": str(result.folder), "done": done}, indent=1))
    else:
        _print(result, arguments.check, time.monotonic() - started)
    return 0 if done else 1


def _child(argv: Sequence[str]) -> int:
    """What the child process of `main` does."""
    descriptor, crashed, *rest = argv
    from ladle.training.export.attempts import Attempt, Attempts

    return run(rest, Attempts([Attempt(**entry) for entry in json.loads(crashed)], int(descriptor)))


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle convert`."""
    parser = Parser(
        prog="ladle convert",
        description="Add verified ONNX graphs and a model card to SavedModels, or make a model of a "
        "Keras file. Signatures with state or with checks of values stay on TensorFlow. Progress goes to stderr.",
        epilog="""examples:
  ladle convert /models/my_model
  ladle convert --check /models/my_model          # what would happen
  ladle convert /models/a /models/b/3 --json
  ladle convert shapes.keras --repository models  # models/shapes/1
  ladle convert /models/my_model --signature score
  ladle convert /models/photo --tolerance 1e-3 --reason "bicubic resize"

It exits with 0 if serving_default has a graph; with --signature if each
of those has one; with --check if every signature would get one.""",
    )
    parser.add_argument(
        "directory",
        nargs="+",
        metavar="MODEL",
        help="folder of a version, or of a model for its newest version; or a .keras or .h5 file",
    )
    parser.add_argument(
        "--check", action="store_true", help="convert and compare, but write nothing; exit 0 if all signatures convert"
    )
    parser.add_argument(
        "--signature", action="append", default=[], metavar="NAME", help="convert this signature alone; repeatable"
    )
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        metavar="X",
        help="allowed difference of float outputs, relative to the largest magnitude of each (default: 1e-6, or "
        "1e-4 of its spread)",
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why that difference is harmless, for the card")
    keras = parser.add_argument_group("Keras files")
    keras.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="model repository to write to (default: %(default)s)",
    )
    keras.add_argument("--name", metavar="MODEL", help="name of the model (default: that of the file)")
    parser.add_argument("--json", action="store_true", help="print JSON: of several models, a list")
    return parser


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a number above 0 and below 1")
    return value


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(result: Conversion, is_check: bool, seconds: float) -> None:
    _progress(f"{result.folder}: {seconds:.1f} s")
    print(f"{result.folder}{'  nothing written' if is_check else ''}")
    width = max(map(len, [*result.graphs, *result.reasons]), default=0)
    for name, file in result.graphs.items():
        parity = result.parity[name]
        took = f", {result.seconds[name]:.1f} s" if name in result.seconds else ""
        print(f"  {name:{width}}  {file}: {parity['inputs']} inputs, largest difference {parity['max_abs']:.1e}{took}")
    for name, reason in result.reasons.items():
        print(f"  {name:{width}}  {'would not convert' if is_check else 'not converted'}: {reason}")
        found = result.obstacles.get(name, {})
        made = " in ".join(filter(None, (found.get("operation"), found.get("layer"))))
        print(f"  {'':{width}}  {made + ': ' if made else ''}{found.get('cure', '')}")


if __name__ == "__main__":
    try:
        sys.exit(_child(sys.argv[2:]) if sys.argv[1:2] == [_CHILD] else main())
    except KeyboardInterrupt:  # Ctrl-C reaches the child, too; the parent says what is to be said
        sys.exit(130)
