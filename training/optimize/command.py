"""Command line of `ladle optimize`: write a faster version of a model, if there is one that is as good."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladle.training.arguments import MISUSED, Parser
from ladle.training.quiet import importing_tensorflow

if TYPE_CHECKING:
    from ladle.training.optimize.optimize import Result
    from ladle.training.optimize.scores import Judge, Run

DONE, FAILED = 0, 1
METHODS = ("static", "dynamic", "fused")
"""As `candidates.METHODS`, which takes long to import; a test compares the two."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code: 0 if a version was written (with --check: would be), 1 if not, 2 misused."""
    arguments = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    from ladle.training.data import DataError
    from ladle.training.errors import TrainingError, UsageError

    try:
        return _run(arguments)
    except UsageError as error:
        return _fail(error, MISUSED)
    except (TrainingError, DataError) as error:
        return _fail(error, FAILED)
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", FAILED)


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle optimize`."""
    parser = Parser(
        prog="ladle optimize",
        description="Write the next version of a model with faster graphs, if they are faster on this machine and as "
        "good. Each graph is tried in int8 (static: convolutions, dense layers; dynamic: dense layers, LSTM) and fused "
        "in float32; each is timed against the present graph in pairs on one thread, and the faster ones are measured "
        "on the test split. The SavedModel stays as it is. Progress goes to stderr.",
        epilog="""examples:
  ladle optimize resnet18
  ladle optimize resnet18 --check             # measure, write nothing
  ladle optimize unet --tolerance 1           # may lose one point of the mean IoU
  ladle optimize unet --method static         # try static int8 alone
  ladle optimize shapes --inputs real.npz     # a converted model: numpy.savez("real.npz", x=...)

It exits with 0 if a version was written (with --check: would be), with 1
if the present graphs are the best.""",
    )
    parser.add_argument("name", metavar="NAME", help="name of the model in the repository")
    parser.add_argument("--version", type=_version, metavar="N", help="version to optimise (default: the newest)")
    parser.add_argument("--check", action="store_true", help="measure, but write nothing")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.5,
        metavar="POINTS",
        help="most points of the headline that may be lost: 0.01 of an accuracy, an IoU or an R², 1 %% of other "
        "metrics (default: %(default)s)",
    )
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        choices=METHODS,
        help="try this kind of graph alone; repeatable (default: all three)",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE",
        help="real inputs by name, .npz, 40 rows or more: for models without a test split. One half calibrates; on the "
        "other the answers must agree with those of the present graphs",
    )
    parser.add_argument("--data-path", type=Path, metavar="PATH", help="your own files, that the model was trained on")
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="model repository (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from ladle.training.errors import TrainingError
    from ladle.training.store import publish

    found = publish.versions(arguments.repository / arguments.name)
    if arguments.version is None:
        version = publish.newest(arguments.repository, arguments.name)
    elif arguments.version in found:
        version = found[arguments.version]
    else:
        have = ", ".join(map(str, found)) or "none"
        raise TrainingError(f"{arguments.name}: got version {arguments.version}; expected one of {have}")
    with importing_tensorflow():
        from ladle.training.evaluate import functions
        from ladle.training.loop import devices
        from ladle.training.optimize import candidates, optimize

        devices.start()
    content = functions.read_card(version)
    if "quantized" in content:
        origin = content["quantized"].get("from_version")
        raise TrainingError(
            f"{arguments.name} version {version.name} was optimised already, from version {origin}; give --version N "
            "to begin with another"
        )
    runs = optimize.sessions(version, content)
    if not runs:
        raise TrainingError(f"{arguments.name} version {version.name} has no ONNX graph; add one with ladle convert")
    judge = _judge(arguments, version, content, runs)
    result = optimize.optimize(
        version,
        content,
        judge,
        runs,
        tolerance=arguments.tolerance,
        methods=[candidates.METHODS[name] for name in arguments.method or METHODS],
        write=not arguments.check,
        tell=lambda line: print(f"{arguments.name}: {line}", file=sys.stderr, flush=True),
    )
    if arguments.json:
        print(json.dumps({"model": arguments.name, **result.as_dict()}, indent=1))
    else:
        print(sentence(arguments.name, result, arguments.check))
    return DONE if result.kept else FAILED


def _judge(arguments: argparse.Namespace, version: Path, content: dict[str, Any], runs: dict[str, Run]) -> Judge:
    """What measures the graphs. UsageError: neither a test split nor inputs."""
    from ladle import models
    from ladle.training.errors import UsageError
    from ladle.training.optimize.scores import OnInputs, OnSplit
    from ladle.training.run import request

    if arguments.inputs is not None:
        return OnInputs(arguments.inputs, content, runs)
    if content["network"] not in models.names() or not content["config"]:
        raise UsageError(
            f"{arguments.name} was not trained here, so it has no test split to be measured on; give real inputs with "
            "--inputs FILE.npz"
        )
    prepared = request.of_version(version, arguments.data_path, synthetic=False)
    judge = OnSplit(version, content, request.of_recorded(content["network"], content["config"]), prepared)
    judge.calibrate(runs)
    return judge


def sentence(name: str, result: Result, is_check: bool) -> str:
    """What was found, in a sentence; and a line for each graph that was kept."""
    number = result.before.name
    if not result.kept:
        tried = [each for graph in result.graphs.values() for each in graph]
        best = max(tried, key=lambda each: each.speed.ratio if each.speed else 0.0, default=None)
        why = f"; the fastest, {best.method}: {best.reason}" if best is not None else ""
        return f"{name}: version {number} stays: no graph is faster and as good{why}"
    assert result.headline is not None
    kept = []
    for file, method in result.kept.items():
        speed = next(each.speed for each in result.graphs[file] if each.method == method)
        assert speed is not None
        kept.append(f"{file} {method} {speed.ratio:.2f}×")
    head = result.headline
    done = "nothing written; it would be" if is_check else f"version {result.version.name}:" if result.version else ""
    changed = f"{head['name'].replace('_', ' ')} {head['before']:.4f} → {head['after']:.4f} ({head['split']})"
    return f"{name}: {done} {', '.join(kept)}; {changed}"


def _version(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected an integer of 1 or more")
    return int(text)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a number of points, 0 or more")
    return value


def _fail(error: object, code: int) -> int:
    print(f"ladle optimize: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
