"""Command line: list, train, evaluate, export."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from training._quiet import without_stderr

DONE, FAILED, MISUSED = 0, 1, 2
EXAMPLES = """examples:
  ladle networks
  ladle train lenet5 --preset quick
  ladle train lenet5 vae --epochs 3 --learning-rate 2e-3
  ladle train wgan_gp --data image_folder --data-path faces/ --height 64 --width 64 --channels 3
  ladle train resnet18 --help          # the options of this network
  ladle evaluate lenet5
  python -m training export lenet5     # of its newest run's checkpoint"""
PROGRAMS = {"list": "ladle networks", "train": "ladle train", "evaluate": "ladle evaluate"}
"""What users type for a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 the work failed, 2 wrong usage."""
    given = list(sys.argv[1:] if argv is None else argv)
    # General help comes without TensorFlow; the options of a network are known only with it.
    arguments = _parser(_networks(given)).parse_args(given)
    _start()
    from training._errors import TrainingError, UsageError
    from training.data import DataError
    from training.export import ExportError

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(arguments.run(arguments))
    except UsageError as error:
        return _failed(error, MISUSED)
    except (TrainingError, DataError, ExportError) as error:
        return _failed(error, FAILED)
    except KeyboardInterrupt:
        return _failed("stopped", FAILED)
    finally:
        signal.signal(signal.SIGTERM, before)


def networks() -> list[dict[str, Any]]:
    """Each network that can be trained, for `ladle networks`: JSON types only."""
    import models
    from training import config

    found = []
    for name in models.names():
        network = models.get(name)
        entry = {"name": name, "task": network.task, "summary": network.summary, "parameters": network.parameters}
        entry |= {"data": network.config.data, "presets": list(network.presets), "source": network.source}
        found.append({**entry, "config": config.as_dict(network.config)})
    return found


def _list(arguments: argparse.Namespace) -> int:
    rows = networks()
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return DONE
    for row in rows:
        print(
            f"{row['name']:<16} {row['task']:<12} {row['parameters']:>11,} weights  {row['data']:<14} {row['summary']}"
        )
    return DONE


def _train(arguments: argparse.Namespace) -> int:
    import models
    from training import session
    from training._errors import InterruptedRunError, TrainingError, UsageError
    from training.data import DataError
    from training.export import ExportError

    names = models.names() if arguments.all else list(dict.fromkeys(arguments.names))
    if not names:
        raise UsageError("no network is named; give names or --all: `ladle networks` lists them")
    wanted = [session.get(name) for name in names]
    requests = {network.name: _request(network, arguments) for network in wanted}
    code = DONE
    for name, request in requests.items():
        try:
            version = session.train(name, request)
        except (InterruptedRunError, UsageError):
            raise
        except (TrainingError, DataError, ExportError) as error:  # the others are trained all the same
            code = _failed(error, FAILED)
            continue
        card = json.loads((version / "assets.extra" / "card.json").read_text(encoding="utf-8"))
        _print({"network": name, "version": str(version), "metrics": card["metrics"]["test"]}, arguments.json)
    return code


def _evaluate(arguments: argparse.Namespace) -> int:
    from training import evaluate, served, session

    session.get(arguments.name)
    version = served.newest(arguments.repository, arguments.name)
    prepared = session.of_version(version, arguments.data_path, arguments.synthetic)
    result = evaluate.evaluate(served.exported(version), prepared, arguments.repository, arguments.split)
    for note in result.notes:
        session.say(f"{arguments.name}: {note}")
    answer = {"network": arguments.name, "version": str(version), "data": prepared.dataset.provenance.name}
    answer |= {"synthetic": prepared.dataset.provenance.synthetic, "split": arguments.split}
    _print({**answer, "metrics": result.metrics}, arguments.json)
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    from training import runs, session

    folder = arguments.run_folder or runs.newest(arguments.runs, arguments.name)
    version = session.export_run(arguments.name, folder, arguments.repository, arguments.data_path)
    _print({"network": arguments.name, "version": str(version)}, arguments.json)
    return DONE


def _request(network: Any, arguments: argparse.Namespace) -> Any:
    """What the command line asks of one network; the data set's name and the path of own files are told apart."""
    from training import config, data, session

    known = config.types(network.config)
    given = {k: v for k, v in vars(arguments).items() if k in arguments.options}
    path, name = arguments.data_path, arguments.data
    if name is not None:
        if name in data.names():
            given["data"] = name
        elif path is None and Path(name).exists():
            path = Path(name)
        else:
            given["data"] = name  # the data room names the nearest ones
    # An option that only another of the named networks has is that network's alone.
    mine = {k: v for k, v in given.items() if k in known}
    file = config.read(arguments.config, network) if arguments.config else {}
    config.compose(network, arguments.preset, file, mine)
    return session.Request(
        preset=arguments.preset,
        overrides=mine,
        file=arguments.config,
        data_path=path,
        base_weights=arguments.base_weights,
        synthetic=arguments.synthetic,
        synthetic_if_missing=arguments.synthetic_if_missing,
        repository=arguments.repository,
        runs=arguments.runs,
        resume=arguments.resume,
        precision=arguments.precision,
        xla=arguments.xla,
        report=arguments.report,
    )


def _networks(given: Sequence[str]) -> list[Any]:
    """The networks whose options the command line may hold."""
    if not given or given[0] != "train":
        return []
    _start()
    import models

    named = [models.get(word) for word in given[1:] if word in models.names()]
    return named or [models.get(name) for name in models.names()]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, exit code 2."""
        self.exit(MISUSED, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser(chosen: Sequence[Any]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m training",
        description="Train networks and export them to a model repository.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    listed = _command(commands, "list", "list the networks that can be trained", _list)
    listed.add_argument("--json", action="store_true", help="answer in JSON, with every option and its default")

    train = _command(commands, "train", "train networks, one after another, and export each", _train)
    train.add_argument("names", nargs="*", metavar="NAME", help="networks")
    train.add_argument("--all", action="store_true", help="all networks")
    train.add_argument("--preset", help="quick: minutes on two cores; full: the published figure (default: neither)")
    train.add_argument("--config", type=Path, metavar="FILE", help="options from a card.json or a JSON object")
    train.add_argument("--data", metavar="NAME|PATH", help="data set, or your own files in its layout: `ladle data`")
    _shared(train)
    train.add_argument(
        "--base-weights",
        type=Path,
        metavar="FILE",
        help="weights of a pre-trained base, .h5 or .pth, in place of those that are fetched",
    )
    _synthetic(train)
    train.add_argument(
        "--synthetic-if-missing",
        action="store_true",
        help="generated data, named so, when the real set cannot be had",
    )
    train.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s")
    train.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with an interrupted run of the same description (default: on)",
    )
    train.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        default="float32",
        help="of the computation in training; weights and the exported model are float32 (default: %(default)s)",
    )
    train.add_argument("--xla", action=argparse.BooleanOptionalAction, default=False, help="compile steps with XLA")
    train.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="draw pictures of the run (default: on)"
    )
    options: set[str] = set()
    if chosen:
        from training import config

        title = f"options of {', '.join(network.name for network in chosen)}"
        config.add_options(train.add_argument_group(title), chosen, skip=("data",))
        options = {name for network in chosen for name in config.types(network.config)} - {"data"}
    train.set_defaults(options=options)

    evaluate = _command(commands, "evaluate", "measure the newest exported version of a network", _evaluate)
    evaluate.add_argument("name", metavar="NAME", help="network")
    evaluate.add_argument("--split", choices=("test", "validation"), default="test", help="default: %(default)s")
    _shared(evaluate)
    _synthetic(evaluate)

    export = _command(commands, "export", "export the checkpoint of a run", _export)
    export.add_argument("name", metavar="NAME", help="network")
    export.add_argument("--run", dest="run_folder", type=Path, metavar="DIR", help="run (default: the newest)")
    export.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s")
    _shared(export)
    return parser


def _command(commands: Any, name: str, what: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        prog=PROGRAMS.get(name),
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-path", type=Path, metavar="PATH", help="your own files, in the data set's layout")
    default = Path("model_repository")
    parser.add_argument("--repository", type=Path, default=default, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def _synthetic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--synthetic", action="store_true", help="generated data in place of real ones, named so")


def _print(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
        return
    from training.progress import shown

    figures = {k: v for k, v in answer.get("metrics", {}).items() if isinstance(v, int | float)}
    print(f"{answer['version']}  {shown(figures)}".rstrip(), flush=True)


def _failed(error: object, code: int) -> int:
    print(f"training: {error}", file=sys.stderr)
    return code


def _start() -> None:
    """Import TensorFlow without the lines that its libraries write of themselves; TF_CPP_MIN_LOG_LEVEL=0 keeps them."""
    if "tensorflow" in sys.modules or os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return
    with without_stderr():
        from training import devices

        devices.start()


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
