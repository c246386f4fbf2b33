"""The parser of the training commands: their options, and those of the networks that a command line names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ladle.training.arguments import Parser
from ladle.training.loop.config import NO_PRESET

EXAMPLES = {
    "list": """examples:
  ladle networks
  ladle networks lenet5 vae
  ladle networks --json""",
    "train": """Networks accept the options that apply to them; `ladle train NAME --help` shows those of one network.

examples:
  ladle train lenet5 --preset quick
  ladle train lenet5 vae --epochs 3 --learning-rate 2e-3
  ladle train --all --preset quick     # after an interruption, the same command continues
  ladle train resnet18 --data photos/ --height 64 --width 64 --name animals
  ladle train mlp --data houses.csv --target price
  ladle train resnet18 --initial-weights resnet18.keras""",
    "evaluate": """examples:
  ladle evaluate lenet5
  ladle evaluate lenet5 --split validation --json""",
    "export": """examples:
  ladle export lenet5                         # the best epoch of its newest run, finished or not
  ladle export lenet5 --keras lenet5.keras    # for Keras, and for ladle train --initial-weights
  ladle export lenet5 --weights lenet5.weights.h5
  ladle export lenet5 --to s3://bucket/models # where ladle serve s3://bucket/models finds it""",
}
PROGRAMS = {name: f"ladle {name}" for name in ("train", "evaluate", "export")} | {"list": "ladle networks"}
"""What users type for each command."""
KERAS_FILES = {"keras": ".keras", "h5": ".h5", "weights": ".weights.h5"}
"""The options of `export` that write Keras files, and the endings of those."""
Run = Callable[[argparse.Namespace], int]


def parser(chosen: Sequence[Any], verbs: Mapping[str, Run]) -> argparse.ArgumentParser:
    """The parser of all commands.

    chosen  networks whose options `train` accepts
    verbs   the function that each command runs

    The parsed arguments have `run`, the command's function, and `parser`, its own parser. Those of `train` also have
    `options`, the names of the networks' options, and `actions`, argparse's actions of the command.
    """
    whole = Parser(
        prog="python -m ladle.training",
        description="Train networks and export them to a model repository.",
        epilog="`COMMAND --help` shows its options and examples.",
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    listed = _command(commands, "list", "list the networks and their measured metrics", verbs)
    listed.add_argument("names", nargs="*", metavar="NAME", help="networks to list (default: all)")
    listed.add_argument("--json", action="store_true", help="print JSON, with every option and its default")
    listed.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="model repository; its versions' metrics replace those that come with Ladle (default: %(default)s)",
    )

    train = _command(commands, "train", "train networks and export each one", verbs)
    train.add_argument("names", nargs="*", metavar="NAME", help="names of networks; `ladle networks` lists them")
    train.add_argument("--all", action="store_true", help="train all networks")
    preset = train.add_argument(
        "--preset",
        metavar="NAME",
        help=f"quick: minutes on two cores; full: the published recipe; {NO_PRESET}: the defaults of the options "
        f"(default: quick; with --config: {NO_PRESET})",
    )
    # For completion. As argparse's choices, they would be refused without the name of the network that lacks one.
    preset.values = [  # type: ignore[attr-defined]
        *dict.fromkeys(each for network in chosen for each in network.presets),
        NO_PRESET,
    ]
    train.add_argument("--config", type=Path, metavar="FILE", help="read options from a card.json or a JSON object")
    data = train.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="data set (`ladle data` lists them), or your own files: a folder of pictures, a CSV of names and classes, "
        "a table (.csv, .parquet) with --target",
    )
    data.add_argument("--target", metavar="COLUMN", help="the column of your table to predict")
    data.add_argument(
        "--task",
        metavar="TASK",
        help="classification or regression: what --target holds (default: classes if it holds text or few integers)",
    )
    _data_path(data)
    _synthetic(data)
    data.add_argument(
        "--synthetic-if-missing",
        action="store_true",
        help="use generated data, marked as synthetic, if the real data set is unavailable",
    )
    start = train.add_argument_group("start")
    start.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue an interrupted run with the same network, data and options (default: on)",
    )
    start.add_argument(
        "--initial-weights",
        type=Path,
        metavar="PATH",
        help="start from these weights: a .keras, .h5 or .weights.h5 file, a version of the repository, or a run",
    )
    start.add_argument(
        "--base-weights",
        type=Path,
        metavar="FILE",
        help="weights of the pre-trained base, .h5 or .pth, instead of downloading them",
    )
    computation = train.add_argument_group("computation")
    computation.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="networks to train at once, each with its share of the cores; 1: one after another, in this process "
        "(default: one for each core, if memory allows 3 GiB for each; 1 on a GPU)",
    )
    computation.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        default="float32",
        help="precision of the computation; weights and the exported model are float32 (default: %(default)s)",
    )
    computation.add_argument(
        "--xla", action=argparse.BooleanOptionalAction, default=False, help="compile with XLA (default: off)"
    )
    output = train.add_argument_group("output")
    output.add_argument(
        "--name",
        metavar="MODEL",
        help="name of the model in the repository (default: the network's; with your own files, NETWORK_FILES)",
    )
    _places(output)
    _runs(output)
    output.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="draw pictures of the run (default: on)"
    )
    options: set[str] = set()
    if chosen:
        from ladle.training.loop import config

        named = ", ".join(network.name for network in chosen) if len(chosen) < 4 else "the networks"
        config.add_options(train, chosen, skip=("data",), title=f"options of {named}")
        options = {name for network in chosen for name in config.types(network.config)} - {"data"}
    train.set_defaults(options=options, actions=train._actions)

    evaluate = _command(commands, "evaluate", "measure the newest exported version of a network", verbs)
    evaluate.add_argument("name", metavar="NAME", help="name of the network")
    evaluate.add_argument(
        "--split", choices=("test", "validation"), default="test", help="examples to measure on (default: %(default)s)"
    )
    _data_path(evaluate)
    _places(evaluate)
    _synthetic(evaluate)

    export = _command(commands, "export", "export the checkpoint of a run, finished or not", verbs)
    export.add_argument("name", metavar="NAME", help="name of the network")
    export.add_argument(
        "--run", dest="run_folder", type=Path, metavar="DIR", help="folder of the run (default: the newest)"
    )
    _runs(export)
    _data_path(export)
    _places(export)
    export.add_argument(
        "--to",
        metavar="URL",
        help="upload the newest version in the repository to s3://, gs:// or az://BUCKET/FOLDER, as the next version "
        "there; without a version, the run is exported first",
    )
    files = export.add_argument_group("Keras files, written instead of a version")
    files.add_argument("--keras", type=Path, metavar="FILE", help="write the whole model as FILE, NAME.keras")
    files.add_argument("--h5", type=Path, metavar="FILE", help="write the whole model as FILE, NAME.h5")
    files.add_argument("--weights", type=Path, metavar="FILE", help="write the weights alone as FILE, NAME.weights.h5")
    return whole


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected an integer of 1 or more")
    return int(text)


def _command(commands: Any, name: str, what: str, verbs: Mapping[str, Run]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        prog=PROGRAMS.get(name),
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=EXAMPLES[name],
    )
    parser.set_defaults(run=verbs[name], parser=parser)
    return parser


def _data_path(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--data-path", type=Path, metavar="PATH", help="your own files, in the layout of the data set")
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out your pictures or rows that cannot be read, instead of refusing them",
    )


def _places(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="model repository (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _runs(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs (default: %(default)s)"
    )


def _synthetic(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--synthetic", action="store_true", help="use generated data, marked as synthetic, instead of real data"
    )
