"""`ladle serve`: the model server with Ladle's defaults, a folder as argument, and flags with dashes or underscores.

`python -m ladle.serving` is the same server with TensorFlow Serving's command line and defaults. `ladle serve --on ray`
has options of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ladle.clients.near_names import hint

REPOSITORY = "model_repository"
MODELS = {"--model_base_path", "--model_config_file", "--repository"}
"""Flags that name models; without any of them, ./model_repository is served."""
DEFAULTS = ("--port=8500", "--rest_api_port=8501", "--enable_metrics=true")
HELP = """usage: ladle serve [FOLDER] [flags]

Serve the models of FOLDER (default: ./model_repository), with gRPC on port 8500, REST on port 8501 and metrics.
Flags may have dashes: --rest-api-port 8502. `--on ray` serves on Ray Serve. It takes the flags of the server below,
whose own defaults are those of TensorFlow Serving.

examples:
  ladle serve
  ladle serve models --rest-api-port 8502
  ladle serve s3://bucket/models
"""
ABOUT = {"--help", "--helpfull", "--version", "-h"}


def main(arguments: Sequence[str]) -> int:
    """Serve until stopped. Exit codes: 1 the server failed, 2 misused; a clean end leaves the process with 0."""
    if any(argument in ("--on", "--on=ray") for argument in arguments):
        from ladle.serving.ray_serve.command import main as serve_on_ray

        return serve_on_ray(arguments)
    try:
        flags = server_flags(arguments)
    except ValueError as error:
        print(f"ladle serve: {error}", file=sys.stderr)
        return 2
    from ladle.serving.command import main as serve
    from ladle.serving.flags import FlagError, parse
    from ladle.serving.runtime.process_exit import exit_now

    try:
        if not {*flags} & ABOUT:
            parse(flags, report=False)  # the server would print its usage, in which the error is lost
    except FlagError as error:
        print(f"ladle serve: {error}; see ladle serve --help", file=sys.stderr)
        return 2

    if {*flags} & {"--help", "-h"}:
        print(HELP)
    # The default folder may not exist yet: the server waits for the first model. A folder that was named must exist.
    default = Path(REPOSITORY).resolve()
    if f"--repository={default}" in flags and not default.exists():
        default.mkdir()
        print(f"made {default}; `ladle train lenet5 --preset quick` puts a model there", file=sys.stderr)
    status = serve(flags)
    sys.stdout.flush()
    exit_now(1 if status else 0)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The server's flags in Ladle's spelling, for shell completion."""
    from ladle.serving.flag_table import FLAGS

    parser = argparse.ArgumentParser(prog="ladle serve")
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="model repository to serve; s3://, gs://, az://, https:// too",
    )
    for flag in FLAGS:
        parser.add_argument(_option(flag.name), help=flag.help.replace("%", "%%") or None)
    return parser


def server_flags(arguments: Sequence[str]) -> list[str]:
    """`FOLDER --rest-api-port 8501` -> `--repository=FOLDER --rest_api_port=8501`, and defaults for what is missing.

    ValueError: a flag is unknown, or there are several folders.
    """
    flags: list[str] = []
    folders: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            flags.append(name.replace("-", "_").replace("__", "--", 1) + equals + value)
        elif argument == "-h":
            flags.append(argument)
        elif flags and "=" not in flags[-1]:
            flags[-1] += f"={argument}"
        else:
            folders.append(argument)
    names = {flag.partition("=")[0] for flag in flags}
    if names & ABOUT:
        return flags
    _check(names, folders)
    _check_values(flags)
    flags += [f"--repository={folder if '://' in folder else Path(folder).resolve()}" for folder in folders]
    if not folders and not names & MODELS:
        flags.append(f"--repository={Path(REPOSITORY).resolve()}")
    return flags + [default for default in DEFAULTS if default.partition("=")[0] not in names]


def _check(names: set[str], folders: list[str]) -> None:
    from ladle.serving.flag_table import FLAGS

    known = [flag.name for flag in FLAGS]
    for name in sorted(flag.removeprefix("--") for flag in names):
        if name not in known:
            option, options = _option(name), [_option(flag) for flag in known]
            raise ValueError(f"unknown option {option}; {hint(option, options, 'see ladle serve --help')}")
    if len(folders) > 1 or (folders and names & MODELS):
        raise ValueError(
            f"got {' and '.join(folders)}{' beside ' if names & MODELS else ''}"
            f"{', '.join(sorted(names & MODELS))}; expected one folder, or flags that name models"
        )


def _check_values(flags: Sequence[str]) -> None:
    """ValueError: a flag that is no switch has no value, so that the server would take the next flag for it."""
    from ladle.serving.flag_table import FLAGS

    switches = {f"--{flag.name}" for flag in FLAGS if isinstance(flag.default, bool)}
    for flag in flags:
        if "=" not in flag and flag not in switches:
            raise ValueError(f"{_option(flag.removeprefix('--'))} needs a value; see ladle serve --help")


def _option(flag: str) -> str:
    return f"--{flag.replace('_', '-')}"
