"""The words of the command line: its commands, and the options of the networks that it names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

MISUSED = 2
EXAMPLES = """examples:
  ladle networks
  ladle train lenet5 --preset quick
  ladle train lenet5 vae --epochs 3 --learning-rate 2e-3
  ladle train --all --preset quick     # stopped, the same command goes on
  ladle train wgan_gp --data image_folder --data-path faces/ --height 64 --width 64 --channels 3
  ladle train resnet18 --help          # the options of this network
  ladle evaluate lenet5
  ladle export lenet5                  # the best epoch of its newest run, which may have been stopped"""
PROGRAMS = {name: f"ladle {name}" for name in ("train", "evaluate", "export")} | {"list": "ladle networks"}
"""What users type for a command."""
Run = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, exit code 2."""
        self.exit(MISUSED, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser(chosen: Sequence[Any], verbs: Mapping[str, Run]) -> argparse.ArgumentParser:
    """The parser with the options of the networks `chosen`; `verbs` has what each command runs.

    Beside the options, what it parses has `options`, the names of the networks' own, and `actions`, all of the command.
    """
    whole = _Parser(
        prog="python -m ladle.training",
        description="Train networks and export them to a model repository.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    listed = _command(commands, "list", "list the networks that can be trained, and what was measured of them", verbs)
    listed.add_argument("--json", action="store_true", help="answer in JSON, with every option and its default")
    listed.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="whose versions' figures are shown; of others those that came with Ladle (default: %(default)s)",
    )

    train = _command(commands, "train", "train networks and export each", verbs)
    train.add_argument("names", nargs="*", metavar="NAME", help="networks")
    train.add_argument("--all", action="store_true", help="all networks")
    train.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="networks trained at once, each with its share of the cores; 1: one after another, in this process "
        "(default: one a core as far as memory goes, 3 GiB each; 1 on a GPU)",
    )
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
    train.add_argument(
        "--initial-weights",
        type=Path,
        metavar="PATH",
        help="weights to begin with: a .keras, .h5 or .weights.h5 file, a version of the repository, or a run",
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
        from ladle.training.loop import config

        title = f"options of {', '.join(network.name for network in chosen)}"
        config.add_options(train.add_argument_group(title), chosen, skip=("data",))
        options = {name for network in chosen for name in config.types(network.config)} - {"data"}
    train.set_defaults(options=options, actions=train._actions)

    evaluate = _command(commands, "evaluate", "measure the newest exported version of a network", verbs)
    evaluate.add_argument("name", metavar="NAME", help="network")
    evaluate.add_argument("--split", choices=("test", "validation"), default="test", help="default: %(default)s")
    _shared(evaluate)
    _synthetic(evaluate)

    export = _command(commands, "export", "export the checkpoint of a run", verbs)
    export.add_argument("name", metavar="NAME", help="network")
    export.add_argument("--run", dest="run_folder", type=Path, metavar="DIR", help="run (default: the newest)")
    export.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s")
    _shared(export)
    return whole


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _command(commands: Any, name: str, what: str, verbs: Mapping[str, Run]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        prog=PROGRAMS.get(name),
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=verbs[name])
    return parser


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-path", type=Path, metavar="PATH", help="your own files, in the data set's layout")
    default = Path("model_repository")
    parser.add_argument("--repository", type=Path, default=default, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def _synthetic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--synthetic", action="store_true", help="generated data in place of real ones, named so")
