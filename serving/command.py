"""The server's command line: runs a server with its guardian, or a supervisor with workers."""

from __future__ import annotations

import contextlib
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ladle.serving import flags
from ladle.serving.errors import StartError
from ladle.serving.runtime.log import set_up_log

if TYPE_CHECKING:
    from ladle.serving.workers.guardian import Link


def main(arguments: list[str]) -> int:
    """Runs the server with these flags until it is stopped. Exit status 0, or 255 if it cannot start."""
    # Read when NumPy is loaded, which comes later. Requests are prepared in several threads already, and OpenBLAS has
    # one pool of threads, for which their products would wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if any(argument in ("--help", "-h", "help") for argument in arguments):
        return _tell(flags.usage())
    if any(argument == "--version" or argument.startswith("--version=") for argument in arguments):
        return _tell(_version())
    try:
        options = flags.parse(arguments)
        set_up_log(log_format=options.log_format)
        # Neither a supervisor nor a guardian answers requests: they do not import the engines, which take most of the
        # start-up time and memory.
        if options.workers > 1:
            from ladle.serving.workers.supervisor import Supervisor

            Supervisor(options, arguments).run()
        elif options.supervise and hasattr(os, "fork"):
            from ladle.serving.workers.guardian import Guardian

            return Guardian(lambda link: _serve(options, link)).run()
        else:
            return _serve(options)
    except flags.FlagError as error:
        print(error)
        print(flags.usage())
        return 255
    except StartError as error:
        return _cannot_start(error)
    return 0


def _serve(options: SimpleNamespace, link: Link | None = None) -> int:
    from ladle.serving.server import Server, run

    try:
        run(Server(options, link=link))
    except StartError as error:
        return _cannot_start(error)
    return 0


def _tell(text: str) -> int:
    """Prints what was asked for; exit status 0, or 141 if the reader of the output has left, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes nowhere, without an error at the end
        return 141
    return 0


def _cannot_start(error: StartError) -> int:
    print(f"Failed to start server. Error: {error}", flush=True)
    return 255


def _version() -> str:
    from importlib import metadata

    import onnxruntime

    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"Ladle model server: {metadata.version('ladle')}\nONNX Runtime: {onnxruntime.__version__}"
    return f"Ladle model server: not installed as a package\nONNX Runtime: {onnxruntime.__version__}"
