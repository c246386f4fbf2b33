"""What to do instead, when a model is not served or does not answer the verb that it was asked by."""

from __future__ import annotations

import difflib

from ladle.clients.errors import InvalidArgument, LadleError, NotFound, Unimplemented
from ladle.clients.library import tasks
from ladle.clients.library.client import Client

SHOWN = 8
"""Names that a sentence has room for."""
TIMEOUT_S = 2.0


def sentence(client: Client, verb: str, name: str | None, error: LadleError) -> str:
    """The error, or what says more to who asked the model `name` by a verb of the command line."""
    try:
        if name and isinstance(error, NotFound):
            return _not_served(client, name) or str(error)
        if name and verb in tasks.CLI_VERBS and isinstance(error, InvalidArgument):
            return _not_answered(client, verb, name) or str(error)
    except LadleError:  # what went wrong first is what matters
        pass
    return str(error)


def _not_served(client: Client, name: str) -> str | None:
    """The names that are served; None: it is, or nobody lists them."""
    try:
        served = sorted(client.models(timeout_s=TIMEOUT_S))
    except Unimplemented:
        return None
    if name in served:
        return None  # a version of it is not
    near = difflib.get_close_matches(name, served, n=2)
    if near:
        return f"{name} is not served; did you mean {' or '.join(near)}?"
    if not served:
        return f"{name} is not served, nor is anything else; `ladle train {name}` makes it"
    more = f" and {len(served) - SHOWN} more: `ladle status`" if len(served) > SHOWN else ""
    return f"{name} is not served; served are {', '.join(served[:SHOWN])}{more}"


def _not_answered(client: Client, verb: str, name: str) -> str | None:
    """The verbs that it does answer; None: this is one of them."""
    answered = tasks.of_metadata(client.metadata(name, timeout_s=TIMEOUT_S)).cli_verbs
    if verb in answered:
        return None
    if not answered:
        return f"{name} does not answer `ladle {verb}`; ask it with `ladle predict`: `ladle metadata {name}` tells how"
    return f"{name} does not answer `ladle {verb}`; it answers {', '.join(f'`ladle {each}`' for each in answered)}"
