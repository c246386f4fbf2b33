"""The front door: the `ladle` command and `ladle.Client`. Each verb loads its own room and no other."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
REPOSITORY = "model_repository"
CONFIG = "ladle.serving.config_writer.command"


def _server_flags(arguments: list[str]) -> list[str]:
    """`--rest-api-port 8501` -> `--rest_api_port=8501`, with Ladle's defaults for what is not said."""
    flags: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            flags.append(name.replace("-", "_").replace("__", "--", 1) + equals + value)
        elif flags and "=" not in flags[-1]:
            flags[-1] += f"={argument}"
        else:
            flags.append(argument)
    given = {flag.partition("=")[0] for flag in flags}
    if given & {"--help", "--helpfull", "--version", "-h"}:
        return flags
    if not given & {"--model_base_path", "--model_config_file", "--repository"}:
        flags.append(f"--repository={Path(REPOSITORY).resolve()}")
    return flags + [default for default in ("--port=8500", "--rest_api_port=8501") if default[:-5] not in given]


def _room(module: str, *first: str) -> Callable[[list[str]], int]:
    """A verb that is `main([*first, *arguments])` of a module of a room."""
    return lambda arguments: int(importlib.import_module(module).main([*first, *arguments]) or DONE)


def _serve(arguments: list[str]) -> int:
    """Run the model server. A repository that is only the default is made: models may come later."""
    from ladle.serving.command import main
    from ladle.serving.runtime.process_exit import exit_now

    flags = _server_flags(arguments)
    default = Path(REPOSITORY).resolve()
    if f"--repository={default}" in flags and not default.exists():
        default.mkdir()
        print(f"made {default}; `ladle train lenet5 --preset quick` puts a model there", file=sys.stderr)
    status = main(flags)
    sys.stdout.flush()
    exit_now(FAILED if status else DONE)
    return DONE


def _data(arguments: list[str]) -> int:
    """`ladle data`, `ladle data get NAME` and `ladle data write NAME DIR`."""
    from ladle.training.data import commands

    parser = argparse.ArgumentParser(
        prog="ladle data",
        description="List the data sets: what each is, where it would come from now, whether it is here.\n"
        "Or fetch one, or write its pictures as files, in the folders that your own pictures would have.",
        epilog="examples:\n  ladle data\n  ladle data --json\n  ladle data get fashion_mnist\n"
        "  ladle data write brain_slices slices",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    wanted = {"list": (), "get": ("NAME",), "write": ("NAME", "DIR")}
    parser.add_argument("verb", nargs="?", choices=list(wanted), default="list", help="default: %(default)s")
    parser.add_argument("name", nargs="?", help="data set to get or write")
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="folder to write, which is not there yet")
    parser.add_argument("--source", help="debian, pypi, npm or original (default: the first that has it)")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    given = parser.parse_args(arguments)
    if (given.name is not None) + (given.folder is not None) != len(wanted[given.verb]):
        parser.error(f"`{given.verb}` takes {' and '.join(wanted[given.verb]) or 'no name'}")
    if given.verb == "write":
        if given.json:
            parser.error("--json is of `list` and `get`")
        return commands.write(given.name, given.folder, source=given.source)
    if given.verb == "get":
        return commands.get(given.name, source=given.source, json=given.json)
    return commands.list_datasets(json=given.json)


def _doctor(arguments: list[str]) -> int:
    from ladle.clients.cli import doctor

    return doctor.main(arguments, data=_data_at_hand, compare=_compare_engines)


def _compare_engines(version: Path) -> str:
    """Both engines on the inputs that a version came with; how far they are apart.

    ValueError: too far, or they cannot be compared; ModuleNotFoundError: a package is not here.
    """
    from ladle.serving.servables.engines.compare import compare_engines
    from ladle.training.onnx.parity import compare

    return compare_engines(version, compare)


def _completion(arguments: list[str]) -> int:
    from ladle.clients.cli import completion

    return completion.main(arguments, _parsers)


def _parsers() -> dict[str, tuple[str, argparse.ArgumentParser | None]]:
    """The summary and the options of every verb; no options where its packages are not here."""
    from ladle.clients.cli import completion

    found: dict[str, tuple[str, argparse.ArgumentParser | None]] = {}
    for name, verb in VERBS.items():
        if name == "serve":
            parser: argparse.ArgumentParser | None = _server_parser()
        else:
            parser = completion.captured(partial(verb.run, []))
        inner = {"networks": "list"}.get(name, name)
        found[name] = verb.summary, parser and completion.of_verb(parser, inner)
    return found


def _server_parser() -> argparse.ArgumentParser:
    """The server's flags in Ladle's spelling."""
    from ladle.serving.flags import FLAGS

    parser = argparse.ArgumentParser()
    for flag in FLAGS:
        parser.add_argument(f"--{flag.name.replace('_', '-')}", help=flag.help.replace("%", "%%") or None)
    return parser


def _data_at_hand() -> dict[str, bool]:
    """Each data set, and whether it is on this machine."""
    from ladle.training import data

    return {name: data.describe(name).present for name in data.names()}


@dataclass(frozen=True)
class Verb:
    """What a verb does, and the extra that brings the packages it needs."""

    summary: str
    run: Callable[[list[str]], int]
    extra: str = ""


def _client(verb: str, summary: str) -> Verb:
    return Verb(summary, _room("ladle.clients.cli.__main__", verb))


GROUPS: dict[str, dict[str, Verb]] = {
    "train": {
        "networks": Verb("list the networks that can be trained", _room("ladle.training.__main__", "list"), "train"),
        "data": Verb("list data sets and fetch them", _data, "train"),
        "train": Verb("train networks and export them", _room("ladle.training.__main__", "train"), "train"),
        "evaluate": Verb(
            "measure a trained network on its test set", _room("ladle.training.__main__", "evaluate"), "train"
        ),
        "export": Verb("export what a run has learned so far", _room("ladle.training.__main__", "export"), "train"),
        "convert": Verb("add a verified ONNX graph to any SavedModel", _room("ladle.training.convert"), "train"),
    },
    "serve": {
        "serve": Verb("serve a model repository over gRPC and REST", _serve, "serve"),
        "config": Verb("write models.config, as TensorFlow Serving reads it", _room(CONFIG)),
        "gateway": Verb("serve the web page and its API", _room("ladle.clients.web.__main__"), "web"),
    },
    "ask": {
        "status": _client("status", "which models a server has, in which version and state"),
        "metadata": _client("metadata", "the signatures of a model"),
        "predict": _client("predict", "any signature, asked with numbers, text or files"),
        "classify": _client("classify", "what an image shows"),
        "sentiment": _client("sentiment", "whether a text is positive or negative"),
        "generate": _client("generate", "draw new images from a seed"),
        "segment": _client("segment", "which class each pixel of an image belongs to"),
        "reconstruct": _client("reconstruct", "an image as an auto-encoder sees it"),
        "interpolate": _client("interpolate", "the way from one image to another through codes"),
        "encode": _client("encode", "the code that an auto-encoder gives an image"),
        "decode": _client("decode", "the image of an auto-encoder's code"),
        "regress": _client("regress", "a number for each row of features"),
        "minimise": _client("minimise", "the descent from a start to a minimum of a function"),
    },
    "look": {
        "demo": Verb(
            "train six networks, ask each of them, show the page", _room("ladle.clients.cli.demo.__main__"), "train"
        ),
        "report": Verb("curves, confusion matrix, mistakes and card of a model", _room("ladle.clients.cli.report")),
        "bench": _client("bench", "how fast a running server answers"),
        "doctor": Verb("check this machine and say how to mend it", _doctor),
        "completion": Verb("completion for bash, zsh and tcsh", _completion),
    },
}
VERBS = {name: verb for group in GROUPS.values() for name, verb in group.items()}

EXAMPLES = """examples:
  ladle demo                                  everything once, on real data
  ladle train lenet5 --preset quick           train and export one network
  ladle serve                                 serve ./model_repository at ports 8500 (gRPC) and 8501 (REST)
  ladle classify lenet5 shoe.png              ask the server
  ladle status --address grpc://gpu-box:8500  ask another one; $LADLE_ADDRESS says it once for all
"""


def usage() -> str:
    """The help of `ladle` itself."""
    lines = ["usage: ladle VERB ...", "", "Train networks, serve them, ask them.", ""]
    for group, verbs in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:<12} {verb.summary}" for name, verb in verbs.items()), ""]
    return "\n".join([*lines, "`ladle VERB --help` says more. Exit codes: 0 done, 1 failed, 2 misused.", "", EXAMPLES])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0 done, 1 failed, 2 misused."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(usage(), file=sys.stderr, end="")
        return MISUSED
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        print(usage(), end="")
        return DONE
    if name in ("-V", "--version"):
        print(f"ladle {version()}")
        return DONE
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "`ladle --help` lists the verbs"
        print(f"ladle: no verb {name!r}; {hint}", file=sys.stderr)
        return MISUSED
    return _run(name, VERBS[name], rest)


def _run(name: str, verb: Verb, rest: list[str]) -> int:
    try:
        result = verb.run(rest)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not verb.extra or not missing or missing == "ladle":
            raise
        print(
            f"ladle {name} needs {missing}, which is not installed: pip install 'ladle[{verb.extra}]'", file=sys.stderr
        )
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Nothing more may be written at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return result


def version() -> str:
    """The installed version of Ladle, such as `0.1.0`."""
    from importlib import metadata

    try:
        return metadata.version("ladle")
    except metadata.PackageNotFoundError:
        return "(not installed)"
