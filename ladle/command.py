"""The `ladle` command: a table of verbs. Each verb imports its own room when it runs, and no other."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ladle.clients.cli.verbs import SUMMARIES
from ladle.clients.near_names import hint
from ladle.version import version

if TYPE_CHECKING:
    import argparse

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    summary  a line of `ladle --help`
    module   has `main(arguments) -> int` and `build_parser()`
    extra    the extra that installs the packages it needs
    command  the command of the module's own parser that this verb is
    """

    summary: str
    module: str
    extra: str = ""
    command: str = ""

    def run(self, arguments: Sequence[str]) -> int:
        """Run the verb; the exit code."""
        first = [self.command] if self.command else []
        return int(importlib.import_module(self.module).main([*first, *arguments]) or DONE)

    def parser(self) -> argparse.ArgumentParser:
        """The verb's own parser, for completion and reference. ModuleNotFoundError: a package is not installed."""
        from ladle.clients.cli.completion import of_verb

        whole: argparse.ArgumentParser = importlib.import_module(self.module).build_parser()
        return of_verb(whole, self.command) if self.command else whole


_TRAIN, _ASK = "ladle.training.__main__", "ladle.clients.cli.__main__"

GROUPS: dict[str, dict[str, Verb]] = {
    "train": {
        "networks": Verb("list the networks that can be trained", _TRAIN, "train", "list"),
        "data": Verb("list data sets, fetch them, write them as files", "ladle.data_command", "train"),
        "train": Verb("train networks and export them", _TRAIN, "train", "train"),
        "evaluate": Verb("measure a trained network on its test set", _TRAIN, "train", "evaluate"),
        "export": Verb("export the newest checkpoint of a run", _TRAIN, "train", "export"),
        "convert": Verb("add a verified ONNX graph to any SavedModel", "ladle.training.convert", "train"),
        "optimize": Verb("write a faster version, if it is as good", "ladle.training.optimize.command", "train"),
    },
    "serve": {
        "serve": Verb("serve a model repository over gRPC and REST", "ladle.serve_command", "serve"),
        "config": Verb("write models.config for TensorFlow Serving", "ladle.serving.config_writer.command"),
        "gateway": Verb("serve the web page and its API", "ladle.clients.web.__main__", "web"),
    },
    "ask": {
        name: Verb(summary, _ASK, "", name) for name, summary in SUMMARIES.items() if name not in ("bench", "replay")
    },
    "look": {
        "demo": Verb("show the page, train seven networks, ask each one", "ladle.clients.cli.demo.__main__", "train"),
        "report": Verb("show curves, mistakes and the card of a model", "ladle.clients.cli.report"),
        "bench": Verb(SUMMARIES["bench"], _ASK, "", "bench"),
        "replay": Verb(SUMMARIES["replay"], _ASK, "", "replay"),
        "doctor": Verb("check this machine and say how to repair it", "ladle.doctor_command"),
        "completion": Verb("print completion for bash, zsh, fish or tcsh", "ladle.completion_command"),
    },
}
VERBS = {name: verb for group in GROUPS.values() for name, verb in group.items()}

EXAMPLES = """examples:
  ladle demo                                  try everything once, on real data
  ladle train lenet5 --preset quick           train and export one network
  ladle serve                                 serve ./model_repository on ports 8500 (gRPC) and 8501 (REST)
  ladle classify lenet5 shoe.png              ask the server
  ladle status --address grpc://gpu-box:8500  ask another server; $LADLE_ADDRESS sets the address for all verbs
"""


def usage() -> str:
    """The help of `ladle` itself."""
    lines = ["usage: ladle VERB ...", "", "Train networks, serve them, ask them.", ""]
    for group, verbs in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:<12} {verb.summary}" for name, verb in verbs.items()), ""]
    more = "`ladle VERB --help` shows the options of a verb. Exit codes: 0 done, 1 failed, 2 wrong usage."
    return "\n".join([*lines, more, "", EXAMPLES])


def parsers() -> dict[str, tuple[str, argparse.ArgumentParser | None]]:
    """The summary and the parser of every verb; no parser where its packages are not installed."""
    found: dict[str, tuple[str, argparse.ArgumentParser | None]] = {}
    for name, verb in VERBS.items():
        try:
            found[name] = verb.summary, verb.parser()
        except ModuleNotFoundError:
            found[name] = verb.summary, None
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0 done, 1 failed, 2 wrong usage."""
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
        print(f"ladle: unknown verb {name!r}; {hint(name, VERBS, '`ladle --help` lists them')}", file=sys.stderr)
        return MISUSED
    return _run(name, VERBS[name], rest)


def _run(name: str, verb: Verb, rest: list[str]) -> int:
    try:
        result = verb.run(rest)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        # A module of ours that is missing is our own mistake, and deserves its traceback.
        if not verb.extra or not missing or missing == "ladle":
            raise
        print(
            f"ladle {name}: {missing} is not installed; install it with: pip install 'ladle[{verb.extra}]'",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has left. Python would flush stdout again at exit, and fail again.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return result
