"""The verbs that ask a server: `ladle VERB`, or `python -m ladle.clients VERB`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from ladle.clients.argument_types import Parser
from ladle.clients.cli import completion, hints
from ladle.clients.cli.options import access, resolve, with_model_first
from ladle.clients.cli.parser import build_parser
from ladle.clients.drawing.terminal import print_error
from ladle.clients.errors import InvalidArgument, LadleError
from ladle.clients.library.client import Client

DONE, FAILED, MISUSED = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0 done, 1 failed, 2 misused."""
    parser = build_parser()
    given, unknown = parser.parse_known_args(with_model_first(sys.argv[1:] if argv is None else argv))
    if unknown:  # reported by the verb's own parser, which knows its options
        verb = completion.of_verb(parser, given.verb)
        assert isinstance(verb, Parser)
        verb.refuse(unknown)
    command = f"ladle {given.verb}"
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC would log what our own error says
    try:
        # `bench` may measure both protocols; it resolves their addresses itself.
        both = given.protocol == "both"
        given.address = resolve(given.address, "grpc" if both else given.protocol)
        client = Client(given.address, given.timeout, **access(given))
    except (InvalidArgument, ValueError) as error:
        print_error(command, str(error))
        return MISUSED
    # By name, so that `--help` imports neither NumPy nor Pillow.
    module, _, function = given.run.partition(":")
    run = getattr(importlib.import_module(module), function)
    with client:
        try:
            run(client, given)
        except BrokenPipeError:  # the reader of our output has left: `ladle` ends quietly
            raise
        except LadleError as error:
            print_error(command, hints.sentence(client, given.verb, getattr(given, "name", None), error))
        except (OSError, ValueError) as error:
            print_error(command, error)
        else:
            return DONE
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
