"""Command line of the client: `python -m ladle.clients VERB`, or `ladle VERB`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ladle.clients.cli import hints
from ladle.clients.cli.parser import build_parser
from ladle.clients.drawing.terminal import paint, plain
from ladle.clients.errors import InvalidArgument, LadleError
from ladle.clients.library.client import Client
from ladle.clients.transport import address

DONE, FAILED, MISUSED = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0 done, 1 failed, 2 misused."""
    given = build_parser().parse_args(argv)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # what went wrong is said by us
    try:
        # `bench` may ask over both; it resolves the two addresses itself.
        both = given.protocol == "both"
        given.address = resolve(given.address, "grpc" if both else given.protocol)
        client = Client(given.address, given.timeout, **access(given))
    except (InvalidArgument, ValueError) as error:
        print(f"ladle: {error}", file=sys.stderr)
        return MISUSED
    module, _, function = given.run.partition(":")
    run = getattr(importlib.import_module(module), function)
    with client:
        try:
            run(client, given)
        except BrokenPipeError:
            raise
        except LadleError as error:
            said = hints.sentence(client, given.verb, getattr(given, "name", None), error)
        except (OSError, ValueError) as error:
            said = _sentence(error)
        else:
            return DONE
    print(f"{paint('error:', 'red', sys.stderr)} {plain(said)}", file=sys.stderr)
    return FAILED


def access(given: argparse.Namespace) -> dict[str, Any]:
    """The options for TLS and the key, as the clients take them."""
    return {
        "ca": given.ca,
        "certificate": given.certificate,
        "private_key": given.private_key,
        "api_key": given.key or os.environ.get("LADLE_API_KEY") or None,
    }


def resolve(text: str, protocol: str | None) -> str:
    """The address with its scheme. The two default ports stand for one another when the protocol is the other one.

    InvalidArgument: the address names another protocol, and its port says nothing of the wanted one.
    """
    if "://" not in text:
        text = f"{'http' if protocol == 'rest' else 'grpc'}://{text}"
    parsed = address.parse(text)
    if protocol is None or (protocol == "rest") == parsed.is_rest:
        return str(parsed)
    wanted = ("http" if protocol == "rest" else "grpc") + ("s" if parsed.is_secure else "")
    there = f":{address.PORTS[parsed.scheme]}"
    if parsed.path or not all(host.endswith(there) for host in parsed.hosts):
        raise InvalidArgument(f"--protocol {protocol} does not fit {text}; name the server's {protocol} port")
    hosts = tuple(host.removesuffix(there) + f":{address.PORTS[wanted]}" for host in parsed.hosts)
    return str(address.parse(str(replace(parsed, scheme=wanted, hosts=hosts))))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
