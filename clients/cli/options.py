"""Options that several verbs share, and the forms that their values take."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ladle.clients.argument_types import seconds

DEFAULT_ADDRESS = "grpc://localhost:8500"


def server_options() -> argparse.ArgumentParser:
    """Where the server is, how to enter, and the form of the answer."""
    shared = argparse.ArgumentParser(add_help=False)
    group = shared.add_argument_group("the server and the answer")
    group.add_argument(
        "--address",
        default=os.environ.get("LADLE_ADDRESS", DEFAULT_ADDRESS),
        help="grpc://HOST:PORT (several: grpc://A:8500,B:8500) or http://HOST:PORT, over TLS grpcs:// or https:// "
        "(default: $LADLE_ADDRESS, now %(default)s)",
    )
    group.add_argument("--protocol", choices=["grpc", "rest"], help="default: the one that the address names")
    group.add_argument("--timeout", type=seconds, default=30.0, help="seconds to wait (default: %(default)g)")
    group.add_argument("--ca", type=Path, metavar="PEM", help="CA of the server's certificate (default: the system's)")
    group.add_argument("--certificate", type=Path, metavar="PEM", help="the client's own certificate")
    group.add_argument("--private-key", type=Path, metavar="PEM", help="and its private key")
    group.add_argument("--key", metavar="KEY", help="sent as a bearer token (default: $LADLE_API_KEY)")
    group.add_argument("--json", action="store_true", help="answer in JSON")
    return shared


def version_options() -> argparse.ArgumentParser:
    which = argparse.ArgumentParser(add_help=False)
    one = which.add_mutually_exclusive_group()
    one.add_argument("--version", type=int, help="version of the model (default: the latest)")
    one.add_argument("--label", help="version label, e.g. stable, instead of a version")
    return which


def picture_options() -> argparse.ArgumentParser:
    inline = argparse.ArgumentParser(add_help=False)
    inline.add_argument(
        "--inline",
        action=argparse.BooleanOptionalAction,
        help="show pictures in the terminal: kitty, iTerm2, sixel, else half-blocks in 24-bit colour (default: "
        "where the terminal can)",
    )
    return inline


def row(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, such as 0.5,1.2") from None


def code(text: str) -> Any:
    """Numbers with commas, or the path of an array after @."""
    return Path(text[1:]) if text.startswith("@") else row(text)
