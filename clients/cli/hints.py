"""Better errors for two mistakes: the model is not served, or it does not have the verb."""

from __future__ import annotations

from ladle.clients.errors import InvalidArgument, LadleError, NotFound, Unimplemented
from ladle.clients.library import tasks
from ladle.clients.library.client import Client
from ladle.clients.near_names import near_names

SHOWN = 8
"""Names that an error lists."""
TIMEOUT_S = 2.0


def sentence(client: Client, verb: str, name: str | None, error: LadleError) -> str:
    """The error as a sentence, with a hint if `verb` or the model `name` is wrong."""
    try:
        if name and isinstance(error, NotFound):
            return _not_served(client, name) or str(error)
        if name and verb in tasks.CLI_VERBS and isinstance(error, InvalidArgument):
            return _not_answered(client, verb, name) or str(error)
    except LadleError:  # no hint can be had; the first error is what matters
        pass
    return str(error)


def _not_served(client: Client, name: str) -> str | None:
    """The names that are served; None if this one is, or if the server cannot list its models."""
    try:
        served = sorted(client.models(timeout_s=TIMEOUT_S))
    except Unimplemented:
        return None
    if name in served:
        return None  # the version is not served, but the model is
    near = near_names(name, served)
    if near:
        return f"{name} is not served; did you mean {' or '.join(near)}?"
    if not served:
        return f"{name} is not served, and neither is any other model; train one with `ladle train {name}`"
    more = f" and {len(served) - SHOWN} more: `ladle status`" if len(served) > SHOWN else ""
    return f"{name} is not served; the server has {', '.join(served[:SHOWN])}{more}"


def _not_answered(client: Client, verb: str, name: str) -> str | None:
    """The verbs that the model has; None if this is one of them."""
    answered = tasks.of_metadata(client.metadata(name, timeout_s=TIMEOUT_S)).cli_verbs
    if verb in answered:
        return None
    if not answered:
        return f"{name} does not answer `ladle {verb}`; use `ladle predict` with the inputs in `ladle metadata {name}`"
    return f"{name} does not answer `ladle {verb}`; it answers {', '.join(f'`ladle {each}`' for each in answered)}"
