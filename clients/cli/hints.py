"""A better error for one mistake: the model does not have the verb."""

from __future__ import annotations

from ladle.clients.errors import InvalidArgument, LadleError
from ladle.clients.library import tasks
from ladle.clients.library.client import Client

TIMEOUT_S = 2.0


def sentence(client: Client, verb: str, name: str | None, error: LadleError) -> str:
    """The error as a sentence, with a hint if the model `name` does not have the verb."""
    if name and verb in tasks.CLI_VERBS and isinstance(error, InvalidArgument):
        try:
            return _not_answered(client, verb, name) or str(error)
        except LadleError:  # no hint can be had; the first error is what matters
            pass
    return str(error)


def _not_answered(client: Client, verb: str, name: str) -> str | None:
    """The verbs that the model has; None if this is one of them."""
    answered = tasks.of_metadata(client.metadata(name, timeout_s=TIMEOUT_S)).cli_verbs
    if verb in answered:
        return None
    if not answered:
        return f"{name} does not answer `ladle {verb}`; use `ladle predict` with the inputs in `ladle metadata {name}`"
    return f"{name} does not answer `ladle {verb}`; it answers {', '.join(f'`ladle {each}`' for each in answered)}"
