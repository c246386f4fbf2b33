"""The `ladle` command: a table of verbs. Each verb imports its own room when it runs, and no other."""

from __future__ import annotations

import codecs
import contextlib
import importlib
import io
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from ladle.clients.cli.verbs import SUMMARIES
from ladle.clients.near_names import hint
from ladle.version import version

if TYPE_CHECKING:
    import argparse

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
READER_LEFT = 128 + signal.SIGPIPE
"""What a shell reports of a program that a closed pipe ends."""


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
    """Run one verb; the exit code: 0 done, 1 failed, 2 wrong usage, 141 the reader of the output has left."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    _print_anything("--json" in arguments)
    try:
        try:
            return _front(arguments)
        finally:  # also when argparse ends the process; at exit, Python would only print the error
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError as error:
        if not _reader_has_left():
            return _failed(arguments, error)
        return READER_LEFT
    except OSError as error:  # most often of an output that takes no more
        return _failed(arguments, error)


def _front(arguments: list[str]) -> int:
    if not arguments:
        print(usage(), file=sys.stderr, end="")
        return MISUSED
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        if not rest or rest[0].startswith("-"):
            print(usage(), end="")
            return DONE
        name, rest = rest[0], ["--help"]
    if name in ("-V", "--version"):
        print(f"ladle {version()}")
        return DONE
    if name in VERBS:
        return _run(name, VERBS[name], rest)
    if name.startswith("-"):
        print(f"ladle: got {name} first; expected a verb, and its options after it; see ladle --help", file=sys.stderr)
    else:
        print(f"ladle: unknown verb {name!r}; {hint(name, VERBS, '`ladle --help` lists them')}", file=sys.stderr)
    return MISUSED


def _run(name: str, verb: Verb, rest: list[str]) -> int:
    try:
        return verb.run(rest)
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


def _failed(arguments: list[str], error: OSError) -> int:
    """Print which file or output refused, and why; the exit code."""
    place = error.filename
    try:
        sys.stdout.flush()
    except OSError:  # it takes no more, and at exit Python would try again
        place = "the output"
        _drop(sys.stdout)
    words = f"{place}: {error.strerror or error}" if place else error.strerror or error
    with contextlib.suppress(OSError):
        print(f"{' '.join(['ladle', *arguments[:1]])}: {words}", file=sys.stderr)
    return FAILED


def _reader_has_left() -> bool:
    """Whether stdout or stderr is a pipe without a reader, as `head` leaves it; the rest for it is dropped."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        with contextlib.suppress(OSError, ValueError):  # in a test, a stream may have no file descriptor
            poll.register(stream.fileno(), 0)
        if poll.poll(0):
            left = True
            _drop(stream)
    return left


def _drop(stream: IO[str]) -> None:
    """Send what is still written to a stream nowhere."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _print_anything(as_json: bool) -> None:
    """Let stdout and stderr replace characters that their encoding lacks; JSON escapes them."""
    codecs.register_error("json", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="json" if as_json and stream is sys.stdout else "replace")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _open_closed_streams() -> None:
    """Open stdin, stdout and stderr where the shell closed them (`>&-`): a file would get their descriptor."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
